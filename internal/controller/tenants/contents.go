package tenants

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/tenant"
)

// The contents of the namespaces. They are not watched, but listed, compared and written.
// +kubebuilder:rbac:groups="",resources=serviceaccounts;resourcequotas;limitranges,verbs=list;create;update;delete
// +kubebuilder:rbac:groups="",resources=resourcequotas/status,verbs=patch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=list;create;update;delete
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=rolebindings,verbs=list;create;update;delete
// The roles that it binds, by name: a right to bind any role would be a right to everything.
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=clusterroles,verbs=bind,resourceNames=tenantry-tenant-viewer;tenantry-tenant-dispatcher;tenantry-tenant-operator

// writeContents writes everything in the namespace, and then the hash that says so. What fails becomes part of the result.
func (r *Reconciler) writeContents(ctx context.Context, o *tenant.Observed) error {
	o.Contents = r.writeObjects(ctx, o.Namespace.Name, &o.Desired)
	if o.Contents.Refused != nil || o.Contents.Err != nil || len(o.Contents.Taken) > 0 || o.Desired.WrittenTo(o.Namespace) {
		return nil
	}
	applied, err := r.applyMetadata(ctx, o.Namespace, o.Desired, true)
	if err != nil {
		o.Contents.Err = err
		return nil
	}
	o.Namespace = applied
	return nil
}

// writeObjects creates and updates the objects in a namespace, and deletes those of the operator's that are no longer desired.
// If one fails, the others are still written. It leaves alone what is somebody else's.
func (r *Reconciler) writeObjects(ctx context.Context, namespace string, desired *tenant.Desired) (result tenant.ContentsResult) {
	existing, err := r.listObjects(ctx, namespace)
	if err != nil {
		return tenant.ContentsResult{Err: err, Rights: err}
	}
	for _, content := range desired.Contents {
		key := tenant.Key(content.Object)
		if obj, exists := existing[key]; exists && desired.IsTaken(obj) {
			result.Taken = append(result.Taken, key)
			delete(existing, key)
			continue
		}
		err := r.writeObject(ctx, existing[key], content.Object)
		delete(existing, key)
		refusal := kube.RefusalOf(err)
		if content.Field != "" && refusal.IsAboutObject() {
			err = fmt.Errorf("change `%s`, because the API server refuses what it says: %w", content.Field, err)
			result.Refused = errors.Join(result.Refused, err)
			if refusal == kube.RefusalInvalid {
				continue // To try again does not help until the Tenant is changed.
			}
		}
		add(&result, content.Object, err)
	}
	for _, obj := range existing {
		if desired.Owns(obj) {
			add(&result, obj, r.DeleteExact(ctx, obj, metav1.DeletePropagationBackground))
		}
	}
	slices.Sort(result.Taken)
	return result
}

// add adds the error of a write to the result.
func add(result *tenant.ContentsResult, obj tenant.Object, err error) {
	result.Err = errors.Join(result.Err, err)
	if _, isBinding := obj.(*rbacv1.RoleBinding); isBinding {
		result.Rights = errors.Join(result.Rights, err)
	}
}

// listContents remembers which objects were in a namespace before it is adopted.
func (r *Reconciler) listContents(ctx context.Context, o *tenant.Observed) error {
	existing, err := r.listObjects(ctx, o.Namespace.Name)
	if err != nil {
		return err
	}
	objects := make([]tenant.Object, 0, len(existing))
	for _, obj := range existing {
		objects = append(objects, obj)
	}
	o.Desired.RememberObjects(o.Namespace, objects)
	return nil
}

