package controller

import (
	"context"
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
)

// observe gathers everything that the decision about a TenantJob needs.
func (r *tenantJobReconciler) observe(ctx context.Context, tj *v1alpha1.TenantJob, now time.Time) (job.Observed, error) {
	o := job.Observed{TenantJob: tj, Namespace: r.namespace(tj.Namespace)}
	o.Tenant, _ = r.tenants.get(types.NamespacedName{Name: tj.Spec.TenantRef.Name})
	if err := r.observeTemplate(ctx, &o); err != nil {
		return o, err
	}
	if v := r.dispatcher.Replaced(tj.UID); v != nil {
		o.Replaced = v.Message
	}
	var err error
	if o.Job, err = r.job(ctx, tj); err != nil {
		return o, err
	}
	if job.NeedsPods(o, now) && !r.isHushed(o) {
		o.Pods, err = r.pods(ctx, o.Job)
	}
	return o, err
}

// isHushed says whether the first words about a run that has started are left for later, because many others start just
// now: those come first, and short runs are over by then.
func (r *tenantJobReconciler) isHushed(o job.Observed) bool {
	tj := o.TenantJob
	return o.Job != nil && tj.Status.JobRef == nil && !job.IsOver(tj) && tj.DeletionTimestamp == nil &&
		o.Tenant != nil && !o.Tenant.Suspended() && r.dispatcher.Hush(tj.UID)
}

// observeTemplate reads what a TenantJob runs: its template as it is, or as its fan-out has sealed it.
func (r *tenantJobReconciler) observeTemplate(ctx context.Context, o *job.Observed) (err error) {
	owner := job.FanOutOf(o.TenantJob)
	if owner == nil {
		o.Template, _ = r.templates.get(types.NamespacedName{Name: o.TenantJob.Spec.TemplateRef.Name})
		return nil
	}
	if o.FanOut, o.Template = r.dispatcher.Child(owner.Name, owner.UID, o.TenantJob.Spec.TenantRef.Name); o.FanOut != nil {
		return nil
	}
	o.FanOut = &job.FanOut{}
	fanOut, err := found(ctx, r.Client, types.NamespacedName{Name: owner.Name}, &v1alpha1.TenantFanOut{})
	if fanOut == nil || err != nil || fanOut.UID != owner.UID {
		return err // Its children go with it.
	}
	if c := meta.FindStatusCondition(fanOut.Status.Conditions, v1alpha1.ConditionSucceeded); c != nil && c.Status != metav1.ConditionUnknown {
		*o.FanOut = job.FanOut{
			Recorded: true, Skipped: true,
			Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonSuperseded, Message: fmt.Sprintf("fan-out %s had ended before it started", owner.Name),
		}
		// For its TTL alone.
		o.Template, _ = r.templates.get(types.NamespacedName{Name: o.TenantJob.Spec.TemplateRef.Name})
	}
	return nil
}

// namespace reads what a namespace says of itself. Those that are no tenant's are not in the cache.
func (r *tenantJobReconciler) namespace(name string) *job.Namespace {
	namespace, known := r.namespaces.get(types.NamespacedName{Name: name})
	if !known {
		return nil
	}
	return &job.Namespace{
		UID:       namespace.UID,
		Tenant:    namespace.Labels[v1alpha1.LabelTenant],
		TenantUID: types.UID(namespace.Annotations[v1alpha1.AnnotationTenantUID]),
		State:     namespace.Labels[v1alpha1.LabelState],
	}
}

// job returns the TenantJob's Job. One that was made and is not in the cache is asked for at the API server: the cache
// may be behind, and a Job that is taken for gone would be made again, or its run called Deleted.
func (r *tenantJobReconciler) job(ctx context.Context, tj *v1alpha1.TenantJob) (*batchv1.Job, error) {
	key := keyOf(tj)
	existing, err := r.jobs.get(key), error(nil)
	made := r.dispatcher.Made(tj.UID) || tj.Status.JobRef != nil && !job.IsOver(tj)
	if existing == nil && made {
		if existing, err = found(ctx, r.live, key, &batchv1.Job{}); err == nil && existing == nil {
			tj.Status.JobRef = &v1alpha1.LocalReference{Name: tj.Name}
		}
	}
	if err != nil || existing == nil || !metav1.IsControlledBy(existing, tj) {
		return nil, err
	}
	return existing, nil
}

// pods looks at a Job's pods, and at why there are none.
func (r *tenantJobReconciler) pods(ctx context.Context, j *batchv1.Job) (*job.Pods, error) {
	var list corev1.PodList
	if err := r.live.List(ctx, &list, client.InNamespace(j.Namespace), client.MatchingLabels{batchv1.ControllerUidLabel: string(j.UID)}); err != nil {
		return nil, fmt.Errorf("listing the pods of Job %s: %w", keyOf(j), err)
	}
	pods := job.PodsOf(list.Items)
	if j.Status.Active > 0 || job.Ended(j) {
		return &pods, nil
	}
	var refusals corev1.EventList
	about := client.MatchingFields{"involvedObject.uid": string(j.UID), "reason": "FailedCreate"}
	if err := r.live.List(ctx, &refusals, client.InNamespace(j.Namespace), about); err != nil {
		return nil, fmt.Errorf("listing the events of Job %s: %w", keyOf(j), err)
	}
	pods.AddRefusals(list.Items, refusals.Items)
	return &pods, nil
}

// found reads an object. Nil means that there is none.
func found[T client.Object](ctx context.Context, reader client.Reader, key types.NamespacedName, obj T) (T, error) {
	var none T
	if err := reader.Get(ctx, key, obj); apierrors.IsNotFound(err) {
		return none, nil
	} else if err != nil {
		return none, fmt.Errorf("reading %s %s: %w", strings.TrimPrefix(fmt.Sprintf("%T", obj), "*"), key, err)
	}
	return obj, nil
}
