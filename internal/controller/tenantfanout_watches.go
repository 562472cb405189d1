package controller

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
)

// Indexes of the cache.
const (
	// indexTicks finds the TenantFanOuts of a TenantSchedule by its UID.
	indexTicks = "of-schedule"
	// indexForTemplate and indexForSource find the TenantFanOuts without a plan that wait for a template, or for the
	// fan-out that they retry.
	indexForTemplate = "unplanned-template"
	indexForSource   = "unplanned-source"
)

// Bounds of how long the news of children are gathered, so that ten thousand of them cost few passes over all.
const (
	shortestGather = 100 * time.Millisecond
	longestGather  = 2 * time.Second
	// longestBackoff is how long an API server in trouble is left alone: its children's news don't bring a fan-out back
	// earlier.
	longestBackoff = 30 * time.Second
	// gatherRate is how many tenants make it a second longer.
	gatherRate = 5000
)

func setupTenantFanOut(mgr manager.Manager, d deps) error {
	if err := indexTenantFanOuts(mgr.GetFieldIndexer()); err != nil {
		return err
	}
	r := &tenantFanOutReconciler{deps: d}
	var err error
	if r.tenants, err = openShelf[*v1alpha1.Tenant](mgr.GetCache(), &v1alpha1.Tenant{}, nil); err != nil {
		return err
	}
	if r.tenantJobs, err = openShelf[*v1alpha1.TenantJob](mgr.GetCache(), &v1alpha1.TenantJob{}, nil); err != nil {
		return err
	}
	options := d.opts.forController()
	options.RateLimiter = workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](staleAfter, longestBackoff)
	return builder.ControllerManagedBy(mgr).
		Named("tenantfanout").
		For(&v1alpha1.TenantFanOut{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.TenantFanOut{}, handler.EnqueueRequestsFromMapFunc(r.relatives), builder.WithPredicates(changed(planned))).
		Watches(&v1alpha1.TenantJob{}, r.gathered(r.parent), builder.WithPredicates(changed(childMatters))).
		Watches(&v1alpha1.Tenant{}, r.gathered(r.undecided), builder.WithPredicates(changed(tenantStateMatters))).
		Watches(&v1alpha1.TenantJobTemplate{}, handler.EnqueueRequestsFromMapFunc(r.unplanned(indexForTemplate)),
			builder.WithPredicates(changed(templateMatters))).
		WithOptions(options).
		Complete(r)
}

func indexTenantFanOuts(indexer client.FieldIndexer) error {
	some := func(value string) []string {
		if value == "" {
			return nil
		}
		return []string{value}
	}
	unplanned := func(key func(*v1alpha1.TenantFanOut) string) client.IndexerFunc {
		return func(obj client.Object) []string {
			fanOut := obj.(*v1alpha1.TenantFanOut)
			if isPlanned(fanOut) {
				return nil
			}
			return some(key(fanOut))
		}
	}
	for _, index := range []struct {
		of   client.Object
		name string
		keys client.IndexerFunc
	}{
		{&v1alpha1.TenantFanOut{}, indexTicks, func(obj client.Object) []string { return some(string(controllerUID(obj, "TenantSchedule"))) }},
		{&v1alpha1.TenantFanOut{}, indexForTemplate, unplanned(func(f *v1alpha1.TenantFanOut) string { return f.Spec.TemplateRef.Name })},
		{&v1alpha1.TenantFanOut{}, indexForSource, unplanned(func(f *v1alpha1.TenantFanOut) string {
			if f.Spec.Tenants.RetryOf == nil {
				return ""
			}
			return f.Spec.Tenants.RetryOf.Name
		})},
	} {
		if err := indexer.IndexField(context.Background(), index.of, index.name, index.keys); err != nil {
			return fmt.Errorf("indexing %T by %s: %w", index.of, index.name, err)
		}
	}
	return nil
}

// gathered enqueues fan-outs a moment later, the longer the more tenants they have.
func (r *tenantFanOutReconciler) gathered(names func(client.Object) []string) handler.EventHandler {
	enqueue := func(queue workqueue.TypedRateLimitingInterface[reconcile.Request], obj client.Object) {
		for _, name := range names(obj) {
			after := time.Duration(r.known.size(name)) * time.Second / gatherRate
			queue.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}, min(max(shortestGather, after), longestGather))
		}
	}
	type requestQueue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q requestQueue) { enqueue(q, e.Object) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q requestQueue) { enqueue(q, e.ObjectNew) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q requestQueue) { enqueue(q, e.Object) },
	}
}

// parent names the fan-out whose child a TenantJob is: they have the same name. One that is complete has nothing to learn.
func (r *tenantFanOutReconciler) parent(tj client.Object) []string {
	if uid := controllerUID(tj, "TenantFanOut"); uid == "" || !r.known.has(tj.GetName(), uid) {
		return nil
	}
	return []string{tj.GetName()}
}

func (r *tenantFanOutReconciler) undecided(tenant client.Object) []string {
	return r.known.waitingFor(tenant.GetName())
}

// unplanned enqueues the fan-outs without a plan that an index finds under an object's name.
func (r *tenantFanOutReconciler) unplanned(index string) handler.MapFunc {
	return func(ctx context.Context, obj client.Object) []reconcile.Request {
		var list v1alpha1.TenantFanOutList
		if err := r.List(ctx, &list, client.MatchingFields{index: obj.GetName()}, client.UnsafeDisableDeepCopy); err != nil {
			log.FromContext(ctx).Error(err, "Listing TenantFanOuts from the cache")
		}
		return fanOutRequests(list.Items)
	}
}

// relatives enqueues the fan-outs that wait for this one to be planned in order to retry it, and those of earlier ticks of
// the same schedule, which it may end.
func (r *tenantFanOutReconciler) relatives(ctx context.Context, obj client.Object) []reconcile.Request {
	all := r.unplanned(indexForSource)(ctx, obj)
	owner := controllerUID(obj, "TenantSchedule")
	if owner == "" {
		return all
	}
	siblings, err := r.fanOutsOf(ctx, owner)
	if err != nil {
		log.FromContext(ctx).Error(err, "Listing TenantFanOuts from the cache")
	}
	for i := range siblings {
		if f := &siblings[i]; f.Name != obj.GetName() && !hasEnded(f) {
			all = append(all, fanOutRequests(siblings[i:i+1])...)
		}
	}
	return all
}

func fanOutRequests(fanOuts []v1alpha1.TenantFanOut) []reconcile.Request {
	all := make([]reconcile.Request, 0, len(fanOuts))
	for i := range fanOuts {
		all = append(all, reconcile.Request{NamespacedName: keyOf(&fanOuts[i])})
	}
	return all
}

// planned is what relatives look at in a fan-out.
func planned(obj client.Object) any { return isPlanned(obj.(*v1alpha1.TenantFanOut)) }

// childMatters is what a fan-out looks at in a child.
func childMatters(obj client.Object) any {
	tj := obj.(*v1alpha1.TenantJob)
	reason := ""
	if c := meta.FindStatusCondition(tj.Status.Conditions, v1alpha1.ConditionSucceeded); c != nil {
		reason = string(c.Status) + c.Reason
	}
	return []any{reason, tj.Status.JobRef != nil}
}

// tenantStateMatters is what a fan-out looks at in a Tenant.
func tenantStateMatters(obj client.Object) any {
	t := obj.(*v1alpha1.Tenant)
	return []any{t.UID, fanout.TenantOf(t).State}
}