// listObjects reads all objects in a namespace of the kinds that the operator keeps there, whoever created them.
func (r *Reconciler) listObjects(ctx context.Context, namespace string) (map[string]client.Object, error) {
	all := map[string]client.Object{}
	for _, list := range []client.ObjectList{
		&corev1.ServiceAccountList{}, &corev1.ResourceQuotaList{}, &corev1.LimitRangeList{},
		&networkingv1.NetworkPolicyList{}, &rbacv1.RoleBindingList{},
	} {
		if err := r.Live.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return nil, fmt.Errorf("listing the contents of namespace %s: %w", namespace, err)
		}
		err := meta.EachListItem(list, func(obj runtime.Object) error {
			all[tenant.Key(obj.(client.Object))] = obj.(client.Object)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// writeObject creates or updates one object. It compares and updates, and does not apply, because an apply would keep what
// others have added: a resource in a quota, for example.
func (r *Reconciler) writeObject(ctx context.Context, existing client.Object, desired tenant.Object) error {
	if existing != nil && !canUpdate(existing, desired) {
		if err := r.DeleteExact(ctx, existing, metav1.DeletePropagationBackground); err != nil {
			return err
		}
		existing = nil
	}
	if existing == nil {
		if err := r.Create(ctx, desired, client.FieldOwner(kube.FieldManager)); err != nil {
			return fmt.Errorf("creating %s: %w", tenant.Key(desired), err)
		}
		return r.writeUse(ctx, desired)
	}
	changed := existing.DeepCopyObject().(client.Object)
	setDesired(changed, desired)
	if equality.Semantic.DeepEqual(existing, changed) {
		return r.writeUse(ctx, changed)
	}
	if err := r.Update(ctx, changed, client.FieldOwner(kube.FieldManager)); err != nil {
		return fmt.Errorf("updating %s: %w", tenant.Key(desired), err)
	}
	return r.writeUse(ctx, changed)
}

// writeUse writes into the status of a quota how many TenantJobs there are, if it does not say so. Other objects are left as they
// are.
func (r *Reconciler) writeUse(ctx context.Context, obj client.Object) error {
	quota, isQuota := obj.(*corev1.ResourceQuota)
	if !isQuota || !tenant.LacksUse(quota) {
		return nil
	}
	var tenantJobs v1alpha1.TenantJobList
	if err := r.List(ctx, &tenantJobs, client.InNamespace(quota.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing the TenantJobs of namespace %s: %w", quota.Namespace, err)
	}
	base := quota.DeepCopy()
	tenant.SetUse(quota, len(tenantJobs.Items))
	if err := r.Status().Patch(ctx, quota, client.MergeFrom(base), client.FieldOwner(kube.FieldManager)); err != nil {
		return fmt.Errorf("writing the use of %s: %w", tenant.Key(quota), err)
	}
	return nil
}

// canUpdate says whether an update can make an object as desired. Some fields are immutable.
func canUpdate(existing client.Object, desired tenant.Object) bool {
	switch desired := desired.(type) {
	case *rbacv1.RoleBinding:
		return existing.(*rbacv1.RoleBinding).RoleRef == desired.RoleRef
	case *corev1.ResourceQuota:
		spec := existing.(*corev1.ResourceQuota).Spec
		return len(spec.Scopes) == 0 && spec.ScopeSelector == nil
	}
	return true
}

// setDesired sets on an object what is desired. It keeps the labels and annotations that others have set.
func setDesired(obj client.Object, desired tenant.Object) {
	labels := obj.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, desired.GetLabels())
	obj.SetLabels(labels)
	switch desired := desired.(type) {
	case *corev1.ServiceAccount:
		obj.(*corev1.ServiceAccount).AutomountServiceAccountToken = desired.AutomountServiceAccountToken
	case *corev1.ResourceQuota:
		obj.(*corev1.ResourceQuota).Spec = desired.Spec
	case *corev1.LimitRange:
		obj.(*corev1.LimitRange).Spec = desired.Spec
	case *networkingv1.NetworkPolicy:
		obj.(*networkingv1.NetworkPolicy).Spec = desired.Spec
	case *rbacv1.RoleBinding:
		obj.(*rbacv1.RoleBinding).Subjects = desired.Subjects
	}
}
