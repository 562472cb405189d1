package queues

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/queue"
)

// setReady says whether a queue lets TenantJobs start. No queue that the API server accepts is invalid, so Ready is always
// True.
func setReady(q *v1alpha1.TenantQueue) {
	message := "limits are in force"
	if ptr.Deref(q.Spec.Suspend, false) {
		message = "suspended: nothing starts"
	}
	q.Status.ObservedGeneration = q.Generation
	set := conditions.Of(&q.Status.Conditions, q.Generation)
	set.Set(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, message)
	set.SetProgress(conditions.Current, v1alpha1.ReasonReady, message)
}

func setCounts(q *v1alpha1.TenantQueue, counts queue.Counts) {
	q.Status.Waiting, q.Status.Running = new(int32(counts.Waiting)), new(int32(counts.Running))
	q.Status.OldestWaitingTime = nil
	if !counts.Oldest.IsZero() {
		// The API server keeps whole seconds. A more exact time would always differ from what it has.
		q.Status.OldestWaitingTime = new(metav1.NewTime(counts.Oldest).Rfc3339Copy())
	}
}
