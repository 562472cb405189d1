package tenants

import (
	"context"
	"errors"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/tenant"
)

// The rights to list pods, and to delete pods and Jobs, come from the RoleBinding that the operator has in each tenant's
// namespace. So it has them nowhere else.

func (r *Reconciler) lock(_ context.Context, o *tenant.Observed) error {
	r.Dispatcher.LockTenant(o.Tenant.Name)
	return nil
}

func (r *Reconciler) unlock(_ context.Context, o *tenant.Observed) error {
	r.Dispatcher.UnlockTenant(o.Tenant.Name)
	return nil
}

// listJobs reads the tenant's Jobs that have not ended from the API server.
func (r *Reconciler) listJobs(ctx context.Context, o *tenant.Observed) error {
	var list batchv1.JobList
	err := r.Live.List(ctx, &list, client.InNamespace(o.Namespace.Name), client.MatchingLabels{v1alpha1.LabelTenant: o.Tenant.Name})
	if err != nil {
		return fmt.Errorf("listing the Jobs of tenant %s: %w", o.Tenant.Name, err)
	}
	all := make([]*batchv1.Job, 0, len(list.Items))
	for i := range list.Items {
		all = append(all, &list.Items[i])
	}
	o.Jobs = unfinishedJobs(all, o.Tenant)
	return nil
}

// deleteOrphans deletes the Jobs that belong to no TenantJob, because nobody else stops them. One that can't be deleted keeps no
// other.
func (r *Reconciler) deleteOrphans(ctx context.Context, o *tenant.Observed) error {
	var failed error
	for _, j := range o.Jobs {
		if j.DeletionTimestamp != nil {
			continue
		}
		orphan, err := r.isOrphan(ctx, j)
		if err != nil {
			return err
		}
		if orphan {
			failed = errors.Join(failed, r.DeleteExact(ctx, j, metav1.DeletePropagationForeground))
		}
	}
	return failed
}

// isOrphan says whether a Job belongs to no TenantJob. A TenantJob that is not in the cache may be in the API server.
func (r *Reconciler) isOrphan(ctx context.Context, j *batchv1.Job) (bool, error) {
	owner := metav1.GetControllerOf(j)
	if owner == nil || owner.Kind != "TenantJob" {
		return true, nil
	}
	for _, reader := range []client.Reader{r.Client, r.Live} {
		key := types.NamespacedName{Namespace: j.Namespace, Name: owner.Name}
		tj, err := kube.Find(ctx, reader, key, &v1alpha1.TenantJob{})
		if err != nil || tj != nil && tj.UID == owner.UID {
			return false, err
		}
	}
	return true, nil
}

// listPods reads the pods in the namespace that have not ended from the API server. Before the phase Enforce there may be
// other workloads in the namespace: then only the pods with the tenant's label are read.
func (r *Reconciler) listPods(ctx context.Context, o *tenant.Observed) error {
	opts := []client.ListOption{client.InNamespace(o.Namespace.Name), client.MatchingFieldsSelector{Selector: kube.UnfinishedPods}}
	if o.Enforcement != v1alpha1.EnforcementEnforce {
		opts = append(opts, client.MatchingLabels{v1alpha1.LabelTenant: o.Tenant.Name})
	}
	var list corev1.PodList
	if err := r.Live.List(ctx, &list, opts...); err != nil {
		return fmt.Errorf("listing the pods of tenant %s: %w", o.Tenant.Name, err)
	}
	o.Pods = list.Items
	return nil
}

// listHeld reads which pods, Jobs and TenantJobs of the tenant are being deleted and somebody's finalizer holds. Only their
// metadata is read, because there may be thousands of pods that have ended.
func (r *Reconciler) listHeld(ctx context.Context, o *tenant.Observed) error {
	opts := []client.ListOption{client.InNamespace(o.Namespace.Name)}
	if !o.Did(tenant.ActionReadNamespace) { // Everything holds a namespace that is being deleted.
		opts = append(opts, client.MatchingLabels{v1alpha1.LabelTenant: o.Tenant.Name})
	}
	for kind, list := range map[string]*metav1.PartialObjectMetadataList{
		"Pod": metadataList(corev1.SchemeGroupVersion.WithKind("PodList")),
		"Job": metadataList(batchv1.SchemeGroupVersion.WithKind("JobList")),
	} {
		if err := r.Live.List(ctx, list, opts...); err != nil {
			return fmt.Errorf("listing what is being deleted of tenant %s: %w", o.Tenant.Name, err)
		}
		for i := range list.Items {
			if held, is := tenant.HeldOf(kind, &list.Items[i]); is {
				o.Held = append(o.Held, held)
			}
		}
	}
	var tenantJobs v1alpha1.TenantJobList
	if err := r.List(ctx, &tenantJobs, client.InNamespace(o.Namespace.Name), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing the TenantJobs of tenant %s: %w", o.Tenant.Name, err)
	}
	for i := range tenantJobs.Items {
		if held, is := tenant.HeldOf("TenantJob", &tenantJobs.Items[i]); is {
			o.Held = append(o.Held, held)
		}
	}
	return nil
}

func metadataList(kind schema.GroupVersionKind) *metav1.PartialObjectMetadataList {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind)
	return list
}

// deletePods deletes the pods that do not end by themselves.
func (r *Reconciler) deletePods(ctx context.Context, o *tenant.Observed) error {
	var failed error
	for _, pod := range o.PodsToDelete() {
		failed = errors.Join(failed, r.DeleteExact(ctx, pod, metav1.DeletePropagationBackground))
	}
	return failed
}

// revokeCredentials has the credentials revoked that live for the tenant's runs, and finds out of which there are some left.
func (r *Reconciler) revokeCredentials(ctx context.Context, o *tenant.Observed) (err error) {
	o.Credentials, err = r.Credentials.RevokeTenant(ctx, o.Tenant)
	return err
}
