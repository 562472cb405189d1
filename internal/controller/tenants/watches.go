package tenants

import (
	"context"
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
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
	"github.com/tenantry/tenantry/internal/tenant"
)

const (
	// indexExternalID finds Tenants by their external id.
	indexExternalID = "external-id"
	// indexDatabase finds Tenants by the databases that they name as their own.
	indexDatabase = "database"
	// indexProvider finds Tenants by the CredentialProviders of these databases.
	indexProvider = "provider"
)

var indexes = toolscache.Indexers{
	indexExternalID: by(func(t *v1alpha1.Tenant) []string { return []string{tenant.CanonicalExternalID(t.ExternalID())} }),
	indexDatabase:   by(tenant.DatabaseKeys),
	indexProvider:   by(providersOfDatabases),
}

func by(keys func(*v1alpha1.Tenant) []string) toolscache.IndexFunc {
	return func(obj any) ([]string, error) {
		if t, ok := obj.(*v1alpha1.Tenant); ok {
			return keys(t), nil
		}
		return nil, nil
	}
}

func providersOfDatabases(t *v1alpha1.Tenant) []string {
	var names []string
	for _, c := range t.Spec.Credentials {
		if c.Postgres != nil {
			names = append(names, c.ProviderRef.Name)
		}
	}
	return names
}

// SetupWithManager adds the controller to a manager.
func (r *Reconciler) SetupWithManager(mgr manager.Manager, opts controller.Options) error {
	r.requests = make(chan event.GenericEvent)
	var err error
	if r.tenants, err = kube.NewLister[*v1alpha1.Tenant](mgr.GetCache(), &v1alpha1.Tenant{}, indexes); err != nil {
		return err
	}
	if r.jobs, err = kube.NewJobLister(mgr.GetCache()); err != nil {
		return err
	}
	if err := mgr.Add(&verifier{r.Client, r.Clock, r.VerifyInterval, r.requestVerification}); err != nil {
		return err
	}
	if err := mgr.Add(manager.RunnableFunc(r.refreshCounts)); err != nil {
		return err
	}
	return builder.ControllerManagedBy(mgr).
		Named("tenant").
		For(&v1alpha1.Tenant{}, builder.WithPredicates(kube.Changed(tenantChange), kube.OnDelete(r.forget, true))).
		Watches(&v1alpha1.Tenant{}, handler.EnqueueRequestsFromMapFunc(r.withSameExternalID), builder.WithPredicates(createdOrDeleted)).
		Watches(&v1alpha1.Tenant{}, handler.EnqueueRequestsFromMapFunc(r.withSameDatabase), builder.WithPredicates(kube.Changed(databasesChange))).
		Watches(&v1alpha1.CredentialProvider{}, handler.EnqueueRequestsFromMapFunc(r.withDatabasesOfProvider), builder.WithPredicates(createdOrDeleted)).
		WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(tenantOfLabel)).
		Watches(&batchv1.Job{}, r.jobHandler()).
		Watches(&v1alpha1.TenantJobTemplate{}, handler.EnqueueRequestsFromMapFunc(r.allTenants),
			builder.WithPredicates(memberDispatchChanged)).
		WatchesRawSource(source.Func(r.whenPoliciesChange)).
		WatchesRawSource(source.Channel(r.requests, &handler.EnqueueRequestForObject{})).
		WithOptions(opts).
		Complete(kube.BackOff(reconcile.AsReconciler(r.Client.Client, r)))
}

// whenPoliciesChange enqueues all Tenants when it becomes known that the admission policies are in force, or that they are not. Their
// other events come first.
func (r *Reconciler) whenPoliciesChange(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	r.Policies.OnChange(func() {
		for _, t := range listTenants(ctx, r.Client) {
			kube.Enqueue(queue, types.NamespacedName{Name: t.Name}, handler.LowPriority)
		}
	})
	return nil
}

// request requests the reconciliation of a Tenant. It waits until the watch takes the request.
func (r *Reconciler) request(ctx context.Context, t *v1alpha1.Tenant) {
	select {
	case r.requests <- event.GenericEvent{Object: t}:
	case <-ctx.Done():
	}
}

// tenantChange is what a Tenant is reconciled for. Of its status only the copied Secrets are in it, since the Issuer writes them: a new
// one makes an older one superfluous.
func tenantChange(obj client.Object) any {
	return []any{obj.GetGeneration(), obj.GetDeletionTimestamp(), obj.GetLabels(), obj.GetFinalizers(), obj.(*v1alpha1.Tenant).Status.CopiedSecrets}
}

// createdOrDeleted passes no updates: neither an external id nor a provider's server ever changes.
var createdOrDeleted = predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }}

// withSameExternalID enqueues the other Tenants that have the external id of one that was created or deleted.
func (r *Reconciler) withSameExternalID(_ context.Context, obj client.Object) []reconcile.Request {
	return requestsOfOthers(obj, r.tenants.By(indexExternalID, tenant.CanonicalExternalID(obj.(*v1alpha1.Tenant).ExternalID())))
}

