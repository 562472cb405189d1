package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

const (
	// maxActive is how many active fan-outs a status lists.
	maxActive = 100
	// defaultHistoryLimit is how many fan-outs are kept of those that succeeded, and of those that did not, when the spec
	// does not say so.
	defaultHistoryLimit = 3
)

// Run is the fan-out of a tick.
type Run struct {
	Name string
	UID  types.UID
	Tick time.Time
	// Succeeded is the fan-out's condition Succeeded, the zero value when it has none. It is True or False when the fan-out
	// has ended. It is False when all tenants were skipped, whatever the fan-out says.
	Succeeded metav1.Condition
	// CompletionTime is when the fan-out ended. It is zero before.
	CompletionTime time.Time
	// Unplanned says that the fan-out says that it has no plan.
	Unplanned bool
	// CaughtUpTo is the newest tick of those that were caught up on together with this one: its own, if there was none.
	CaughtUpTo time.Time
}

// HasEnded says whether the fan-out has ended: every tenant has an outcome.
func (r Run) HasEnded() bool {
	return r.Succeeded.Status == metav1.ConditionTrue || r.Succeeded.Status == metav1.ConditionFalse
}

// RunOf returns the run that a fan-out of a schedule is. It returns false for a fan-out that is not named for a tick.
func RunOf(ts *v1alpha1.TenantSchedule, fanOut *v1alpha1.TenantFanOut) (Run, bool) {
	tick, ok := tickOf(ts, fanOut)
	if !ok {
		return Run{}, false
	}
	run := Run{
		Name: fanOut.Name, UID: fanOut.UID, Tick: tick, CompletionTime: timeOf(fanOut.Status.CompletionTime),
		Succeeded: conditions.Get(fanOut.Status.Conditions, v1alpha1.ConditionSucceeded), CaughtUpTo: SupersededAfter(fanOut, tick),
		Unplanned: conditions.Get(fanOut.Status.Conditions, v1alpha1.ConditionPlanned).Status == metav1.ConditionFalse,
	}
	if noneRan(&fanOut.Status) && run.Succeeded.Status == metav1.ConditionTrue {
		run.Succeeded = withoutSuccess(&fanOut.Status, run.Succeeded)
	}
	return run, true
}

// tickOf returns the tick of a schedule's fan-out.
func tickOf(ts *v1alpha1.TenantSchedule, fanOut *v1alpha1.TenantFanOut) (time.Time, bool) {
	tick, ok := NamedTick(ts.Name, fanOut.Name)
	if !ok {
		return time.Time{}, false
	}
	// The name has the minute only. After a change of the clock a tick may be within a minute.
	annotated, err := time.Parse(time.RFC3339, fanOut.Annotations[v1alpha1.AnnotationScheduledTime])
	if err == nil && minuteOf(annotated) == minuteOf(tick) {
		tick = annotated.UTC()
	}
	return tick, true
}

// noneRan says whether all tenants of a complete fan-out were skipped.
func noneRan(status *v1alpha1.TenantFanOutStatus) bool {
	c := status.Counts
	return c != nil && c.Total > 0 && c.Skipped == c.Total
}

// withoutSuccess returns the result of a fan-out of which all tenants were skipped: it has not failed, and nothing has run. The
// reason is the most frequent one, and the message ends with that of one tenant.
func withoutSuccess(status *v1alpha1.TenantFanOutStatus, result metav1.Condition) metav1.Condition {
	result.Status = metav1.ConditionFalse
	if len(status.Reasons) > 0 {
		result.Reason = status.Reasons[0].Reason
	}
	for _, u := range status.UnsuccessfulTenants {
		if u.Reason == result.Reason {
			result.Message += fmt.Sprintf("; %s: %s", u.Tenant, u.Message)
			break
		}
	}
	return result
}

// LastScheduled returns the value of status.lastScheduleTime: the newest tick that has, or had, a fan-out. It never goes
// back. A fan-out whose tick is in the future does not count: it says nothing about the ticks until then.
func LastScheduled(before *metav1.Time, runs []Run, now time.Time) time.Time {
	last := timeOf(before)
	for _, run := range runs {
		if !run.Tick.After(now.Add(maxClockSkew)) {
			last = later(last, run.Tick)
		}
	}
	return last
}

