package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/tenant"
)

// take makes the namespace, adopts it, or puts back what has changed of its metadata.
func (r *tenantReconciler) take(ctx context.Context, t *v1alpha1.Tenant, s seen) (*metav1.PartialObjectMetadata, error) {
	namespace := s.namespace
	if s.claim == tenant.Missing {
		// What is always on a tenant's namespace, and no more: what is created can't be taken off by an apply later.
		made := namespaceMetadata(t.NamespaceName())
		made.Labels, made.Annotations = map[string]string{}, map[string]string{v1alpha1.AnnotationTenantUID: string(t.UID)}
		for _, key := range []string{v1alpha1.LabelTenant, v1alpha1.LabelManaged, v1alpha1.LabelState, v1alpha1.LabelEnforcement} {
			made.Labels[key] = s.desired.Labels[key]
		}
		full := &corev1.Namespace{ObjectMeta: made.ObjectMeta}
		if err := r.Create(ctx, full, client.FieldOwner(FieldManager)); err != nil {
			return nil, fmt.Errorf("creating namespace %s: %w", made.Name, err)
		}
		made.ObjectMeta = full.ObjectMeta
		namespace = made
	}
	if hashOf(namespace) == s.desired.Hash && s.desired.ShownOn(namespace) {
		return namespace, nil
	}
	// A hash stays only if it is right: else a crash before the children are written would leave it standing.
	namespace, err := r.applyNamespace(ctx, namespace, s.desired, hashOf(namespace) == s.desired.Hash)
	if err != nil {
		return nil, err
	}
	if s.claim == tenant.Adoptable {
		r.note(t, "NamespaceAdopted", "Adopt", fmt.Sprintf("namespace %s is this tenant's now, and will be released and not deleted with it", namespace.Name))
	}
	return namespace, nil
}

func hashOf(namespace *metav1.PartialObjectMetadata) string {
	return namespace.Annotations[v1alpha1.AnnotationDesiredHash]
}

// applyNamespace applies the metadata of this very namespace, never of another of its name.
func (r *tenantReconciler) applyNamespace(ctx context.Context, namespace *metav1.PartialObjectMetadata, d tenant.Desired, withHash bool) (*metav1.PartialObjectMetadata, error) {
	want := &unstructured.Unstructured{}
	want.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	want.SetName(namespace.Name)
	want.SetUID(namespace.UID)
	want.SetLabels(d.Labels)
	want.SetAnnotations(d.Annotations)
	if withHash {
		annotations := want.GetAnnotations()
		annotations[v1alpha1.AnnotationDesiredHash] = d.Hash
		want.SetAnnotations(annotations)
	}
	err := r.Apply(ctx, client.ApplyConfigurationFromUnstructured(want), client.FieldOwner(FieldManager), client.ForceOwnership)
	if err != nil {
		return nil, fmt.Errorf("applying namespace %s: %w", namespace.Name, err)
	}
	applied := namespaceMetadata(namespace.Name)
	applied.UID, applied.DeletionTimestamp = want.GetUID(), want.GetDeletionTimestamp()
	applied.Labels, applied.Annotations = want.GetLabels(), want.GetAnnotations()
	return applied, nil
}

// furnish brings everything in the namespace to what the Tenant says and sets Ready. Without a change nothing is read
// or written, but when a look at everything is due.
func (r *tenantReconciler) furnish(ctx context.Context, t *v1alpha1.Tenant, namespace *metav1.PartialObjectMetadata, s seen) error {
	var refused, err error
	if namespace.DeletionTimestamp == nil {
		refused, err = r.fill(ctx, namespace, s)
	}
	var user *userError
	switch {
	case namespace.DeletionTimestamp != nil, apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		recordReady(t, metav1.ConditionFalse, reconciling, v1alpha1.ReasonNamespaceTerminating,
			fmt.Sprintf("namespace %s is being deleted; it is made again when it is gone", namespace.Name))
		return nil
	case errors.As(errors.Join(refused, err), &user):
		recordReady(t, metav1.ConditionFalse, stalled, v1alpha1.ReasonInvalidSpec, errors.Join(refused, err).Error())
	case err == nil:
		recordReady(t, metav1.ConditionTrue, current, v1alpha1.ReasonReady, fmt.Sprintf("namespace %s is as the spec says", namespace.Name))
	}
	return err
}

