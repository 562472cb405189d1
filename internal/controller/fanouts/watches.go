package fanouts

import (
	"context"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/kube"
)

const (
	// minBatchDelay and maxBatchDelay bound how long changes of children and Tenants are collected before a reconcile, so that
	// ten thousand of them cost few passes over the plan. tenantsPerBatchSecond is how many planned tenants make it a second
	// longer.
	minBatchDelay         = 100 * time.Millisecond
	maxBatchDelay         = 2 * time.Second
	tenantsPerBatchSecond = 5000
	// maxBackoff is how long a fan-out waits at most after repeated errors. The API server may be in trouble, so changes of
	// children do not bring the fan-out back earlier.
	maxBackoff = 30 * time.Second
)

// SetupWithManager adds the controller to a manager, whose cache must have the indexes of kube.IndexFanOuts.
func (r *Reconciler) SetupWithManager(mgr manager.Manager, opts controller.Options) error {
	var err error
	if r.tenants, err = kube.NewLister[*v1alpha1.Tenant](mgr.GetCache(), &v1alpha1.Tenant{}, nil); err != nil {
		return err
	}
	if r.tenantJobs, err = kube.NewLister[*v1alpha1.TenantJob](mgr.GetCache(), &v1alpha1.TenantJob{}, nil); err != nil {
		return err
	}
	opts.RateLimiter = workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](kube.StaleAfter, maxBackoff)
	return builder.ControllerManagedBy(mgr).
		Named("tenantfanout").
		For(&v1alpha1.TenantFanOut{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.TenantFanOut{}, handler.EnqueueRequestsFromMapFunc(r.dependents),
			builder.WithPredicates(kube.Changed(plannedChange))).
		Watches(&v1alpha1.TenantJob{}, r.batched(r.parent), builder.WithPredicates(kube.Changed(childChange))).
		Watches(&v1alpha1.Tenant{}, r.batched(r.undecided), builder.WithPredicates(kube.Changed(tenantChange))).
		Watches(&v1alpha1.TenantJobTemplate{}, handler.EnqueueRequestsFromMapFunc(r.awaitingTemplate),
			builder.WithPredicates(kube.Changed(kube.TemplateChange))).
		WithOptions(opts).
		Complete(kube.BackOff(r))
}

// batched enqueues fan-outs after a delay, which is the longer the more tenants they have.
func (r *Reconciler) batched(names func(client.Object) []string) handler.EventHandler {
	type requestQueue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	enqueue := func(queue requestQueue, names []string) {
		for _, name := range names {
			after := time.Duration(r.active.planned(name)) * time.Second / tenantsPerBatchSecond
			request := reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}
			queue.AddAfter(request, min(max(minBatchDelay, after), maxBatchDelay))
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q requestQueue) { enqueue(q, names(e.Object)) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q requestQueue) {
			enqueue(q, slices.Compact(append(names(e.ObjectOld), names(e.ObjectNew)...)))
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q requestQueue) { enqueue(q, names(e.Object)) },
	}
}

// parent names the fan-out that a TenantJob is a child of, unless it is complete.
func (r *Reconciler) parent(tj client.Object) []string {
	if !r.active.has(tj.(*v1alpha1.TenantJob)) {
		return nil
	}
	return []string{tj.GetName()}
}

// undecided names the fan-outs in which a tenant has no outcome yet.
func (r *Reconciler) undecided(tenant client.Object) []string {
	return r.active.undecidedFor(tenant.GetName())
}

// awaitingTemplate enqueues the fan-outs whose plan can't be sealed before a template is there and ready.
func (r *Reconciler) awaitingTemplate(ctx context.Context, template client.Object) []reconcile.Request {
	fanOuts, err := kube.FanOutsAwaitingTemplate(ctx, r.Client, template.GetName())
	logListError(ctx, err)
	return requests(fanOuts)
}

// dependents enqueues the fan-outs that retry this one and wait for it to be planned, and those of other ticks of the same
// schedule, which this one may end.
func (r *Reconciler) dependents(ctx context.Context, obj client.Object) []reconcile.Request {
	retries, err := kube.FanOutsAwaitingSource(ctx, r.Client, obj.GetName())
	logListError(ctx, err)
	all := requests(retries)
	owner := kube.ControllerUID(obj, "TenantSchedule")
	if owner == "" {
		return all
	}
	siblings, err := kube.FanOutsOfSchedule(ctx, r.Client, owner)
	logListError(ctx, err)
	for i := range siblings {
		if f := &siblings[i]; f.Name != obj.GetName() && !isFinished(f) {
			all = append(all, reconcile.Request{NamespacedName: kube.KeyOf(f)})
		}
	}
	return all
}

func requests(fanOuts []v1alpha1.TenantFanOut) []reconcile.Request {
	all := make([]reconcile.Request, 0, len(fanOuts))
	for i := range fanOuts {
		all = append(all, reconcile.Request{NamespacedName: kube.KeyOf(&fanOuts[i])})
	}
	return all
}

// logListError logs the error of a list from the cache. There is none, unless an index is missing.
func logListError(ctx context.Context, err error) {
	if err != nil {
		log.FromContext(ctx).Error(err, "Listing TenantFanOuts from the cache")
	}
}

// plannedChange is what the dependents of a fan-out depend on.
func plannedChange(obj client.Object) any { return isPlanned(obj.(*v1alpha1.TenantFanOut)) }

// childChange is what a fan-out depends on in a child.
func childChange(obj client.Object) any {
	tj := obj.(*v1alpha1.TenantJob)
	c := conditions.Get(tj.Status.Conditions, v1alpha1.ConditionSucceeded)
	return []any{c.Status, c.Reason, tj.Status.JobRef != nil, kube.ControllerUID(tj, "TenantFanOut"), tj.DeletionTimestamp != nil}
}

// tenantChange is what a fan-out depends on in a Tenant.
func tenantChange(obj client.Object) any {
	t := obj.(*v1alpha1.Tenant)
	return []any{t.UID, fanout.TenantOf(t).State}
}
