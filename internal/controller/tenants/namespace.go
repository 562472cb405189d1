package tenants

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/tenant"
)

// take makes the namespace, adopts it, or puts back what has changed of its metadata.
func (r *Reconciler) take(ctx context.Context, t *v1alpha1.Tenant, s *seen) error {
	if s.claim == tenant.Missing {
		if err := r.makeNamespace(ctx, t, s); err != nil {
			return err
		}
	}
	upToDate := hashOf(s.namespace) == s.desired.Hash
	if upToDate && s.desired.ShownOn(s.namespace) {
		return nil
	}
	// A hash stays only if it is right: else a crash before the children are written would leave it standing.
	if err := r.applyNamespace(ctx, s, s.desired, upToDate); err != nil {
		return err
	}
	if s.claim == tenant.Adoptable {
		r.Note(t, "NamespaceAdopted", "Adopt",
			fmt.Sprintf("namespace %s is this tenant's now, and will be released and not deleted with it", s.namespace.Name))
	}
	return nil
}

// makeNamespace creates the namespace with what is always on a tenant's, and no more: what is created can't be taken off
// by an apply later.
func (r *Reconciler) makeNamespace(ctx context.Context, t *v1alpha1.Tenant, s *seen) error {
	made := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:        t.NamespaceName(),
		Labels:      map[string]string{},
		Annotations: map[string]string{v1alpha1.AnnotationTenantUID: string(t.UID)},
	}}
	for _, key := range []string{v1alpha1.LabelTenant, v1alpha1.LabelManaged, v1alpha1.LabelState, v1alpha1.LabelEnforcement} {
		made.Labels[key] = s.desired.Labels[key]
	}
	if err := r.Create(ctx, made, client.FieldOwner(kube.FieldManager)); err != nil {
		return fmt.Errorf("creating namespace %s: %w", made.Name, err)
	}
	s.namespace = kube.NamespaceMetadata(made.Name)
	s.namespace.ObjectMeta = made.ObjectMeta
	return nil
}

func hashOf(namespace *metav1.PartialObjectMetadata) string {
	return namespace.Annotations[v1alpha1.AnnotationDesiredHash]
}

// applyNamespace applies metadata to the very namespace that was seen, never to another of its name.
func (r *Reconciler) applyNamespace(ctx context.Context, s *seen, d tenant.Desired, withHash bool) error {
	want := &unstructured.Unstructured{}
	want.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	want.SetName(s.namespace.Name)
	want.SetUID(s.namespace.UID)
	want.SetLabels(d.Labels)
	want.SetAnnotations(d.Annotations)
	if withHash {
		annotations := want.GetAnnotations()
		annotations[v1alpha1.AnnotationDesiredHash] = d.Hash
		want.SetAnnotations(annotations)
	}
	err := r.Apply(ctx, client.ApplyConfigurationFromUnstructured(want), client.FieldOwner(kube.FieldManager), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("applying namespace %s: %w", s.namespace.Name, err)
	}
	applied := kube.NamespaceMetadata(s.namespace.Name)
	applied.UID, applied.DeletionTimestamp = want.GetUID(), want.GetDeletionTimestamp()
	applied.Labels, applied.Annotations = want.GetLabels(), want.GetAnnotations()
	s.namespace = applied
	return nil
}

// furnish brings everything in the namespace to what the Tenant says and sets Ready.
func (r *Reconciler) furnish(ctx context.Context, t *v1alpha1.Tenant, s *seen) error {
	var refused, err error
	if s.namespace.DeletionTimestamp == nil {
		refused, err = r.fill(ctx, s)
	}
	var user *userError
	switch {
	case s.namespace.DeletionTimestamp != nil, apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		recordReady(t, metav1.ConditionFalse, conditions.Reconciling, v1alpha1.ReasonNamespaceTerminating,
			fmt.Sprintf("namespace %s is being deleted; it is made again when it is gone", s.namespace.Name))
		return nil
	case errors.As(errors.Join(refused, err), &user):
		recordReady(t, metav1.ConditionFalse, conditions.Stalled, v1alpha1.ReasonInvalidSpec, errors.Join(refused, err).Error())
	case err == nil:
		recordReady(t, metav1.ConditionTrue, conditions.Current, v1alpha1.ReasonReady,
			fmt.Sprintf("namespace %s is as the spec says", s.namespace.Name))
	}
	return err
}

