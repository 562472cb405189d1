package jobs

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/dispatch"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
)

// pass is everything that is known about a TenantJob in one pass: what the decision needs, and how it stands with the
// dispatcher.
type pass struct {
	job.Observed
	standing dispatch.Standing
}

// observe gathers everything that the decision about a TenantJob needs. It writes nothing.
func (r *Reconciler) observe(ctx context.Context, tj *v1alpha1.TenantJob, standing dispatch.Standing, now time.Time) (pass, error) {
	p := pass{job.Observed{TenantJob: tj, Namespace: r.namespace(tj.Namespace), Started: standing.Started}, standing}
	p.Tenant, _ = r.tenants.Get(types.NamespacedName{Name: tj.Spec.TenantRef.Name})
	if err := r.observeTemplate(ctx, &p); err != nil {
		return p, err
	}
	if end := standing.Replaced; end != nil {
		p.Replaced = end.Message
	}
	var err error
	if p.Job, err = r.job(ctx, tj, standing.Started); err != nil {
		return p, err
	}
	if p.Job != nil && job.IsSuspended(p.Job) && !job.IsOver(tj) {
		if p.Suspension, err = r.suspension(ctx, p.Job); err != nil {
			return p, err
		}
	}
	if p.Job == nil && !job.IsOver(tj) && !r.Credentials.Standing(tj).Issued {
		p.Credentials = r.Credentials.Check(p.Tenant, p.Template)
	}
	if job.NeedsPods(p.Observed, now) && !p.isDeferred() {
		p.Pods, err = r.pods(ctx, p.Job, now)
	}
	return p, err
}

// whole returns a TenantJob with all that its start needs: one that is so large that the cache has only a part of it is read from the
// API server. Nil means that it is gone.
func (r *Reconciler) whole(ctx context.Context, cached *v1alpha1.TenantJob) (*v1alpha1.TenantJob, error) {
	if !kube.IsCut(cached) || cached.Status.JobRef != nil || job.IsOver(cached) {
		return cached, nil
	}
	tj, err := kube.Find(ctx, r.Live, kube.KeyOf(cached), &v1alpha1.TenantJob{})
	if tj == nil || tj.UID != cached.UID {
		return nil, err
	}
	return tj, nil
}

// isDeferred says whether the first status of a run that this process has started is left for later, because many others
// start just now.
func (p *pass) isDeferred() bool {
	tj := p.TenantJob
	return p.standing.Started && p.standing.Deferred && p.Job != nil && tj.Status.JobRef == nil && !job.IsOver(tj) &&
		tj.DeletionTimestamp == nil && p.Tenant != nil && !p.Tenant.Suspended()
}

// observeTemplate reads what a TenantJob runs: its template as it is, or as its fan-out has sealed it.
func (r *Reconciler) observeTemplate(ctx context.Context, p *pass) error {
	tj := p.TenantJob
	owner := job.FanOutOf(tj)
	p.FanOut, p.Template = p.standing.FanOut, p.standing.Template
	if p.FanOut != nil && p.FanOut.Disowned {
		// The garbage collector removes the owner reference, too, when the fan-out is deleted without its children.
		fanOut, err := kube.Find(ctx, r.Live, types.NamespacedName{Name: p.FanOut.Name}, &v1alpha1.TenantFanOut{})
		if err != nil {
			return err
		}
		if fanOut == nil || fanOut.DeletionTimestamp != nil {
			p.FanOut = nil
		}
	}
	if p.FanOut != nil {
		return nil
	}
	if owner == nil {
		p.Template = r.template(tj)
		return nil
	}
	p.FanOut = &job.FanOut{}
	fanOut, err := kube.Find(ctx, r.Client, types.NamespacedName{Name: owner.Name}, &v1alpha1.TenantFanOut{})
	if fanOut == nil || err != nil || fanOut.UID != owner.UID {
		return err // Its children go with it.
	}
	if c := conditions.Get(fanOut.Status.Conditions, v1alpha1.ConditionSucceeded); c.Status == metav1.ConditionTrue || c.Status == metav1.ConditionFalse {
		*p.FanOut = job.FanOut{
			Recorded: true, Skipped: true,
			Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonSuperseded, Message: fmt.Sprintf("fan-out %s had ended before it started", owner.Name),
		}
		p.Template = r.template(tj) // for its TTL alone
	}
	return nil
}

