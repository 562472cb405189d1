package controller

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
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
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
)

// Indexes of the cache. Those of TenantJobs leave out what is over, so that they stay as small as what is going on.
const (
	indexTenant   = "unfinished-tenant"
	indexTemplate = "unstarted-template"
	indexOpen     = "unfinished"
)

func setupTenantJob(mgr manager.Manager, d deps) error {
	if err := indexTenantJobs(mgr.GetFieldIndexer()); err != nil {
		return err
	}
	r := &tenantJobReconciler{d}
	return builder.ControllerManagedBy(mgr).
		Named("tenantjob").
		For(&v1alpha1.TenantJob{}, builder.WithPredicates(predicate.Funcs{DeleteFunc: func(event.DeleteEvent) bool { return false }})).
		Owns(&batchv1.Job{}).
		WatchesRawSource(source.Func(r.called)).
		Watches(&v1alpha1.Tenant{}, r.unfinished(indexTenant), builder.WithPredicates(changed(tenantMatters))).
		Watches(&v1alpha1.TenantJobTemplate{}, r.unfinished(indexTemplate), builder.WithPredicates(changed(templateMatters))).
		WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.inNamespace), builder.WithPredicates(changed(namespaceMatters))).
		WithOptions(d.opts.forController()).
		Complete(reconcile.AsReconciler(d.Client, r))
}

func indexTenantJobs(indexer client.FieldIndexer) error {
	open := func(key func(*v1alpha1.TenantJob) string) client.IndexerFunc {
		return func(obj client.Object) []string {
			tj := obj.(*v1alpha1.TenantJob)
			if value := key(tj); value != "" && !job.IsOver(tj) {
				return []string{value}
			}
			return nil
		}
	}
	indexes := map[string]client.IndexerFunc{
		indexTenant: open(func(tj *v1alpha1.TenantJob) string { return tj.Spec.TenantRef.Name }),
		indexOpen:   open(func(*v1alpha1.TenantJob) string { return "true" }),
		indexTemplate: open(func(tj *v1alpha1.TenantJob) string {
			if tj.Status.JobRef != nil {
				return ""
			}
			return tj.Spec.TemplateRef.Name
		}),
	}
	for name, index := range indexes {
		if err := indexer.IndexField(context.Background(), &v1alpha1.TenantJob{}, name, index); err != nil {
			return fmt.Errorf("indexing TenantJobs by %s: %w", name, err)
		}
	}
	return nil
}

// unfinished enqueues the TenantJobs that an index finds under an object's name.
func (r *tenantJobReconciler) unfinished(index string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, obj client.Object) []reconcile.Request {
		return requests(r.list(ctx, client.MatchingFields{index: obj.GetName()}))
	})
}

func (r *tenantJobReconciler) inNamespace(ctx context.Context, namespace client.Object) []reconcile.Request {
	return requests(r.list(ctx, client.InNamespace(namespace.GetName()), client.MatchingFields{indexOpen: "true"}))
}

// called has the dispatcher enqueue those that it calls.
func (r *tenantJobReconciler) called(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	r.dispatcher.CallThrough(func(key types.NamespacedName) { queue.Add(reconcile.Request{NamespacedName: key}) })
	return nil
}

func (r *tenantJobReconciler) list(ctx context.Context, opts ...client.ListOption) []v1alpha1.TenantJob {
	var list v1alpha1.TenantJobList
	if err := r.List(ctx, &list, append(opts, client.UnsafeDisableDeepCopy)...); err != nil {
		log.FromContext(ctx).Error(err, "Listing TenantJobs from the cache")
	}
	return list.Items
}

func requests(tenantJobs []v1alpha1.TenantJob) []reconcile.Request {
	all := make([]reconcile.Request, 0, len(tenantJobs))
	for i := range tenantJobs {
		all = append(all, reconcile.Request{NamespacedName: keyOf(&tenantJobs[i])})
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
	return []any{tenant.Generation, tenant.DeletionTimestamp, tenant.Status.Namespace, readiness(tenant.Status.Conditions)}
}

func templateMatters(obj client.Object) any {
	template := obj.(*v1alpha1.TenantJobTemplate)
	return []any{template.Generation, readiness(template.Status.Conditions)}
}

func namespaceMatters(obj client.Object) any {
	return []any{obj.GetLabels()[v1alpha1.LabelTenant], obj.GetLabels()[v1alpha1.LabelState], obj.GetAnnotations()[v1alpha1.AnnotationTenantUID]}
}
