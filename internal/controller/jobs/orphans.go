package jobs

import (
	"context"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
)

// stopOrphan stops a Job that runs without a TenantJob: nobody could cancel it, and nothing would tell how it ended. A nil Job, one
// of which that is not so, and one outside of its tenant's namespace are left alone.
func (r *Reconciler) stopOrphan(ctx context.Context, j *batchv1.Job) error {
	if j == nil || !job.IsOrphan(j) || !job.IsLive(j) || j.DeletionTimestamp != nil {
		return nil
	}
	if namespace := r.namespace(j.Namespace); namespace == nil || namespace.Tenant != j.Labels[v1alpha1.LabelTenant] {
		return nil
	}
	if err := r.DeleteExact(ctx, j, metav1.DeletePropagationForeground); err != nil {
		return err
	}
	log.FromContext(ctx).Info("Stopped a Job without a TenantJob", "job", klog.KObj(j))
	return nil
}
