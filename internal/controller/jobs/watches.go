package jobs

import (
	"context"
	"math/bits"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/dispatch"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
)

// indexTemplate finds, by its template, the TenantJobs that have not started.
const indexTemplate = "unstarted-template"

// indexAwaiting finds the TenantJobs that wait for credentials.
const indexAwaiting = "awaiting-credentials"

// listers read what is in the cache.
type listers struct {
	jobs       kube.JobLister
	tenantJobs kube.Lister[*v1alpha1.TenantJob]
	tenants    kube.Lister[*v1alpha1.Tenant]
	templates  kube.Lister[*v1alpha1.TenantJobTemplate]
	namespaces kube.Lister[*metav1.PartialObjectMetadata]
}

func newListers(c cache.Cache) (l listers, err error) {
	if l.jobs, err = kube.NewJobLister(c); err != nil {
		return l, err
	}
	if l.tenantJobs, err = kube.NewLister[*v1alpha1.TenantJob](c, &v1alpha1.TenantJob{}, toolscache.Indexers{indexTemplate: unstartedOf, indexAwaiting: awaiting}); err != nil {
		return l, err
	}
	if l.tenants, err = kube.NewLister[*v1alpha1.Tenant](c, &v1alpha1.Tenant{}, nil); err != nil {
		return l, err
	}
	if l.templates, err = kube.NewLister[*v1alpha1.TenantJobTemplate](c, &v1alpha1.TenantJobTemplate{}, nil); err != nil {
		return l, err
	}
	l.namespaces, err = kube.NewLister[*metav1.PartialObjectMetadata](c, kube.NamespaceMetadata(""), nil)
	return l, err
}

// SetupWithManager adds the controller to a manager.
func (r *Reconciler) SetupWithManager(mgr manager.Manager, opts controller.Options) error {
	var err error
	r.shares = kube.NewShares()
	if r.listers, err = newListers(mgr.GetCache()); err != nil {
		return err
	}
	return builder.ControllerManagedBy(mgr).
		Named("tenantjob").
		// This only names the kind: what is watched has priorities of its own.
		For(&v1alpha1.TenantJob{}, builder.WithPredicates(predicate.NewPredicateFuncs(func(client.Object) bool { return false }))).
		Watches(&v1alpha1.TenantJob{}, handler.Funcs{CreateFunc: r.created, UpdateFunc: r.updated}).
		Owns(&batchv1.Job{}, builder.WithPredicates(predicate.Funcs{CreateFunc: r.isNews})).
		Watches(&batchv1.Job{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool { return job.IsOrphan(o) }))).
		WatchesRawSource(source.Func(r.requested)).
		Watches(&v1alpha1.Tenant{}, handler.EnqueueRequestsFromMapFunc(r.ofTenant), builder.WithPredicates(kube.Changed(tenantChange))).
		Watches(&v1alpha1.TenantJobTemplate{}, handler.EnqueueRequestsFromMapFunc(r.ofTemplate), builder.WithPredicates(kube.Changed(kube.TemplateChange))).
		WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.inNamespace), builder.WithPredicates(kube.Changed(namespaceChange))).
		WithOptions(opts).
		Complete(kube.BackOff(r))
}

// isNews says whether a Job that the cache did not have changes anything for its TenantJob. A Job that was just made does
// not: the pass that made it knows.
func (r *Reconciler) isNews(e event.CreateEvent) bool {
	c, ok := e.Object.(*kube.CachedJob)
	return !ok || !job.IsLive(c.Job()) || r.Clock.Since(c.CreationTimestamp.Time) > job.SettleAfter
}

// unstartedOf is the template of a TenantJob that has not started and is not over.
func unstartedOf(obj any) ([]string, error) {
	tj, ok := obj.(*v1alpha1.TenantJob)
	if !ok || tj.Status.JobRef != nil || job.IsOver(tj) {
		return nil, nil
	}
	return []string{tj.Spec.TemplateRef.Name}, nil
}

// awaiting says whether a TenantJob waits for credentials.
func awaiting(obj any) ([]string, error) {
	tj, ok := obj.(*v1alpha1.TenantJob)
	if !ok || succeeded(tj).Reason != v1alpha1.ReasonIssuingCredentials {
		return nil, nil
	}
	return []string{""}, nil
}

func (r *Reconciler) ofTemplate(_ context.Context, template client.Object) []reconcile.Request {
	return requests(r.tenantJobs.By(indexTemplate, template.GetName()))
}

func (r *Reconciler) ofTenant(_ context.Context, tenant client.Object) []reconcile.Request {
	return requests(r.tenantJobs.In(tenant.(*v1alpha1.Tenant).NamespaceName()))
}

func (r *Reconciler) inNamespace(_ context.Context, namespace client.Object) []reconcile.Request {
	return requests(r.tenantJobs.In(namespace.GetName()))
}

// requested enqueues the TenantJobs that the dispatcher requests, and those whose credentials are issued or revoked.
func (r *Reconciler) requested(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	r.Dispatcher.SendRequests(func(req dispatch.Request) { kube.Enqueue(queue, req.NamespacedName, req.Priority) })
	r.Credentials.SendRequests(
		func(key types.NamespacedName) { kube.Enqueue(queue, key, dispatch.PriorityAdmitted) },
		func() {
			for _, tj := range r.tenantJobs.By(indexAwaiting, "") {
				kube.Enqueue(queue, kube.KeyOf(tj), r.priorityOf(tj))
			}
		},
	)
	return nil
}

func (r *Reconciler) created(_ context.Context, e event.CreateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	if e.IsInInitialList {
		queue.Add(reconcile.Request{NamespacedName: kube.KeyOf(e.Object)})
		return
	}
	kube.Enqueue(queue, kube.KeyOf(e.Object), r.priorityOf(e.Object))
}

func (r *Reconciler) updated(_ context.Context, e event.UpdateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	kube.Enqueue(queue, kube.KeyOf(e.ObjectNew), r.priorityOf(e.ObjectNew))
}

// priorityOf a TenantJob is the lower the more of its tenant's wait, so that those of others are not reconciled after all
// of a flood. It lies between dispatch.PriorityAdmitted and dispatch.PriorityStarted.
func (r *Reconciler) priorityOf(obj client.Object) int {
	return -bits.Len(uint(r.Dispatcher.Waiting(obj.(*v1alpha1.TenantJob).Spec.TenantRef.Name)))
}

// requests for those that are not over.
func requests(tenantJobs []*v1alpha1.TenantJob) []reconcile.Request {
	var all []reconcile.Request
	for _, tj := range tenantJobs {
		if !job.IsOver(tj) {
			all = append(all, reconcile.Request{NamespacedName: kube.KeyOf(tj)})
		}
	}
	return all
}

// tenantChange is what TenantJobs look at in their Tenant: not how many of them run.
func tenantChange(obj client.Object) any {
	tenant := obj.(*v1alpha1.Tenant)
	return []any{tenant.Generation, tenant.DeletionTimestamp, tenant.Status.Namespace, conditions.Ready(tenant.Status.Conditions)}
}

func namespaceChange(obj client.Object) any {
	return []any{obj.GetLabels()[v1alpha1.LabelTenant], obj.GetLabels()[v1alpha1.LabelState], obj.GetAnnotations()[v1alpha1.AnnotationTenantUID]}
}
