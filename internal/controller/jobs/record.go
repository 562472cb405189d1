package jobs

import (
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/job"
)

// record puts a decision into the status of its TenantJob.
func record(o job.Observed, d job.Decision, now time.Time) {
	tj := o.TenantJob
	status := &tj.Status
	if o.Job == nil && o.Started && status.JobRef == nil {
		status.JobRef = &v1alpha1.LocalReference{Name: tj.Name} // It was made, and is gone.
	}
	if d.Reason == "" {
		// What changes in the spec of one that is over changes nothing: the status speaks of it all the same.
		if job.IsOver(tj) {
			status.ObservedGeneration = tj.Generation
			recordRefused(tj, d.Refused)
		}
		return
	}
	status.ObservedGeneration = tj.Generation
	if o.Job != nil && status.StartTime == nil {
		status.JobRef = &v1alpha1.LocalReference{Name: o.Job.Name}
		status.StartTime = &o.Job.CreationTimestamp
		status.TemplateGeneration, _ = strconv.ParseInt(o.Job.Annotations[v1alpha1.AnnotationTemplateGeneration], 10, 64)
		if o.Tenant != nil {
			status.TenantUID = o.Tenant.UID
		}
	}
	recordWaited(status, d.Waited, now)
	if d.Status != metav1.ConditionUnknown && status.CompletionTime == nil {
		status.CompletionTime = job.CompletionTime(o.Job, now)
	}
	set := conditions.Of(&status.Conditions, tj.Generation)
	set.Set(v1alpha1.ConditionSucceeded, d.Status, d.Reason, d.Message)
	set.SetProgress(d.Progress, d.Reason, d.Message)
}

// waited is for how long limits have held a TenantJob, by its status.
func waited(status *v1alpha1.TenantJobStatus, now time.Time) time.Duration {
	before := time.Duration(status.QueuedSeconds) * time.Second
	if status.QueuedTime != nil {
		before += max(0, now.Sub(status.QueuedTime.Time))
	}
	return before
}

// recordWaited keeps the clock of maxWaitSeconds, which runs only while limits hold the TenantJob that maxWaitSeconds is
// about. It is written when it starts or stops and not as it goes.
func recordWaited(status *v1alpha1.TenantJobStatus, w *job.Waited, now time.Time) {
	counts := w != nil && w.Counts
	switch {
	case counts == (status.QueuedTime != nil):
	case counts:
		status.QueuedSeconds = int32(w.Before / time.Second)
		status.QueuedTime = &metav1.Time{Time: now}
	default:
		before := waited(status, now)
		if w != nil {
			before = w.Before
		}
		status.QueuedSeconds = int32(before / time.Second)
		status.QueuedTime = nil
	}
}

// recordRefused says of a TenantJob that is over what can't be done any more for it, and no longer when it is done.
func recordRefused(tj *v1alpha1.TenantJob, refused string) {
	if refused == "" {
		meta.RemoveStatusCondition(&tj.Status.Conditions, v1alpha1.ConditionReconciling)
		return
	}
	set := conditions.Of(&tj.Status.Conditions, tj.Generation)
	set.Set(v1alpha1.ConditionReconciling, metav1.ConditionTrue, succeeded(tj).Reason, refused)
}
