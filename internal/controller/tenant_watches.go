package controller

import (
	"context"
	"time"

	"golang.org/x/time/rate"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
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
	"github.com/tenantry/tenantry/internal/job"
)

const (
	// countAfter is how far status.running may be behind, so that jobs that are over by then cost no write.
	countAfter = 15 * time.Second
	// countsPerSecond and countsAtOnce bound how many of them are brought up to date, so that a fan-out over thousands of
	// tenants does not cost each of them a write: it may be over by then.
	countsPerSecond, countsAtOnce = 10, 100
	// verifyAgain is how many turns pass at least before the same Tenant's is verified again.
	verifyAgain = 5
)

func setupTenant(mgr manager.Manager, d deps) error {
	jobs, err := openJobShelf(mgr.GetCache())
	if err != nil {
		return err
	}
	r := &tenantReconciler{deps: d, jobs: jobs}
	due := make(chan event.GenericEvent)
	verify := func(ctx context.Context, t *v1alpha1.Tenant) {
		r.due.Store(t.Name, true)
		select {
		case due <- event.GenericEvent{Object: t}:
		case <-ctx.Done():
		}
	}
	if err := mgr.Add(&verifier{d.Client, d.opts.Clock, d.opts.VerifyInterval, verify}); err != nil {
		return err
	}
	forgetDeleted := predicate.Funcs{DeleteFunc: func(e event.DeleteEvent) bool {
		d.metrics.ForgetTenant(e.Object.GetName())
		r.counting.Delete(e.Object.GetName())
		return true
	}}
	return builder.ControllerManagedBy(mgr).
		Named("tenant").
		For(&v1alpha1.Tenant{}, builder.WithPredicates(changed(tenantSaysAnew), forgetDeleted)).
		WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(tenantOf)).
		Watches(&batchv1.Job{}, r.countJobs()).
		Watches(&v1alpha1.TenantJobTemplate{}, handler.EnqueueRequestsFromMapFunc(r.everyTenant),
			builder.WithPredicates(memberDispatchChanged)).
		WatchesRawSource(source.Channel(due, &handler.EnqueueRequestForObject{})).
		WithOptions(d.opts.forController()).
		Complete(reconcile.AsReconciler(d.Client, r))
}

// tenantSaysAnew is what a Tenant is reconciled for: not its status, which is written here.
func tenantSaysAnew(obj client.Object) any {
	return []any{obj.GetGeneration(), obj.GetDeletionTimestamp(), obj.GetLabels(), obj.GetFinalizers()}
}

// memberDispatchChanged passes what changes which tenants' members may dispatch a template. Of most it is nobody's, ever.
var memberDispatchChanged = predicate.Funcs{
	CreateFunc: func(e event.CreateEvent) bool { return memberDispatchOf(e.Object) != nil },
	UpdateFunc: func(e event.UpdateEvent) bool {
		return !equality.Semantic.DeepEqual(memberDispatchOf(e.ObjectOld), memberDispatchOf(e.ObjectNew))
	},
	DeleteFunc: func(e event.DeleteEvent) bool { return memberDispatchOf(e.Object) != nil },
}

func memberDispatchOf(template client.Object) *v1alpha1.MemberDispatch {
	return template.(*v1alpha1.TenantJobTemplate).Spec.MemberDispatch
}

func tenantOf(_ context.Context, obj client.Object) []reconcile.Request {
	return []reconcile.Request{tenantRequest(obj)}
}

func tenantRequest(obj client.Object) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Name: obj.GetLabels()[v1alpha1.LabelTenant]}}
}

func (r *tenantReconciler) everyTenant(ctx context.Context, _ client.Object) []reconcile.Request {
	var all []reconcile.Request
	for _, t := range listTenants(ctx, r.Client) {
		all = append(all, reconcile.Request{NamespacedName: types.NamespacedName{Name: t.Name}})
	}
	return all
}

func listTenants(ctx context.Context, reader client.Reader) []v1alpha1.Tenant {
	var tenants v1alpha1.TenantList
	if err := reader.List(ctx, &tenants, client.UnsafeDisableDeepCopy); err != nil {
		log.FromContext(ctx).Error(err, "Listing Tenants from the cache")
	}
	return tenants.Items
}

// countJobs enqueues the tenant of a Job that has begun or ended: at once if somebody waits for that, else when the
// count has to be brought up to date.
func (r *tenantReconciler) countJobs() handler.EventHandler {
	pace := rate.NewLimiter(countsPerSecond, countsAtOnce)
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	enqueue := func(ctx context.Context, j client.Object, q queue) {
		request := tenantRequest(j)
		t := &v1alpha1.Tenant{}
		if err := r.Get(ctx, request.NamespacedName, t); err != nil {
			return
		}
		if t.Suspended() || t.DeletionTimestamp != nil {
			q.Add(request)
		} else if _, awaited := r.counting.LoadOrStore(t.Name, true); !awaited {
			q.AddAfter(request, countAfter+pace.Reserve().Delay())
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			if job.IsLive(e.Object.(*cachedJob).job()) {
				enqueue(ctx, e.Object, q)
			}
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if job.IsLive(e.ObjectOld.(*cachedJob).job()) && !job.IsLive(e.ObjectNew.(*cachedJob).job()) {
				enqueue(ctx, e.ObjectNew, q)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			if job.IsLive(e.Object.(*cachedJob).job()) {
				enqueue(ctx, e.Object, q)
			}
		},
	}
}

// verifier asks, turn by turn, for a look at everything in a tenant's namespace, which is not watched: two lists for
// each kind and tenant would weigh more than drift that waits a while, and policies prevent it in the first place.
type verifier struct {
	client.Reader
	clock clock.Clock
	// turn is the time from one Tenant to the next.
	turn   time.Duration
	verify func(context.Context, *v1alpha1.Tenant)
}

// Start runs until the context is done, on the leader only.
func (v *verifier) Start(ctx context.Context) error {
	for ctx.Err() == nil {
		tenants := listTenants(ctx, v)
		for i := range tenants {
			v.verify(ctx, tenants[i].DeepCopy())
			v.wait(ctx, v.turn)
		}
		v.wait(ctx, v.turn*time.Duration(max(0, verifyAgain-len(tenants))))
	}
	return nil
}

func (v *verifier) wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-v.clock.After(d):
	}
}
