package fanouts

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
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
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/kube"
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

// SetupWithManager adds the controller to a manager, whose cache must have the indexes of kube.IndexFanOuts.
func (r *Reconciler) SetupWithManager(mgr manager.Manager, opts controller.Options) error {
	var err error
	if r.tenants, err = kube.NewLister[*v1alpha1.Tenant](mgr.GetCache(), &v1alpha1.Tenant{}, nil); err != nil {
		return err
	}
	if r.tenantJobs, err = kube.NewLister[*v1alpha1.TenantJob](mgr.GetCache(), &v1alpha1.TenantJob{}, nil); err != nil {
		return err
	}
	opts.RateLimiter = workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](staleAfter, longestBackoff)
	return builder.ControllerManagedBy(mgr).
		Named("tenantfanout").
		For(&v1alpha1.TenantFanOut{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.TenantFanOut{}, handler.EnqueueRequestsFromMapFunc(r.relatives), builder.WithPredicates(kube.Changed(planned))).
		Watches(&v1alpha1.TenantJob{}, r.gathered(r.parent), builder.WithPredicates(kube.Changed(childChange))).
		Watches(&v1alpha1.Tenant{}, r.gathered(r.undecided), builder.WithPredicates(kube.Changed(tenantChange))).
		Watches(&v1alpha1.TenantJobTemplate{}, handler.EnqueueRequestsFromMapFunc(r.awaitingTemplate),
			builder.WithPredicates(kube.Changed(kube.TemplateChange))).
		WithOptions(opts).
		Complete(r)
}

// gathered enqueues fan-outs a moment later, the longer the more tenants they have.
func (r *Reconciler) gathered(names func(client.Object) []string) handler.EventHandler {
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
func (r *Reconciler) parent(tj client.Object) []string {
	if uid := kube.ControllerUID(tj, "TenantFanOut"); uid == "" || !r.known.has(tj.GetName(), uid) {
		return nil
	}
	return []string{tj.GetName()}
}

func (r *Reconciler) undecided(tenant client.Object) []string {
	return r.known.waitingFor(tenant.GetName())
}

// awaitingTemplate enqueues the fan-outs that wait for a template to seal their plan.
func (r *Reconciler) awaitingTemplate(ctx context.Context, template client.Object) []reconcile.Request {
	return requests(logged(ctx)(kube.FanOutsAwaitingTemplate(ctx, r.Client, template.GetName())))
}

// relatives enqueues the fan-outs that wait for this one to be planned in order to retry it, and those of earlier ticks of
// the same schedule, which it may end.
func (r *Reconciler) relatives(ctx context.Context, obj client.Object) []reconcile.Request {
	all := requests(logged(ctx)(kube.FanOutsAwaitingSource(ctx, r.Client, obj.GetName())))
	owner := kube.ControllerUID(obj, "TenantSchedule")
	if owner == "" {
		return all
	}
	siblings := logged(ctx)(kube.FanOutsOfSchedule(ctx, r.Client, owner))
	for i := range siblings {
		if f := &siblings[i]; f.Name != obj.GetName() && !hasEnded(f) {
			all = append(all, requests(siblings[i:i+1])...)
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

// logged logs the error of a list, which the cache gives none.
func logged(ctx context.Context) func([]v1alpha1.TenantFanOut, error) []v1alpha1.TenantFanOut {
	return func(fanOuts []v1alpha1.TenantFanOut, err error) []v1alpha1.TenantFanOut {
		if err != nil {
			log.FromContext(ctx).Error(err, "Listing TenantFanOuts from the cache")
		}
		return fanOuts
	}
}

// planned is what relatives look at in a fan-out.
func planned(obj client.Object) any { return isPlanned(obj.(*v1alpha1.TenantFanOut)) }

// childChange is what a fan-out looks at in a child.
func childChange(obj client.Object) any {
	tj := obj.(*v1alpha1.TenantJob)
	reason := ""
	if c := meta.FindStatusCondition(tj.Status.Conditions, v1alpha1.ConditionSucceeded); c != nil {
		reason = string(c.Status) + c.Reason
	}
	return []any{reason, tj.Status.JobRef != nil}
}

// tenantChange is what a fan-out looks at in a Tenant.
func tenantChange(obj client.Object) any {
	t := obj.(*v1alpha1.Tenant)
	return []any{t.UID, fanout.TenantOf(t).State}
}
