package schedule

import (
	"fmt"
	"time"

	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Unplanned is what is known about a tick's fan-out that has no plan: its template is missing, for example.
type Unplanned struct {
	Schedule *v1alpha1.TenantSchedule
	FanOut   *v1alpha1.TenantFanOut
	// Siblings are all fan-outs of the schedule.
	Siblings []v1alpha1.TenantFanOut
	Now      time.Time
}

// Lapse is how a fan-out ends that has no plan. A tick that is late when its fan-out could be planned is under the same limits
// as one that is late when its fan-out is created.
type Lapse struct {
	// Reason and Message are those of the fan-out's condition Succeeded. They are empty while the fan-out may be planned.
	Reason, Message string
	// At is when that has to be decided again, if nothing happens before. Zero means never.
	At time.Time
}

// LapseOf decides whether a tick's fan-out may still be planned. Whether a later tick supersedes it is not decided here.
func LapseOf(u Unplanned) Lapse {
	tick, isTick := tickOf(u.Schedule, u.FanOut)
	if !isTick {
		return Lapse{}
	}
	spec := &u.Schedule.Spec
	allowed := time.Duration(0)
	if u.FanOut.Annotations[v1alpha1.AnnotationTimeZoneFrom] == string(v1alpha1.TimeZoneFromTenant) {
		// It is not late before it is late for the last clock that shows the tick. Sealing the plan checks each tenant's own time.
		allowed = MaxZoneDifference + time.Duration(ptr.Deref(u.FanOut.Spec.SpreadSeconds, 0))*time.Second
	}
	if deadline := spec.StartingDeadlineSeconds; deadline != nil {
		last := tick.Add(allowed + time.Duration(*deadline)*time.Second)
		if u.Now.After(last) {
			return Lapse{Reason: v1alpha1.ReasonExpired, Message: fmt.Sprintf(
				"it had no plan within `spec.startingDeadlineSeconds` (%d) of TenantSchedule %s", *deadline, u.Schedule.Name)}
		}
		return Lapse{At: last.Add(time.Second)}.earlier(beyondLimit(u, tick, tick.Add(allowed+OnTimeTolerance)))
	}
	return beyondLimit(u, tick, tick.Add(allowed+OnTimeTolerance))
}

// beyondLimit decides whether there are more fan-outs of newer ticks than catchUpLimit lets run late. The fan-out of the newest
// tick is never beyond it: it was created in time.
func beyondLimit(u Unplanned, tick, late time.Time) Lapse {
	limit, newer := max(1, ptr.Deref(u.Schedule.Spec.CatchUpLimit, 1)), int32(0)
	for i := range u.Siblings {
		if other, isTick := tickOf(u.Schedule, &u.Siblings[i]); isTick && other.After(tick) {
			newer++
		}
	}
	switch {
	case newer < limit:
		return Lapse{}
	case u.Now.Before(late):
		return Lapse{At: late}
	}
	return Lapse{Reason: v1alpha1.ReasonSuperseded, Message: fmt.Sprintf(
		"it had no plan in time, and with `spec.catchUpLimit` of TenantSchedule %s only newer ticks run", u.Schedule.Name)}
}

// earlier returns the lapse, decided again when either has to be.
func (l Lapse) earlier(other Lapse) Lapse {
	if other.Reason != "" || !other.At.IsZero() && other.At.Before(l.At) {
		return other
	}
	return l
}

// missedUnplanned counts the ticks whose fan-outs have ended without a plan: nothing of them has run. A tick counts in the write
// of the status that takes its fan-out out of status.active, or that first has it in status.lastScheduleTime, and so once.
func missedUnplanned(status *v1alpha1.TenantScheduleStatus, runs []Run) Missed {
	active := map[string]bool{}
	for _, a := range status.Active {
		active[a.Name] = true
	}
	var missed Missed
	for _, run := range runs {
		isNew := active[run.Name] || run.Tick.After(timeOf(status.LastScheduleTime))
		if !run.Unplanned || !run.HasEnded() || !isNew {
			continue
		}
		reason := run.Succeeded.Reason
		if reason == v1alpha1.ReasonExpired {
			reason = MissedStartingDeadline
		}
		missed = missed.Add(Missed{Count: 1, Last: run.Tick, Reason: reason})
	}
	return missed
}
