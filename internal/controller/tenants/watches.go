package tenants

import (
	"context"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
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
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
)

const (
	// verifyAgain is how many turns pass at least before the same Tenant's is verified again.
	verifyAgain = 5
)

// SetupWithManager adds the controller to a manager.
func (r *Reconciler) SetupWithManager(mgr manager.Manager, opts controller.Options) error {
	r.requests = make(chan event.GenericEvent)
	var err error
	if r.tenants, err = kube.NewLister[*v1alpha1.Tenant](mgr.GetCache(), &v1alpha1.Tenant{}, nil); err != nil {
		return err
	}
	if r.jobs, err = kube.NewJobLister(mgr.GetCache()); err != nil {
		return err
	}
	if err := mgr.Add(&verifier{r.Client, r.Clock, r.VerifyInterval, r.verify}); err != nil {
		return err
	}
	if err := mgr.Add(manager.RunnableFunc(r.keepCounts)); err != nil {
		return err
	}
	return builder.ControllerManagedBy(mgr).
		Named("tenant").
		For(&v1alpha1.Tenant{}, builder.WithPredicates(kube.Changed(specChange), kube.OnDelete(r.Forget, true))).
		WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(tenantOf)).
		Watches(&batchv1.Job{}, r.jobsChange()).
		Watches(&v1alpha1.TenantJobTemplate{}, handler.EnqueueRequestsFromMapFunc(r.everyTenant),
			builder.WithPredicates(memberDispatchChanged)).
		WatchesRawSource(source.Channel(r.requests, &handler.EnqueueRequestForObject{})).
		WithOptions(opts).
		Complete(reconcile.AsReconciler(r.Client.Client, r))
}

// look has a Tenant looked at. It waits until the watch of the Tenants takes that.
func (r *Reconciler) look(ctx context.Context, t *v1alpha1.Tenant) {
	select {
	case r.requests <- event.GenericEvent{Object: t}:
	case <-ctx.Done():
	}
}

// verify has a Tenant's namespace compared with its spec object by object.
func (r *Reconciler) verify(ctx context.Context, t *v1alpha1.Tenant) {
	r.due.Store(t.Name, true)
	r.look(ctx, t)
}

// specChange is what a Tenant is reconciled for: not its status, which is written here.
func specChange(obj client.Object) any {
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

func (r *Reconciler) everyTenant(ctx context.Context, _ client.Object) []reconcile.Request {
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

// jobsChange enqueues the tenant of a Job that has begun or ended, if somebody waits for that. Else it is counted later.
func (r *Reconciler) jobsChange() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	enqueue := func(j client.Object, q queue) {
		request := tenantRequest(j)
		switch t, exists := r.tenants.Get(request.NamespacedName); {
		case !exists:
		case t.Suspended(), t.DeletionTimestamp != nil:
			q.Add(request)
		default:
			r.counts.add(t.Name, r.Clock.Now())
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			if job.IsLive(e.Object.(*kube.CachedJob).Job()) {
				enqueue(e.Object, q)
			}
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if job.IsLive(e.ObjectOld.(*kube.CachedJob).Job()) && !job.IsLive(e.ObjectNew.(*kube.CachedJob).Job()) {
				enqueue(e.ObjectNew, q)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			if job.IsLive(e.Object.(*kube.CachedJob).Job()) {
				enqueue(e.Object, q)
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
