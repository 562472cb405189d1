// Package queues is the controller of TenantQueues: it writes into the status of each how many TenantJobs wait and run.
package queues

import (
	"context"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/queue"
)

// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantqueues,verbs=get;list;watch
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantqueues/status,verbs=patch

// Reconciler reconciles TenantQueues.
type Reconciler struct {
	kube.Client
	Clock clock.WithTicker
	// Counts returns how many TenantJobs wait and run, by queue. Nil means that it is not known yet.
	Counts func() map[string]queue.Counts
	// Starts are those that startsPerMinute counts.
	Starts Starts
	// Forget is called with the name of each queue that is deleted.
	Forget func(name string)

	// latest is what Counts last returned to pollCounts. It is nil before, since a new leader needs a moment to find out what
	// runs: until then what its predecessor has written is closer to the truth than zero.
	latest atomic.Pointer[map[string]queue.Counts]
}

// Starts are those of the queues that have startsPerMinute.
type Starts interface {
	// SendQueueRequests has the queues whose starts are to be written down go through enqueue.
	SendQueueRequests(enqueue func(name string))
	// StartRecord is what is to be written down of a queue's starts before more are made. It is nil when nothing is.
	StartRecord(name string) *v1alpha1.RecordedStarts
	// StartsRecorded says that it has been written down.
	StartsRecorded(name string, record *v1alpha1.RecordedStarts)
}

// SetupWithManager adds the controller to a manager.
func (r *Reconciler) SetupWithManager(mgr manager.Manager, opts controller.Options) error {
	return builder.ControllerManagedBy(mgr).
		Named("tenantqueue").
		For(&v1alpha1.TenantQueue{}, builder.WithPredicates(predicate.GenerationChangedPredicate{}, kube.OnDelete(r.Forget, false))).
		WatchesRawSource(source.Func(r.pollCounts)).
		WatchesRawSource(source.Func(r.requested)).
		WithOptions(opts).
		Complete(kube.BackOff(reconcile.AsReconciler(r.Client.Client, r)))
}

// Reconcile writes the status of a queue.
func (r *Reconciler) Reconcile(ctx context.Context, q *v1alpha1.TenantQueue) (reconcile.Result, error) {
	if q.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	base := q.DeepCopy()
	setReady(q)
	if counts, isKnown := r.countsOf(q.Name); isKnown {
		setCounts(q, counts)
	}
	record := r.Starts.StartRecord(q.Name)
	if record != nil {
		q.Status.Starts = record
	} else if q.Spec.StartsPerMinute == nil {
		q.Status.Starts = nil
	}
	err := r.PatchStatus(ctx, q, base)
	if err == nil && record != nil {
		r.Starts.StartsRecorded(q.Name, record)
	}
	return kube.RetryConflict(err)
}

// requested enqueues the queues whose starts are to be written down.
func (r *Reconciler) requested(_ context.Context, requests workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	r.Starts.SendQueueRequests(func(name string) { requests.Add(reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}) })
	return nil
}
