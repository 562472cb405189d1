package schedules

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/schedule"
)

// record puts what was found and done into the status of a schedule.
func record(o observed, plan schedule.Plan) {
	ts, status := o.Schedule, &o.Schedule.Status
	recordReady(o, plan.Problem)
	status.ObservedGeneration = ts.Generation
	status.EffectiveTime = written(status.EffectiveTime, plan.Effective)
	status.LastScheduleTime = written(status.LastScheduleTime, schedule.LastScheduled(status.LastScheduleTime, o.Runs, o.Now))
	status.LastSuccessfulTime = written(status.LastSuccessfulTime, schedule.LastSuccess(status.LastSuccessfulTime, o.Runs))
	status.Active = schedule.Active(o.Runs)
	status.NextScheduleTimes = nil
	for _, tick := range plan.Next {
		status.NextScheduleTimes = append(status.NextScheduleTimes, metav1.NewTime(tick))
	}
	recordMissed(status, plan.Missed)
	before := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionLastRunSucceeded)
	last := schedule.LastRun(ts.Name, before, o.Runs, status.LastScheduleTime != nil)
	conditions.Of(&status.Conditions, ts.Generation).Set(v1alpha1.ConditionLastRunSucceeded, last.Status, last.Reason, last.Message)
}

// recordReady says whether the schedule can make fan-outs. That the API server refuses them stands until it is
// asked again.
func recordReady(o observed, problem string) {
	ts := o.Schedule
	status, reason, standing := metav1.ConditionTrue, v1alpha1.ReasonReady, conditions.Current
	message := "makes a TenantFanOut at each tick"
	ready := meta.FindStatusCondition(ts.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case problem != "":
		status, reason, message, standing = metav1.ConditionFalse, v1alpha1.ReasonInvalidSchedule, problem, conditions.Stalled
	case o.Refused != "":
		status, reason, message, standing = metav1.ConditionFalse, v1alpha1.ReasonInvalidFanOut, o.Refused, conditions.Stalled
	case !o.asked && ready != nil && ready.Reason == v1alpha1.ReasonInvalidFanOut:
		return
	case ptr.Deref(ts.Spec.Suspend, false):
		message = "makes no TenantFanOuts while `spec.suspend` is true"
	}
	set := conditions.Of(&ts.Status.Conditions, ts.Generation)
	set.Set(v1alpha1.ConditionReady, status, reason, message)
	set.SetProgress(standing, reason, message)
}

func recordMissed(status *v1alpha1.TenantScheduleStatus, missed schedule.Missed) {
	if missed.Count == 0 {
		return
	}
	total := missed.Count
	if status.Missed != nil {
		total += status.Missed.Count
	}
	status.Missed = &v1alpha1.MissedTicks{Count: total, LastTime: written(nil, missed.Last), LastReason: missed.Reason}
}

// announce tells of what nobody would see otherwise: ticks that did not run, and a schedule that can't.
func (r *Reconciler) announce(before, after *v1alpha1.TenantSchedule, missed schedule.Missed) {
	if missed.Count > 0 {
		last := missed.Last.UTC().Format(time.RFC3339)
		r.Warn(after, "MissedTicks", "Schedule",
			fmt.Sprintf("ticks that did not run: %d, the last of %s: %s", missed.Count, last, missed.Reason))
	}
	ready := meta.FindStatusCondition(after.Status.Conditions, v1alpha1.ConditionReady)
	if ready.Status == metav1.ConditionFalse && conditions.Ready(before.Status.Conditions) != conditions.Ready(after.Status.Conditions) {
		r.Warn(after, ready.Reason, "Validate", ready.Message)
	}
}

// written is a time as the API holds it: to the second. What stands there already is kept.
func written(before *metav1.Time, t time.Time) *metav1.Time {
	t = t.Truncate(time.Second)
	switch {
	case t.IsZero():
		return nil
	case before != nil && before.Time.Equal(t):
		return before
	default:
		return &metav1.Time{Time: t}
	}
}