// LastSuccess returns the value of status.lastSuccessfulTime: when a fan-out last succeeded for a tenant at least. It is zero
// when none has.
func LastSuccess(before *metav1.Time, runs []Run) time.Time {
	last := timeOf(before)
	for _, run := range runs {
		if run.Succeeded.Status == metav1.ConditionTrue {
			last = later(last, run.CompletionTime)
		}
	}
	return last
}

// Active lists the fan-outs that have not ended, sorted by name. Of more than a hundred it lists the newest.
func Active(runs []Run) []v1alpha1.LocalReference {
	var names []v1alpha1.LocalReference
	for _, run := range byTick(runs) {
		if !run.HasEnded() {
			names = append(names, v1alpha1.LocalReference{Name: run.Name})
		}
	}
	names = names[max(0, len(names)-maxActive):]
	slices.SortFunc(names, func(a, b v1alpha1.LocalReference) int { return cmp.Compare(a.Name, b.Name) })
	return names
}

// LastRun returns the condition LastRunSucceeded: the result of the newest fan-out that has ended. It is kept until a newer
// one ends, even when the fan-out is deleted. So that the tick is known then, the message begins with the fan-out's name.
// Before is the condition before, nil when there is none; ranEver says whether any tick had a fan-out.
func LastRun(schedule string, before *metav1.Condition, runs []Run, ranEver bool) metav1.Condition {
	runs = byTick(runs)
	ended := slices.DeleteFunc(slices.Clone(runs), func(r Run) bool { return !r.HasEnded() })
	hasResult := before != nil && (before.Status == metav1.ConditionTrue || before.Status == metav1.ConditionFalse)
	if len(ended) > 0 {
		newest := ended[len(ended)-1]
		if !hasResult || !newest.Tick.Before(reportedTick(schedule, before.Message)) {
			result := newest.Succeeded
			return metav1.Condition{Status: result.Status, Reason: result.Reason, Message: newest.Name + ": " + result.Message}
		}
	}
	unknown := metav1.Condition{Status: metav1.ConditionUnknown}
	switch {
	case hasResult:
		return *before
	case len(runs) > 0:
		unknown.Reason, unknown.Message = v1alpha1.ReasonRunning, "its first fan-out has not ended yet"
	case ranEver:
		unknown.Reason, unknown.Message = v1alpha1.ReasonDeleted, "its fan-out was deleted before it ended"
	default:
		unknown.Reason, unknown.Message = v1alpha1.ReasonNeverRun, "no tick has made a fan-out yet"
	}
	return unknown
}

// reportedTick returns the minute of the tick whose result is in a message of LastRun. It is zero when there is none.
func reportedTick(schedule, message string) time.Time {
	name, _, _ := strings.Cut(message, ":")
	tick, _ := NamedTick(schedule, name)
	return tick
}

// Surplus returns the fan-outs that have ended and are beyond the history limits, newest first. It leaves out those after
// the tick until: the status does not have them yet, so they would be created again.
func Surplus(spec *v1alpha1.TenantScheduleSpec, runs []Run, until time.Time) []Run {
	left := map[metav1.ConditionStatus]int32{
		metav1.ConditionTrue:  ptr.Deref(spec.SuccessfulFanOutsHistoryLimit, defaultHistoryLimit),
		metav1.ConditionFalse: ptr.Deref(spec.FailedFanOutsHistoryLimit, defaultHistoryLimit),
	}
	var surplus []Run
	for _, run := range slices.Backward(byTick(runs)) {
		if !run.HasEnded() {
			continue
		}
		left[run.Succeeded.Status]--
		if left[run.Succeeded.Status] < 0 && !run.Tick.After(until) {
			surplus = append(surplus, run)
		}
	}
	return surplus
}

// byTick returns the runs sorted by their ticks, oldest first.
func byTick(runs []Run) []Run {
	return slices.SortedFunc(slices.Values(runs), func(a, b Run) int { return a.Tick.Compare(b.Tick) })
}
