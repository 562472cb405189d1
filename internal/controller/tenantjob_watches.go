package controller

import (
	"context"
	"math/bits"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/job"
)

// indexTemplate finds, by its template, the TenantJobs that have not started.
const indexTemplate = "unstarted-template"

func setupTenantJob(mgr manager.Manager, d deps) error {
	r := &tenantJobReconciler{deps: d}
	if err := r.openShelves(mgr.GetCache()); err != nil {
		return err
	}
	return builder.ControllerManagedBy(mgr).
		Named("tenantjob").
		// This only names the kind: what is watched has priorities of its own.
		For(&v1alpha1.TenantJob{}, builder.WithPredicates(predicate.NewPredicateFuncs(func(client.Object) bool { return false }))).
		Watches(&v1alpha1.TenantJob{}, handler.Funcs{CreateFunc: r.created, UpdateFunc: r.updated}).
		Owns(&batchv1.Job{}, builder.WithPredicates(predicate.Funcs{CreateFunc: r.isNews})).
		WatchesRawSource(source.Func(r.called)).
		Watches(&v1alpha1.Tenant{}, handler.EnqueueRequestsFromMapFunc(r.ofTenant), builder.WithPredicates(changed(tenantMatters))).
		Watches(&v1alpha1.TenantJobTemplate{}, handler.EnqueueRequestsFromMapFunc(r.ofTemplate), builder.WithPredicates(changed(templateMatters))).
		WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.inNamespace), builder.WithPredicates(changed(namespaceMatters))).
		WithOptions(d.opts.forController()).
		Complete(r)
}

// isNews says whether a Job that the cache did not have tells its TenantJob anything. Whoever has just made it looks at it
// in a moment anyway.
func (r *tenantJobReconciler) isNews(e event.CreateEvent) bool {
	c, ok := e.Object.(*cachedJob)
	return !ok || !job.IsLive(c.job()) || r.opts.Clock.Since(c.CreationTimestamp.Time) > job.SettleAfter
}

func (r *tenantJobReconciler) openShelves(c cache.Cache) (err error) {
	if r.jobs, err = openJobShelf(c); err != nil {
		return err
	}
	if r.tenantJobs, err = openShelf[*v1alpha1.TenantJob](c, &v1alpha1.TenantJob{}, toolscache.Indexers{indexTemplate: unstartedOf}); err != nil {
		return err
	}
	if r.tenants, err = openShelf[*v1alpha1.Tenant](c, &v1alpha1.Tenant{}, nil); err != nil {
		return err
	}
	if r.templates, err = openShelf[*v1alpha1.TenantJobTemplate](c, &v1alpha1.TenantJobTemplate{}, nil); err != nil {
		return err
	}
	r.namespaces, err = openShelf[*metav1.PartialObjectMetadata](c, namespaceMetadata(""), nil)
	return err
}

// unstartedOf is the template of a TenantJob that has not started and is not over.
func unstartedOf(obj any) ([]string, error) {
	tj, ok := obj.(*v1alpha1.TenantJob)
	if !ok || tj.Status.JobRef != nil || job.IsOver(tj) {
		return nil, nil
	}
	return []string{tj.Spec.TemplateRef.Name}, nil
}

func (r *tenantJobReconciler) ofTemplate(_ context.Context, template client.Object) []reconcile.Request {
	return requests(r.tenantJobs.by(indexTemplate, template.GetName()))
}

func (r *tenantJobReconciler) ofTenant(_ context.Context, tenant client.Object) []reconcile.Request {
	return requests(r.tenantJobs.by(toolscache.NamespaceIndex, tenant.(*v1alpha1.Tenant).NamespaceName()))
}

func (r *tenantJobReconciler) inNamespace(_ context.Context, namespace client.Object) []reconcile.Request {
	return requests(r.tenantJobs.by(toolscache.NamespaceIndex, namespace.GetName()))
}

// called has the dispatcher enqueue those that it calls.
func (r *tenantJobReconciler) called(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	r.dispatcher.CallThrough(func(s summons) { enqueue(queue, s.NamespacedName, s.priority) })
	return nil
}

func (r *tenantJobReconciler) created(_ context.Context, e event.CreateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	if e.IsInInitialList {
		queue.Add(reconcile.Request{NamespacedName: keyOf(e.Object)})
		return
	}
	enqueue(queue, keyOf(e.Object), r.priorityOf(e.Object))
}

func (r *tenantJobReconciler) updated(_ context.Context, e event.UpdateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	enqueue(queue, keyOf(e.ObjectNew), r.priorityOf(e.ObjectNew))
}

// priorityOf a TenantJob is the lower the more of its tenant's wait, so that those of others are not looked at after all of
// a flood.
func (r *tenantJobReconciler) priorityOf(obj client.Object) int {
	return -bits.Len(uint(r.dispatcher.Waiting(obj.(*v1alpha1.TenantJob).Spec.TenantRef.Name)))
}

// Priorities. Those that have just been made are between 0 and minus the bits of how many of their tenant's wait.
const (
	// calledFirst: they have a slot.
	calledFirst = 10
	// startedLater: the first words about those that have started.
	startedLater = -20
	// toldLast: what is said of those that wait.
	toldLast = -30
)

func enqueue(queue workqueue.TypedRateLimitingInterface[reconcile.Request], key types.NamespacedName, priority int) {
	request := reconcile.Request{NamespacedName: key}
	if by, ok := queue.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
		by.AddWithOpts(priorityqueue.AddOpts{Priority: &priority}, request)
		return
	}
	queue.Add(request)
}

// requests for those that are not over.
func requests(tenantJobs []*v1alpha1.TenantJob) []reconcile.Request {
	var all []reconcile.Request
	for _, tj := range tenantJobs {
		if !job.IsOver(tj) {
			all = append(all, reconcile.Request{NamespacedName: keyOf(tj)})
		}
	}
	return all
}

// changed passes updates that change what matters, and all creations and deletions.
func changed(matters func(client.Object) any) predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !equality.Semantic.DeepEqual(matters(e.ObjectOld), matters(e.ObjectNew))
	}}
}

// tenantMatters is what TenantJobs look at in their Tenant: not how many of them run.
func tenantMatters(obj client.Object) any {
	tenant := obj.(*v1alpha1.Tenant)
	return []any{tenant.Generation, tenant.DeletionTimestamp, tenant.Status.Namespace, conditions.Ready(tenant.Status.Conditions)}
}

func templateMatters(obj client.Object) any {
	template := obj.(*v1alpha1.TenantJobTemplate)
	return []any{template.Generation, conditions.Ready(template.Status.Conditions)}
}

func namespaceMatters(obj client.Object) any {
	return []any{obj.GetLabels()[v1alpha1.LabelTenant], obj.GetLabels()[v1alpha1.LabelState], obj.GetAnnotations()[v1alpha1.AnnotationTenantUID]}
}
