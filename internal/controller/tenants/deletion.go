package tenants

import (
	"context"
	"errors"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/tenant"
)

// A tenant's TenantJobs are deleted before its namespace.
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantjobs,verbs=get;list;watch;deletecollection

// ensureFinalizer adds the finalizer to a Tenant before anything is created for it. It says whether the Tenant still exists. The
// cache may show a deleted Tenant that is already gone: its namespace would be claimed again, and nobody would release it.
func (r *Reconciler) ensureFinalizer(ctx context.Context, t *v1alpha1.Tenant) (bool, error) {
	switch {
	case t.DeletionTimestamp != nil:
		current, err := kube.Find(ctx, r.Live, kube.KeyOf(t), &v1alpha1.Tenant{})
		return current != nil && current.UID == t.UID && controllerutil.ContainsFinalizer(current, v1alpha1.FinalizerTenant), err
	case controllerutil.ContainsFinalizer(t, v1alpha1.FinalizerTenant):
		return true, nil
	}
	base := t.DeepCopy()
	controllerutil.AddFinalizer(t, v1alpha1.FinalizerTenant)
	return true, r.patchFinalizers(ctx, t, base)
}

// removeFinalizer lets the API server delete a Tenant of which nothing is left.
func (r *Reconciler) removeFinalizer(ctx context.Context, t *v1alpha1.Tenant) error {
	base := t.DeepCopy()
	controllerutil.RemoveFinalizer(t, v1alpha1.FinalizerTenant)
	if err := client.IgnoreNotFound(r.patchFinalizers(ctx, t, base)); err != nil {
		return err
	}
	r.Dispatcher.UnlockTenant(t.Name)
	return nil
}

func (r *Reconciler) patchFinalizers(ctx context.Context, t, base *v1alpha1.Tenant) error {
	patch := client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})
	if err := r.Patch(ctx, t, patch, client.FieldOwner(kube.FieldManager)); err != nil {
		return fmt.Errorf("writing the finalizers of Tenant %s: %w", t.Name, err)
	}
	return nil
}

// listTenantJobs reads the TenantJobs in the namespace from the cache.
func (r *Reconciler) listTenantJobs(ctx context.Context, o *tenant.Observed) error {
	var list v1alpha1.TenantJobList
	if err := r.List(ctx, &list, client.InNamespace(o.Namespace.Name), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing the TenantJobs of tenant %s: %w", o.Tenant.Name, err)
	}
	o.TenantJobs = list.Items
	return nil
}

// deleteTenantJobs deletes all TenantJobs in the namespace, after their Jobs and pods.
func (r *Reconciler) deleteTenantJobs(ctx context.Context, o *tenant.Observed) error {
	foreground := client.PropagationPolicy(metav1.DeletePropagationForeground)
	if err := r.DeleteAllOf(ctx, &v1alpha1.TenantJob{}, client.InNamespace(o.Namespace.Name), foreground); err != nil {
		return fmt.Errorf("deleting the TenantJobs of tenant %s: %w", o.Tenant.Name, err)
	}
	return nil
}

// releaseNamespace removes from the namespace what the operator put into it and on it, and keeps what others put there. The
// hash goes first: if the operator dies, its rights in the namespace are written again before the release goes on.
func (r *Reconciler) releaseNamespace(ctx context.Context, o *tenant.Observed) error {
	if err := r.deleteJobs(ctx, o); err != nil {
		return err
	}
	if err := r.deleteAllCopies(ctx, o.Tenant); err != nil {
		return err
	}
	applied, err := r.applyMetadata(ctx, o.Namespace, o.Desired, false)
	if err != nil {
		return err
	}
	if err := r.deleteContents(ctx, applied.Name, &o.Desired); err != nil {
		return err
	}
	// One patch removes all that says that the namespace is the tenant's and restores what was there, so nothing is left half done.
	current, err := kube.Find(ctx, r.Live, kube.KeyOf(applied), kube.NamespaceMetadata(applied.Name))
	if err != nil {
		return err
	}
	if current == nil || current.UID != applied.UID {
		return nil
	}
	released := tenant.Released(current)
	patch := client.MergeFromWithOptions(current, client.MergeFromWithOptimisticLock{})
	if err := r.Patch(ctx, released, patch, client.FieldOwner(kube.FieldManager)); err != nil {
		return fmt.Errorf("releasing namespace %s: %w", applied.Name, err)
	}
	log.FromContext(ctx).V(2).Info("Released the namespace", "namespace", klog.KObj(released))
	r.Note(o.Tenant, "NamespaceReleased", "Release",
		fmt.Sprintf("namespace %s no longer belongs to this tenant and was not deleted", applied.Name))
	return nil
}

// deleteJobs deletes the tenant's Jobs, all of which have ended. It asks for them first, because the operator has no right to
// delete Jobs where somebody else's RoleBinding has the name of its own, and there are none there.
func (r *Reconciler) deleteJobs(ctx context.Context, o *tenant.Observed) error {
	background := client.PropagationPolicy(metav1.DeletePropagationBackground)
	ofTenant := client.MatchingLabels{v1alpha1.LabelTenant: o.Tenant.Name}
	jobs := metadataList(batchv1.SchemeGroupVersion.WithKind("JobList"))
	if err := r.Live.List(ctx, jobs, client.InNamespace(o.Namespace.Name), ofTenant); err != nil {
		return fmt.Errorf("listing the Jobs of tenant %s: %w", o.Tenant.Name, err)
	}
	if len(jobs.Items) == 0 {
		return nil
	}
	if err := r.DeleteAllOf(ctx, &batchv1.Job{}, client.InNamespace(o.Namespace.Name), ofTenant, background); err != nil {
		return fmt.Errorf("deleting the Jobs of tenant %s: %w", o.Tenant.Name, err)
	}
	return nil
}

// deleteContents deletes everything in a namespace that the operator keeps there.
func (r *Reconciler) deleteContents(ctx context.Context, namespace string, desired *tenant.Desired) error {
	existing, err := r.listObjects(ctx, namespace)
	if err != nil {
		return err
	}
	var failed error
	for _, obj := range existing {
		if desired.Owns(obj) {
			failed = errors.Join(failed, r.DeleteExact(ctx, obj, metav1.DeletePropagationBackground))
		}
	}
	return failed
}

// deleteNamespace deletes the namespace. The namespace controller deletes what is in it.
func (r *Reconciler) deleteNamespace(ctx context.Context, o *tenant.Observed) error {
	if err := r.DeleteExact(ctx, o.Namespace, metav1.DeletePropagationBackground); err != nil {
		return err
	}
	r.Note(o.Tenant, v1alpha1.ReasonDeletingNamespace, "Delete", fmt.Sprintf("namespace %s is being deleted", o.Namespace.Name))
	return nil
}

// readNamespace reads the namespace with its status. A namespace of the name with another UID is not the tenant's.
func (r *Reconciler) readNamespace(ctx context.Context, o *tenant.Observed) error {
	current, err := kube.Find(ctx, r.Live, types.NamespacedName{Name: o.Namespace.Name}, &corev1.Namespace{})
	if err != nil {
		return err
	}
	if current != nil && current.UID == o.Namespace.UID {
		o.DeletedNamespace = current
	}
	return nil
}
