// Package queues is the controller of TenantQueues: it says what waits and runs in each.
package queues

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/queue"
)

// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantqueues,verbs=get;list;watch
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantqueues/status,verbs=patch

// CountInterval is how often the numbers in the status of queues are brought up to date. However much starts in the
// meantime, a queue costs one write.
const CountInterval = 5 * time.Second

// Reconciler reconciles TenantQueues.
type Reconciler struct {
	kube.Client
	Clock clock.WithTicker
	// Counts returns what waits and runs, by queue. Nil means that it is not known yet.
	Counts func() map[string]queue.Counts
	// Forget is called with the name of each queue that is deleted.
	Forget func(name string)

	counter *counter
}

// SetupWithManager adds the controller to a manager.
func (r *Reconciler) SetupWithManager(mgr manager.Manager, opts controller.Options) error {
	r.counter = &counter{Reader: r.Client, clock: r.Clock, count: r.Counts, changed: make(chan event.GenericEvent)}
	if err := mgr.Add(r.counter); err != nil {
		return fmt.Errorf("adding the counter of queues: %w", err)
	}
	return builder.ControllerManagedBy(mgr).
		Named("tenantqueue").
		For(&v1alpha1.TenantQueue{}, builder.WithPredicates(predicate.GenerationChangedPredicate{}, kube.OnDelete(r.Forget, false))).
		WatchesRawSource(source.Channel(r.counter.changed, &handler.EnqueueRequestForObject{})).
		WithOptions(opts).
		Complete(reconcile.AsReconciler(r.Client.Client, r))
}

// Reconcile says what waits and runs in a queue.
func (r *Reconciler) Reconcile(ctx context.Context, q *v1alpha1.TenantQueue) (reconcile.Result, error) {
	if q.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	base := q.DeepCopy()
	recordLimits(q)
	if counts, known := r.counter.of(q.Name); known {
		recordCounts(q, counts)
	}
	return kube.RetryConflict(r.PatchStatus(ctx, q, base))
}

// recordLimits says whether a queue lets anything start. There is nothing that could be wrong with one.
func recordLimits(q *v1alpha1.TenantQueue) {
	message := "limits are in force"
	if ptr.Deref(q.Spec.Suspend, false) {
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

// counter counts what waits and runs every few seconds, and has the queues reconciled whose status says otherwise.
type counter struct {
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
func (c *counter) of(name string) (queue.Counts, bool) {
	latest := c.latest.Load()
	if latest == nil {
		return queue.Counts{}, false
	}
	counts, known := (*latest)[name]
	return counts, known
}

// Start runs until the context is done, on the leader only.
func (c *counter) Start(ctx context.Context) error {
	ticker := c.clock.NewTicker(CountInterval)
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

func (c *counter) take(ctx context.Context) {
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
