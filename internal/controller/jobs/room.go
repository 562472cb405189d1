package jobs

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
)

// makeRoom deletes the Job of a run of the same tenant that ended long ago, if there is one, after the quota was full for a
// TenantJob. When the Job is gone, the tenant's starts are tried again. It returns what the status has to say of Jobs that count.
func (r *Reconciler) makeRoom(ctx context.Context, tj *v1alpha1.TenantJob, now time.Time) (string, error) {
	var withJob []*v1alpha1.TenantJob
	for _, other := range r.tenantJobs.In(tj.Namespace) {
		if j := r.cachedJob(other); j != nil && job.IsOver(other) && !job.IsLive(j) {
			withJob = append(withJob, other)
		}
	}
	room := job.RoomOf(withJob, now)
	if room.Oldest == nil {
		return room.Message(), nil
	}
	oldest := r.cachedJob(room.Oldest)
	if err := r.DeleteExact(ctx, oldest, metav1.DeletePropagationBackground); err != nil {
		return "", err
	}
	log.FromContext(ctx).Info("Deleted the Job of a run that has ended, since the quota is full", "job", klog.KObj(oldest))
	return room.Message(), nil
}
