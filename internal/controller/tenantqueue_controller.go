package controller

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/queue"
)

// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantqueues,verbs=get;list;watch
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantqueues/status,verbs=patch

// countQueuesEvery is how often the numbers in the status of queues are brought up to date. However much starts in the
// meantime, a queue costs one write.
const countQueuesEvery = 5 * time.Second

type tenantQueueReconciler struct {
	deps
	census *census
}

func setupTenantQueue(mgr manager.Manager, d deps) error {
	return setupTenantQueueCounting(mgr, d, d.dispatcher.Counts)
}

func setupTenantQueueCounting(mgr manager.Manager, d deps, count func() map[string]queue.Counts) error {
	r := &tenantQueueReconciler{d, &census{
		Reader: d.Client, clock: d.opts.Clock, count: count, changed: make(chan event.GenericEvent),
	}}
	if err := mgr.Add(r.census); err != nil {
		return fmt.Errorf("adding the census of queues: %w", err)
	}
	forgetDeleted := predicate.Funcs{DeleteFunc: func(e event.DeleteEvent) bool {
		d.metrics.ForgetQueue(e.Object.GetName())
		return false
	}}
	return builder.ControllerManagedBy(mgr).
		Named("tenantqueue").
		For(&v1alpha1.TenantQueue{}, builder.WithPredicates(predicate.GenerationChangedPredicate{}, forgetDeleted)).
		WatchesRawSource(source.Channel(r.census.changed, &handler.EnqueueRequestForObject{})).
		WithOptions(d.opts.forController()).
		Complete(reconcile.AsReconciler(d.Client, r))
}

// Reconcile says what waits and runs in a queue.
func (r *tenantQueueReconciler) Reconcile(ctx context.Context, q *v1alpha1.TenantQueue) (reconcile.Result, error) {
	if q.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	base := q.DeepCopy()
	recordLimits(q)
	if counts, known := r.census.of(q.Name); known {
		recordCounts(q, counts)
	}
	return retryStale(patchStatus(ctx, r.Client, q, base))
}

// recordLimits says whether a queue lets anything start. There is nothing that could be wrong with one.
func recordLimits(q *v1alpha1.TenantQueue) {
	message := "limits are in force"
	if q.Spec.Suspend != nil && *q.Spec.Suspend {
		message = "suspended: nothing starts"
	}
	q.Status.ObservedGeneration = q.Generation
	set := conditions.Of(&q.Status.Conditions, q.Generation)
	set.Set(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, message)
	set.SetProgress(conditions.Current, v1alpha1.ReasonReady, message)
}

func recordCounts(q *v1alpha1.TenantQueue, counts queue.Counts) {
	q.Status.Waiting, q.Status.Running = new(int32(counts.Waiting)), new(int32(counts.Running))
	q.Status.OldestWaitingTime = nil
	if !counts.Oldest.IsZero() {
		// The API server keeps whole seconds; anything finer would differ for ever.
		q.Status.OldestWaitingTime = new(metav1.NewTime(counts.Oldest).Rfc3339Copy())
	}
}

// census counts what waits and runs, every few seconds, and asks for a write where the status says otherwise.
type census struct {
	client.Reader
	clock clock.WithTicker
	count func() map[string]queue.Counts
	// changed takes the queues whose numbers have changed.
	changed chan event.GenericEvent
	// latest is what was counted last. Before the first time nothing is known: it takes a leader a moment to find out
	// what runs, and what its predecessor has written is nearer to the truth than zero.
	latest atomic.Pointer[map[string]queue.Counts]
}

// of returns what was counted last in a queue. False means that nobody knows.
func (c *census) of(name string) (queue.Counts, bool) {
	latest := c.latest.Load()
	if latest == nil {
		return queue.Counts{}, false
	}
	counts, known := (*latest)[name]
	return counts, known
}

// Start runs until the context is done, on the leader only.
func (c *census) Start(ctx context.Context) error {
	ticker := c.clock.NewTicker(countQueuesEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
			c.take(ctx)
		}
	}
}

func (c *census) take(ctx context.Context) {
	c.latest.Store(new(c.count()))
	var queues v1alpha1.TenantQueueList
	if err := c.List(ctx, &queues, client.UnsafeDisableDeepCopy); err != nil {
		log.FromContext(ctx).Error(err, "Listing TenantQueues from the cache")
		return
	}
	for i := range queues.Items {
		counts, known := c.of(queues.Items[i].Name)
		counted := queues.Items[i].DeepCopy()
		recordCounts(counted, counts)
		if !known || equality.Semantic.DeepEqual(counted.Status, queues.Items[i].Status) {
			continue
		}
		select {
		case c.changed <- event.GenericEvent{Object: counted}:
		case <-ctx.Done():
			return
		}
	}
}