func (r *Reconciler) template(tj *v1alpha1.TenantJob) *v1alpha1.TenantJobTemplate {
	template, _ := r.templates.Get(types.NamespacedName{Name: tj.Spec.TemplateRef.Name})
	return template
}

// namespace reads what a namespace says of itself. Those that are no tenant's are not in the cache.
func (r *Reconciler) namespace(name string) *job.Namespace {
	namespace, known := r.namespaces.Get(types.NamespacedName{Name: name})
	if !known {
		return nil
	}
	return &job.Namespace{
		UID:       namespace.UID,
		Tenant:    namespace.Labels[v1alpha1.LabelTenant],
		TenantUID: types.UID(namespace.Annotations[v1alpha1.AnnotationTenantUID]),
		State:     namespace.Labels[v1alpha1.LabelState],
		Deleting:  namespace.DeletionTimestamp != nil,
	}
}

// job returns the TenantJob's Job. If it was made and is not in the cache, it is read from the API server: the cache may be
// behind, and have an earlier TenantJob's Job of the name, and a Job that is taken for gone would be made again, or its run called
// Deleted.
func (r *Reconciler) job(ctx context.Context, tj *v1alpha1.TenantJob, started bool) (*batchv1.Job, error) {
	existing := r.cachedJob(tj)
	if existing != nil || !started && (tj.Status.JobRef == nil || job.IsOver(tj)) {
		return existing, nil
	}
	existing, err := kube.Find(ctx, r.Live, kube.KeyOf(tj), &batchv1.Job{})
	if err != nil || existing == nil || !metav1.IsControlledBy(existing, tj) {
		return nil, err
	}
	return existing, nil
}

// cachedJob returns the TenantJob's Job from the cache, never another one of its name. Nil means that the cache has none.
func (r *Reconciler) cachedJob(tj *v1alpha1.TenantJob) *batchv1.Job {
	if cached := r.jobs.Get(kube.KeyOf(tj)); cached != nil && metav1.IsControlledBy(cached, tj) {
		return cached
	}
	return nil
}

// suspension returns by whom a Job is suspended. It is empty when the Job is gone.
func (r *Reconciler) suspension(ctx context.Context, j *batchv1.Job) (string, error) {
	live, err := kube.Find(ctx, r.Live, kube.KeyOf(j), &batchv1.Job{})
	if err != nil || live == nil || live.UID != j.UID {
		return "", err
	}
	return job.SuspensionOf(live, kube.FieldManager), nil
}

// pods looks at a Job's pods, and at why there are none, or why one can't start.
func (r *Reconciler) pods(ctx context.Context, j *batchv1.Job, now time.Time) (*job.Pods, error) {
	var list corev1.PodList
	if err := r.Live.List(ctx, &list, client.InNamespace(j.Namespace), client.MatchingLabels{batchv1.ControllerUidLabel: string(j.UID)}); err != nil {
		return nil, fmt.Errorf("listing the pods of Job %s: %w", kube.KeyOf(j), err)
	}
	pods := job.PodsOf(list.Items, now)
	switch unprepared := job.Unprepared(list.Items, now); {
	case job.Ended(j):
	case j.Status.Active == 0:
		refusals, err := r.eventsAbout(ctx, j, client.MatchingFields{"involvedObject.uid": string(j.UID), "reason": "FailedCreate"})
		if err != nil {
			return nil, err
		}
		pods.AddRefusals(list.Items, refusals)
	case unprepared != nil && pods.Waiting == "":
		warnings, err := r.eventsAbout(ctx, j, client.MatchingFields{"involvedObject.uid": string(unprepared.UID), "type": corev1.EventTypeWarning})
		if err != nil {
			return nil, err
		}
		pods.AddPreparation(unprepared, warnings)
	}
	return &pods, nil
}

// eventsAbout reads events about a Job or its pods.
func (r *Reconciler) eventsAbout(ctx context.Context, j *batchv1.Job, about client.MatchingFields) ([]corev1.Event, error) {
	var list corev1.EventList
	if err := r.Live.List(ctx, &list, client.InNamespace(j.Namespace), about); err != nil {
		return nil, fmt.Errorf("listing the events of Job %s: %w", kube.KeyOf(j), err)
	}
	return list.Items, nil
}
