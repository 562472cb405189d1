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

// record puts a decision into the status of its TenantJob. Absence is the time in which nobody could start it.
func record(o job.Observed, d job.Decision, absence interval, now time.Time) {
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
	if d.Status == metav1.ConditionUnknown && o.FanOut == nil && status.TemplateGeneration == 0 && job.Accepts(o) {
		status.TemplateGeneration = o.Template.Generation
	}
	recordWaited(status, d.Waited, absence, now)
	if d.Status != metav1.ConditionUnknown && status.CompletionTime == nil {
		status.CompletionTime = job.CompletionTime(o.Job, now)
	}
	set := conditions.Of(&status.Conditions, tj.Generation)
	set.Set(v1alpha1.ConditionSucceeded, d.Status, d.Reason, d.Message)
	set.SetProgress(d.Progress, d.Reason, d.Message)
}

// waited is for how long limits have held a TenantJob, by its status. The time in which nobody could start it does not count.
func waited(status *v1alpha1.TenantJobStatus, absence interval, now time.Time) time.Duration {
	before := time.Duration(status.QueuedSeconds) * time.Second
	if status.QueuedTime != nil {
		queued := interval{status.QueuedTime.Time, now}
		before += queued.length() - queued.overlap(absence)
	}
	return before
}

// interval is the time between two times.
type interval struct{ from, until time.Time }

func (i interval) length() time.Duration { return max(0, i.until.Sub(i.from)) }

func (i interval) overlap(o interval) time.Duration {
	if o.from.After(i.from) {
		i.from = o.from
	}
	if o.until.Before(i.until) {
		i.until = o.until
	}
	return i.length()
}

// shortAbsence is how long an absence may be that is not taken out of the clock of maxWaitSeconds. It saves a write for each
// TenantJob that waits when one process hands over to the next.
const shortAbsence = 10 * time.Second

// recordWaited keeps the clock of maxWaitSeconds, which runs only while limits hold the TenantJob that maxWaitSeconds is
// about. It is written when it starts or stops and not as it goes, and after a time in which nobody could start the TenantJob.
func recordWaited(status *v1alpha1.TenantJobStatus, w *job.Waited, absence interval, now time.Time) {
	runs, counts := status.QueuedTime != nil, w != nil && w.Counts
	interrupted := runs && (interval{status.QueuedTime.Time, now}).overlap(absence) > shortAbsence
	if runs == counts && !interrupted {
		return
	}
	before := waited(status, absence, now)
	if w != nil {
		before = w.Before
	}
	status.QueuedSeconds = int32(before / time.Second)
	if status.QueuedTime = nil; counts {
		status.QueuedTime = &metav1.Time{Time: now}
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