// fill writes everything in the namespace, and then that it has. Refused is what only the user can help.
func (r *tenantReconciler) fill(ctx context.Context, namespace *metav1.PartialObjectMetadata, s seen) (refused, err error) {
	upToDate := hashOf(namespace) == s.desired.Hash
	if upToDate && !s.verify {
		return nil, nil
	}
	refused, err = r.writeChildren(ctx, namespace.Name, s.desired.Children)
	if refused == nil && err == nil && !upToDate {
		_, err = r.applyNamespace(ctx, namespace, s.desired, true)
	}
	return refused, err
}

// userError is a refusal by the API server of what was built from a field of the Tenant.
type userError struct {
	field string
	cause error
}

func (e *userError) Error() string {
	return fmt.Sprintf("change `%s`, the API server refuses what it says: %v", e.field, e.cause)
}

func (e *userError) Unwrap() error { return e.cause }

// writeChildren makes everything in a namespace what it has to be and deletes what of ours no longer belongs there. One
// that fails does not keep the others from being written. Refused is what trying again does not help.
func (r *tenantReconciler) writeChildren(ctx context.Context, namespace string, children []tenant.Child) (refused, err error) {
	existing, err := r.listChildren(ctx, namespace)
	if err != nil {
		return nil, err
	}
	for _, child := range children {
		key := childKey(child.Object)
		failed := r.writeChild(ctx, existing[key], child.Object)
		delete(existing, key)
		switch terminating := apierrors.HasStatusCause(failed, corev1.NamespaceTerminatingCause); {
		case child.Field != "" && apierrors.IsInvalid(failed):
			refused = errors.Join(refused, &userError{child.Field, failed})
		case child.Field != "" && apierrors.IsForbidden(failed) && !terminating:
			// By an admission policy, or for want of a right, that may be given later.
			err = errors.Join(err, &userError{child.Field, failed})
		default:
			err = errors.Join(err, failed)
		}
	}
	for _, obj := range existing {
		if obj.GetLabels()[v1alpha1.LabelManaged] == "true" && metav1.GetControllerOf(obj) == nil {
			err = errors.Join(err, r.deleteThis(ctx, obj, metav1.DeletePropagationBackground))
		}
	}
	return refused, err
}