// fill writes everything in the namespace, and then that it has. Without a change nothing is read or written, but when a
// look at everything is due. Refused is what only the user can help.
func (r *Reconciler) fill(ctx context.Context, s *seen) (refused, err error) {
	upToDate := hashOf(s.namespace) == s.desired.Hash
	if upToDate && !s.verify {
		return nil, nil
	}
	refused, err = r.writeChildren(ctx, s.namespace.Name, s.desired.Children)
	if refused == nil && err == nil && !upToDate {
		err = r.applyNamespace(ctx, s, s.desired, true)
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
func (r *Reconciler) writeChildren(
	ctx context.Context, namespace string, children []tenant.Child,
) (refused, err error) {
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
			err = errors.Join(err, r.DeleteExact(ctx, obj, metav1.DeletePropagationBackground))
		}
	}
	return refused, err
}

// listChildren reads everything in a namespace of the kinds that the operator keeps there, whoever made it.
func (r *Reconciler) listChildren(ctx context.Context, namespace string) (map[string]client.Object, error) {
	all := map[string]client.Object{}
	for _, list := range []client.ObjectList{
		&corev1.ServiceAccountList{}, &corev1.ResourceQuotaList{}, &corev1.LimitRangeList{},
		&networkingv1.NetworkPolicyList{}, &rbacv1.RoleBindingList{},
	} {
		if err := r.Live.List(ctx, list, client.InNamespace(namespace)); err != nil {
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

func childKey(obj tenant.Object) string { return kube.KindOf(obj) + " " + obj.GetName() }

// writeChild makes one object what it has to be. It is compared and replaced and not applied, since an apply would leave
// what others have added: a resource in a quota, say.
func (r *Reconciler) writeChild(ctx context.Context, have client.Object, want tenant.Object) error {
	if have != nil && !replaceable(have, want) {
		if err := r.DeleteExact(ctx, have, metav1.DeletePropagationBackground); err != nil {
			return err
		}
		have = nil
	}
	if have == nil {
		if err := r.Create(ctx, want, client.FieldOwner(kube.FieldManager)); err != nil {
			return fmt.Errorf("creating %s: %w", childKey(want), err)
		}
		return nil
	}
	changed := have.DeepCopyObject().(client.Object)
	overlay(changed, want)
	if equality.Semantic.DeepEqual(have, changed) {
		return nil
	}
	if err := r.Update(ctx, changed, client.FieldOwner(kube.FieldManager)); err != nil {
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
	maps.Copy(labels, want.GetLabels())
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

// release gives a namespace back: what is ours is taken out and off, and what is others' is left. The hash goes first:
// whoever goes on after a crash needs the operator's rights in the namespace again.
func (r *Reconciler) release(ctx context.Context, t *v1alpha1.Tenant, s *seen) error {
	name := s.namespace.Name
	if err := r.DeleteAllOf(ctx, &batchv1.Job{}, client.InNamespace(name), client.MatchingLabels{v1alpha1.LabelTenant: t.Name},
		client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		return fmt.Errorf("deleting the Jobs of tenant %s: %w", t.Name, err)
	}
	if err := r.applyNamespace(ctx, s, s.desired, false); err != nil {
		return err
	}
	existing, err := r.listChildren(ctx, name)
	if err != nil {
		return err
	}
	for _, obj := range existing {
		if obj.GetLabels()[v1alpha1.LabelManaged] == "true" {
			if err := r.DeleteExact(ctx, obj, metav1.DeletePropagationBackground); err != nil {
				return err
			}
		}
	}
	// Applying nothing takes off what was applied and nobody else holds; what it was created with is taken off by name.
	if err := r.applyNamespace(ctx, s, tenant.Desired{}, false); err != nil {
		return err
	}
	bare := s.namespace.DeepCopy()
	for _, keys := range []map[string]string{bare.Labels, bare.Annotations} {
		maps.DeleteFunc(keys, func(key, _ string) bool {
			return strings.HasPrefix(key, "tenantry.dev/") && key != v1alpha1.AnnotationAdoptBy
		})
	}
	if err := r.Patch(ctx, bare, client.MergeFrom(s.namespace), client.FieldOwner(kube.FieldManager)); err != nil {
		return fmt.Errorf("releasing namespace %s: %w", name, err)
	}
	r.Note(t, "NamespaceReleased", "Release", fmt.Sprintf("namespace %s is no longer this tenant's and was left", name))
	return nil
}
