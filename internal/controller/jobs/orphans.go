package jobs

import (
	"context"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
)

// stopOrphan stops a Job that runs without a TenantJob: nobody could cancel it, and nothing would tell how it ended. A nil Job, one
// of which that is not so, and one outside of its tenant's namespace are left alone. Wait is after how long to try again when it is not
// the turn of its namespace.
func (r *Reconciler) stopOrphan(ctx context.Context, j *batchv1.Job) (wait time.Duration, err error) {
	if j == nil || !job.IsOrphan(j) || !job.IsLive(j) || j.DeletionTimestamp != nil {
		return 0, nil
	}
	if namespace := r.namespace(j.Namespace); namespace == nil || namespace.Tenant != j.Labels[v1alpha1.LabelTenant] {
		return 0, nil
	}
	wait, err = r.shares.Write(ctx, kube.KeyOf(j), func(ctx context.Context) error {
		return r.DeleteExact(ctx, j, metav1.DeletePropagationForeground)
	})
	if err != nil || wait > 0 {
		return wait, err
	}
	log.FromContext(ctx).Info("Stopped a Job without a TenantJob", "job", klog.KObj(j))
	return 0, nil
}
