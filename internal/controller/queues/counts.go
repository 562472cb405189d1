package queues

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/queue"
)

// CountInterval is how often the counts in the status of queues are updated. However many TenantJobs start in the meantime,
// a queue costs one write.
const CountInterval = 5 * time.Second

// pollCounts updates the counts every CountInterval until the context is done, and enqueues the queues whose status is out of
// date. Only the leader does so.
func (r *Reconciler) pollCounts(ctx context.Context, requests workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	go func() {
		ticker := r.Clock.NewTicker(CountInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C():
				r.latest.Store(new(r.Counts()))
				r.enqueueOutdated(ctx, requests)
			}
		}
	}()
	return nil
}

func (r *Reconciler) enqueueOutdated(ctx context.Context, requests workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	var queues v1alpha1.TenantQueueList
	if err := r.List(ctx, &queues, client.UnsafeDisableDeepCopy); err != nil {
		log.FromContext(ctx).Error(err, "Listing TenantQueues from the cache")
		return
	}
	for i := range queues.Items {
		cached := &queues.Items[i]
		counts, isKnown := r.countsOf(cached.Name)
		current := cached.DeepCopy()
		setCounts(current, counts)
		if isKnown && !equality.Semantic.DeepEqual(current.Status, cached.Status) {
			// Rate limited, so that a status that can't be written is tried ever more seldom.
			requests.AddRateLimited(reconcile.Request{NamespacedName: kube.KeyOf(cached)})
		}
	}
}

// countsOf returns the latest counts of a queue. It is false when they are not known.
func (r *Reconciler) countsOf(name string) (queue.Counts, bool) {
	latest := r.latest.Load()
	if latest == nil {
		return queue.Counts{}, false
	}
	counts, isKnown := (*latest)[name]
	return counts, isKnown
}