// listChildren reads everything in a namespace of the kinds that the operator keeps there, whoever made it.
func (r *tenantReconciler) listChildren(ctx context.Context, namespace string) (map[string]client.Object, error) {
	all := map[string]client.Object{}
	for _, list := range []client.ObjectList{
		&corev1.ServiceAccountList{}, &corev1.ResourceQuotaList{}, &corev1.LimitRangeList{}, &networkingv1.NetworkPolicyList{}, &rbacv1.RoleBindingList{},
	} {
		if err := r.live.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return nil, fmt.Errorf("listing what is in namespace %s: %w", namespace, err)
		}
		err := meta.EachListItem(list, func(obj runtime.Object) error {
			all[childKey(obj.(client.Object))] = obj.(client.Object)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func childKey(obj tenant.Object) string { return kindOf(obj) + " " + obj.GetName() }

func kindOf(obj any) string {
	name := fmt.Sprintf("%T", obj)
	return name[strings.LastIndex(name, ".")+1:]
}

// writeChild makes one object what it has to be. It is compared and replaced and not applied, since an apply would leave
// what others have added: a resource in a quota, say.
func (r *tenantReconciler) writeChild(ctx context.Context, have client.Object, want tenant.Object) error {
	if have != nil && !replaceable(have, want) {
		if err := r.deleteThis(ctx, have, metav1.DeletePropagationBackground); err != nil {
			return err
		}
		have = nil
	}
	if have == nil {
		if err := r.Create(ctx, want, client.FieldOwner(FieldManager)); err != nil {
			return fmt.Errorf("creating %s: %w", childKey(want), err)
		}
		return nil
	}
	changed := have.DeepCopyObject().(client.Object)
	overlay(changed, want)
	if equality.Semantic.DeepEqual(have, changed) {
		return nil
	}
	if err := r.Update(ctx, changed, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("updating %s: %w", childKey(want), err)
	}
	return nil
}

// replaceable says whether an update can make an object what it has to be: some fields never change.
func replaceable(have client.Object, want tenant.Object) bool {
	switch want := want.(type) {
	case *rbacv1.RoleBinding:
		return have.(*rbacv1.RoleBinding).RoleRef == want.RoleRef
	case *corev1.ResourceQuota:
		spec := have.(*corev1.ResourceQuota).Spec
		return len(spec.Scopes) == 0 && spec.ScopeSelector == nil
	}
	return true
}

// overlay puts what an object has to be over what it is, and leaves others' labels and annotations.
func overlay(have client.Object, want tenant.Object) {
	labels := have.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	for key, value := range want.GetLabels() {
		labels[key] = value
	}
	have.SetLabels(labels)
	switch want := want.(type) {
	case *corev1.ServiceAccount:
		have.(*corev1.ServiceAccount).AutomountServiceAccountToken = want.AutomountServiceAccountToken
	case *corev1.ResourceQuota:
		have.(*corev1.ResourceQuota).Spec = want.Spec
	case *corev1.LimitRange:
		have.(*corev1.LimitRange).Spec = want.Spec
	case *networkingv1.NetworkPolicy:
		have.(*networkingv1.NetworkPolicy).Spec = want.Spec
	case *rbacv1.RoleBinding:
		have.(*rbacv1.RoleBinding).Subjects = want.Subjects
	}
}

// deleteThis deletes this very object, never another of its name.
func (r *tenantReconciler) deleteThis(ctx context.Context, obj client.Object, propagation metav1.DeletionPropagation) error {
	err := r.Delete(ctx, obj, client.PropagationPolicy(propagation), client.Preconditions{UID: ptr.To(obj.GetUID())})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("deleting %s %s: %w", kindOf(obj), keyOf(obj), err)
	}
	return nil
}

// release gives a namespace back: what is ours is taken out and off, and what is others' is left. The hash goes first:
// whoever goes on after a crash needs the operator's rights in the namespace again.
func (r *tenantReconciler) release(ctx context.Context, t *v1alpha1.Tenant, namespace *metav1.PartialObjectMetadata, d tenant.Desired) error {
	if err := r.DeleteAllOf(ctx, &batchv1.Job{}, client.InNamespace(namespace.Name), client.MatchingLabels{v1alpha1.LabelTenant: t.Name},
		client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		return fmt.Errorf("deleting the Jobs of tenant %s: %w", t.Name, err)
	}
	if _, err := r.applyNamespace(ctx, namespace, d, false); err != nil {
		return err
	}
	existing, err := r.listChildren(ctx, namespace.Name)
	if err != nil {
		return err
	}
	for _, obj := range existing {
		if obj.GetLabels()[v1alpha1.LabelManaged] == "true" {
			if err := r.deleteThis(ctx, obj, metav1.DeletePropagationBackground); err != nil {
				return err
			}
		}
	}
	// Applying nothing takes off what was applied and nobody else holds; what it was created with is taken off by name.
	released, err := r.applyNamespace(ctx, namespace, tenant.Desired{}, false)
	if err != nil {
		return err
	}
	bare := released.DeepCopy()
	for _, keys := range []map[string]string{bare.Labels, bare.Annotations} {
		for key := range keys {
			if strings.HasPrefix(key, "tenantry.dev/") && key != v1alpha1.AnnotationAdoptBy {
				delete(keys, key)
			}
		}
	}
	if err := r.Patch(ctx, bare, client.MergeFrom(released), client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("releasing namespace %s: %w", namespace.Name, err)
	}
	r.note(t, "NamespaceReleased", "Release", fmt.Sprintf("namespace %s is no longer this tenant's and was left", namespace.Name))
	return nil
}

// reread returns a namespace with its status. Nil means that it is gone.
func (r *tenantReconciler) reread(ctx context.Context, namespace *metav1.PartialObjectMetadata) (*corev1.Namespace, error) {
	current, err := found(ctx, r.live, types.NamespacedName{Name: namespace.Name}, &corev1.Namespace{})
	if current == nil || err != nil || current.UID != namespace.UID {
		return nil, err
	}
	return current, nil
}