// databasesChange is what other Tenants look at in a Tenant that has databases of its own.
func databasesChange(obj client.Object) any { return databasesOf(obj.(*v1alpha1.Tenant)) }

func databasesOf(t *v1alpha1.Tenant) []v1alpha1.TenantCredential {
	return slices.DeleteFunc(slices.Clone(t.Spec.Credentials), func(c v1alpha1.TenantCredential) bool { return c.Postgres == nil })
}

// postgresProviders are the settings of the CredentialProviders of kind postgres, by name. They are empty for a Tenant without a database
// of its own.
func (r *Reconciler) postgresProviders(ctx context.Context, t *v1alpha1.Tenant) (map[string]*v1alpha1.PostgresProvider, error) {
	if len(databasesOf(t)) == 0 {
		return nil, nil
	}
	var list v1alpha1.CredentialProviderList
	if err := r.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing CredentialProviders: %w", err)
	}
	providers := map[string]*v1alpha1.PostgresProvider{}
	for i := range list.Items {
		if p := list.Items[i].Spec.Postgres; p != nil {
			providers[list.Items[i].Name] = p
		}
	}
	return providers, nil
}

// namingDatabasesOf are the Tenants that name one of the databases of a Tenant, and some more.
func (r *Reconciler) namingDatabasesOf(t *v1alpha1.Tenant, providers map[string]*v1alpha1.PostgresProvider) []*v1alpha1.Tenant {
	var all []*v1alpha1.Tenant
	for _, key := range tenant.OverlappingKeys(t, providers) {
		all = append(all, r.tenants.By(indexDatabase, key)...)
	}
	return all
}

// withSameDatabase enqueues the other Tenants that name a database of one that was created, changed or deleted.
func (r *Reconciler) withSameDatabase(ctx context.Context, obj client.Object) []reconcile.Request {
	t := obj.(*v1alpha1.Tenant)
	providers, err := r.postgresProviders(ctx, t)
	if err != nil {
		log.FromContext(ctx).Error(err, "Looking for Tenants that name the same database", "tenant", klog.KObj(t))
	}
	return requestsOfOthers(t, r.namingDatabasesOf(t, providers))
}

// withDatabasesOfProvider enqueues the Tenants that name a database of their own by way of a provider.
func (r *Reconciler) withDatabasesOfProvider(_ context.Context, obj client.Object) []reconcile.Request {
	return requestsOfOthers(obj, r.tenants.By(indexProvider, obj.GetName()))
}

func requestsOfOthers(than client.Object, all []*v1alpha1.Tenant) []reconcile.Request {
	var others []reconcile.Request
	for _, t := range all {
		if t.UID != than.GetUID() {
			others = append(others, reconcile.Request{NamespacedName: kube.KeyOf(t)})
		}
	}
	return others
}

// memberDispatchChanged passes the events of a template that change which tenants' members may dispatch it. Most templates have
// none: no member may dispatch them.
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

func tenantOfLabel(_ context.Context, obj client.Object) []reconcile.Request {
	return []reconcile.Request{requestOf(obj)}
}

func requestOf(obj client.Object) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Name: obj.GetLabels()[v1alpha1.LabelTenant]}}
}

func (r *Reconciler) allTenants(ctx context.Context, _ client.Object) []reconcile.Request {
	var all []reconcile.Request
	for _, t := range listTenants(ctx, r.Client) {
		all = append(all, reconcile.Request{NamespacedName: types.NamespacedName{Name: t.Name}})
	}
	return all
}

// jobHandler handles the start and the end of Jobs. A tenant that is being suspended or deleted waits for the end, and is
// enqueued, and so is one whose run has had an old copy of a Secret. Any other tenant is counted later.
func (r *Reconciler) jobHandler() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	handle := func(obj client.Object, q queue) {
		request := requestOf(obj)
		switch t, exists := r.tenants.Get(request.NamespacedName); {
		case !exists:
		case t.Suspended(), t.DeletionTimestamp != nil, hasOldCopy(obj.(*kube.CachedJob), t):
			q.Add(request)
		default:
			r.counts.add(t.Name, r.Clock.Now())
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			if isUnfinished(e.Object) {
				handle(e.Object, q)
			}
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if isUnfinished(e.ObjectOld) && !isUnfinished(e.ObjectNew) {
				handle(e.ObjectNew, q)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			if isUnfinished(e.Object) {
				handle(e.Object, q)
			}
		},
	}
}

// hasOldCopy says whether a Job mounts a copy of a Secret that no further run of its tenant gets.
func hasOldCopy(j *kube.CachedJob, t *v1alpha1.Tenant) bool {
	return len(j.Copies) > 0 && slices.ContainsFunc(tenant.OldCopies(t), func(c v1alpha1.CopiedSecret) bool { return slices.Contains(j.Copies, c.Name) })
}

func isUnfinished(obj client.Object) bool { return job.IsLive(obj.(*kube.CachedJob).Job()) }
