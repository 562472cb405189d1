package schedules

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/schedule"
)

// setStatus sets the status of a schedule to what was observed and done.
func setStatus(o observed, decision schedule.Decision) {
	ts, status := o.Schedule, &o.Schedule.Status
	setReady(o, decision)
	status.ObservedGeneration = ts.Generation
	status.EffectiveTime = statusTime(status.EffectiveTime, decision.EffectiveTime)
	status.EffectiveSchedule = decision.EffectiveSchedule
	status.LastScheduleTime = statusTime(status.LastScheduleTime, schedule.LastScheduled(status.LastScheduleTime, o.Runs, o.Now))
	status.LastSuccessfulTime = statusTime(status.LastSuccessfulTime, schedule.LastSuccess(status.LastSuccessfulTime, o.Runs))
	status.Active = schedule.Active(o.Runs)
	status.NextScheduleTimes = nil
	for _, tick := range decision.Next {
		status.NextScheduleTimes = append(status.NextScheduleTimes, metav1.NewTime(tick))
	}
	addMissed(status, decision.Missed)
	before := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionLastRunSucceeded)
	last := schedule.LastRun(ts.Name, before, o.Runs, status.LastScheduleTime != nil)
	conditions.Of(&status.Conditions, ts.Generation).Set(v1alpha1.ConditionLastRunSucceeded, last.Status, last.Reason, last.Message)
}

// setReady says whether the schedule can create fan-outs, and whether these can run. When the API server refused them the last
// time it was asked, the condition stays as it is until it is asked again.
func setReady(o observed, decision schedule.Decision) {
	ts, ready := o.Schedule, schedule.ReadyOf(o.Observed, decision)
	wasRefused := conditions.Get(ts.Status.Conditions, v1alpha1.ConditionReady).Reason == v1alpha1.ReasonInvalidFanOut
	if wasRefused && !o.validated && ready.Reason != v1alpha1.ReasonInvalidSchedule && o.Refused == "" {
		return
	}
	progress := conditions.Current
	if ready.Status == metav1.ConditionFalse {
		progress = conditions.Stalled
	}
	set := conditions.Of(&ts.Status.Conditions, ts.Generation)
	set.Set(v1alpha1.ConditionReady, ready.Status, ready.Reason, ready.Message)
	set.SetProgress(progress, ready.Reason, ready.Message)
}

// addMissed counts ticks as missed.
func addMissed(status *v1alpha1.TenantScheduleStatus, missed schedule.Missed) {
	if missed.Count == 0 {
		return
	}
	before := ptr.Deref(status.Missed, v1alpha1.MissedTicks{})
	status.Missed = &v1alpha1.MissedTicks{Count: before.Count + missed.Count, LastTime: before.LastTime, LastReason: before.LastReason}
	// An older tick may be missed after a newer one: its fan-out could not be planned.
	if before.LastTime == nil || missed.Last.After(before.LastTime.Time) {
		status.Missed.LastTime, status.Missed.LastReason = statusTime(nil, missed.Last), missed.Reason
	}
}

// emitEvents emits an event and logs a line about ticks that were missed, and an event about a schedule that can't create
// fan-outs any more.
func (r *Reconciler) emitEvents(ctx context.Context, before, after *v1alpha1.TenantSchedule, missed schedule.Missed) {
	if missed.Count > 0 {
		r.Warn(after, "MissedTicks", "Schedule", missedMessage(missed))
		log.FromContext(ctx).V(2).Info("Missed ticks", "tenantSchedule", klog.KObj(after),
			"count", missed.Count, "last", missed.Last, "reason", missed.Reason)
	}
	isNew := conditions.Ready(before.Status.Conditions) != conditions.Ready(after.Status.Conditions)
	if ready := conditions.Get(after.Status.Conditions, v1alpha1.ConditionReady); isNew && ready.Status == metav1.ConditionFalse {
		r.Warn(after, ready.Reason, "Validate", ready.Message)
	}
}

func missedMessage(missed schedule.Missed) string {
	last := missed.Last.UTC().Format(time.RFC3339)
	if missed.Count == 1 {
		return fmt.Sprintf("1 tick did not run, that of %s: %s", last, missed.Reason)
	}
	return fmt.Sprintf("%d ticks did not run, the last of %s: %s", missed.Count, last, missed.Reason)
}

// statusTime returns a time as the API holds it: in whole seconds, and nil for none. It returns before when that is the same
// time.
func statusTime(before *metav1.Time, t time.Time) *metav1.Time {
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
