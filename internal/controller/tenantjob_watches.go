package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
)

// Indexes of the cache. Those of TenantJobs leave out what is over, so that they stay as small as what is going on.
const (
	indexTenant   = "unfinished-tenant"
	indexTemplate = "unstarted-template"
	indexOpen     = "unfinished"
	indexQueued   = "queued"
	indexLive     = "live"
)

func setupTenantJob(mgr manager.Manager, d deps) error {
	if err := indexTenantJobs(mgr.GetFieldIndexer()); err != nil {
		return err
	}
	r := &tenantJobReconciler{d}
	forgetDeleted := predicate.Funcs{DeleteFunc: func(e event.DeleteEvent) bool {
		d.starts.Forget(e.Object.GetUID())
		return false
	}}
	return builder.ControllerManagedBy(mgr).
		Named("tenantjob").
		For(&v1alpha1.TenantJob{}, builder.WithPredicates(forgetDeleted)).
		Owns(&batchv1.Job{}).
		Watches(&batchv1.Job{}, handler.EnqueueRequestsFromMapFunc(r.nextQueued), builder.WithPredicates(slotFreed)).
		Watches(&v1alpha1.TenantJob{}, handler.EnqueueRequestsFromMapFunc(r.nextQueued), builder.WithPredicates(leftQueue)).
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
		indexQueued: open(func(tj *v1alpha1.TenantJob) string {
			if !isQueued(tj) {
				return ""
			}
			return "true"
		}),
	}
	for name, index := range indexes {
		if err := indexer.IndexField(context.Background(), &v1alpha1.TenantJob{}, name, index); err != nil {
			return fmt.Errorf("indexing TenantJobs by %s: %w", name, err)
		}
	}
	live := func(obj client.Object) []string {
		if job.IsLive(obj.(*batchv1.Job)) {
			return []string{"true"}
		}
		return nil
	}
	if err := indexer.IndexField(context.Background(), &batchv1.Job{}, indexLive, live); err != nil {
		return fmt.Errorf("indexing Jobs by %s: %w", indexLive, err)
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

// nextQueued enqueues, when a slot of a tenant is free again, those that wait for it: by priority, then the oldest.
func (r *tenantJobReconciler) nextQueued(ctx context.Context, freed client.Object) []reconcile.Request {
	queued := r.list(ctx, client.InNamespace(freed.GetNamespace()), client.MatchingFields{indexQueued: "true"})
	if len(queued) == 0 {
		return nil
	}
	var tenant v1alpha1.Tenant
	if err := r.Get(ctx, types.NamespacedName{Name: queued[0].Spec.TenantRef.Name}, &tenant); err != nil {
		return nil // when it comes, all of its TenantJobs are looked at
	}
	templates := map[string]*v1alpha1.TenantJobTemplate{}
	for i := range queued {
		name := queued[i].Spec.TemplateRef.Name
		if _, known := templates[name]; !known {
			templates[name], _ = found(ctx, r.Client, types.NamespacedName{Name: name}, &v1alpha1.TenantJobTemplate{})
		}
	}
	rank := func(tj v1alpha1.TenantJob) int {
		if template := templates[tj.Spec.TemplateRef.Name]; template != nil {
			return job.PriorityRank(template.Spec.Priority)
		}
		return 0
	}
	slices.SortFunc(queued, func(a, b v1alpha1.TenantJob) int {
		return cmp.Or(
			cmp.Compare(rank(a), rank(b)),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(a.Name, b.Name),
		)
	})
	next, err := r.starts.Next(queued, &tenant, templates, cachedJobs{ctx, r.Client})
	if err != nil {
		log.FromContext(ctx).Error(err, "Listing Jobs from the cache")
	}
	return requests(next)
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

// slotFreed passes the events after which a Job holds its slot no longer.
var slotFreed = predicate.Funcs{
	CreateFunc: func(event.CreateEvent) bool { return false },
	UpdateFunc: func(e event.UpdateEvent) bool {
		return job.IsLive(e.ObjectOld.(*batchv1.Job)) && !job.IsLive(e.ObjectNew.(*batchv1.Job))
	},
	DeleteFunc: func(e event.DeleteEvent) bool { return job.IsLive(e.Object.(*batchv1.Job)) },
}

// leftQueue passes the events after which a queued TenantJob does not stand in the way of others: it has started, or will
// not take the slot that it may have been called for.
var leftQueue = predicate.Funcs{
	CreateFunc: func(event.CreateEvent) bool { return false },
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*v1alpha1.TenantJob), e.ObjectNew.(*v1alpha1.TenantJob)
		return isQueued(before) && !isQueued(after)
	},
	DeleteFunc: func(e event.DeleteEvent) bool { return isQueued(e.Object.(*v1alpha1.TenantJob)) },
}

func isQueued(tj *v1alpha1.TenantJob) bool {
	c := meta.FindStatusCondition(tj.Status.Conditions, v1alpha1.ConditionSucceeded)
	return c != nil && c.Reason == v1alpha1.ReasonQueued
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
