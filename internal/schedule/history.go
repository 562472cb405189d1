package schedule

import (
	"cmp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

const (
	// mostActive is how many active fan-outs a status lists.
	mostActive = 100
	// keptByDefault is how many fan-outs are kept of those that succeeded, and of those that did not.
	keptByDefault = 3
)

// Run is a fan-out that a tick made.
type Run struct {
	Name string
	UID  types.UID
	Tick time.Time
	// Succeeded is the fan-out's condition: True or False when it has ended.
	Succeeded metav1.Condition
	// CompletionTime is when it ended. Zero before.
	CompletionTime time.Time
}

// HasEnded says whether every tenant has an outcome.
func (r Run) HasEnded() bool {
	return r.Succeeded.Status == metav1.ConditionTrue || r.Succeeded.Status == metav1.ConditionFalse
}

// RunOf returns what there is to know of a schedule's fan-out. It is false for one that no tick made.
func RunOf(ts *v1alpha1.TenantSchedule, fanOut *v1alpha1.TenantFanOut) (Run, bool) {
	tick, ok := NamedTick(ts.Name, fanOut.Name)
	if !ok {
		return Run{}, false
	}
	// The name tells the minute. A tick that a change of the clock moved may lie within it.
	written, err := time.Parse(time.RFC3339, fanOut.Annotations[v1alpha1.AnnotationScheduledTime])
	if err == nil && minuteOf(written) == minuteOf(tick) {
		tick = written.UTC()
	}
	run := Run{Name: fanOut.Name, UID: fanOut.UID, Tick: tick, CompletionTime: timeOf(fanOut.Status.CompletionTime)}
	for _, c := range fanOut.Status.Conditions {
		if c.Type == v1alpha1.ConditionSucceeded {
			run.Succeeded = c
		}
	}
	return run, true
}

// LastScheduled is the newest tick that made a fan-out. A clock that was ahead may have written one that lies in the
// future: the newest that does not is put in its place.
func LastScheduled(before *metav1.Time, runs []Run, now time.Time) time.Time {
	soon := now.Add(OnTimeFor)
	last := timeOf(before)
	if last.After(soon) {
		last = time.Time{}
	}
	for _, run := range runs {
		if !run.Tick.After(soon) {
			last = later(last, run.Tick)
		}
	}
	if last.IsZero() {
		return timeOf(before)
	}
	return last
}

// LastSuccess is when a fan-out last succeeded.
func LastSuccess(before *metav1.Time, runs []Run) time.Time {
	last := timeOf(before)
	for _, run := range runs {
		if run.Succeeded.Status == metav1.ConditionTrue {
			last = later(last, run.CompletionTime)
		}
	}
	return last
}

// Active lists the fan-outs that have not ended, the newest if there are too many.
func Active(runs []Run) []v1alpha1.LocalReference {
	var names []v1alpha1.LocalReference
	for _, run := range byTick(runs) {
		if !run.HasEnded() {
			names = append(names, v1alpha1.LocalReference{Name: run.Name})
		}
	}
	names = names[max(0, len(names)-mostActive):]
	slices.SortFunc(names, func(a, b v1alpha1.LocalReference) int { return cmp.Compare(a.Name, b.Name) })
	return names
}

// LastRun is the condition LastRunSucceeded: the result of the newest fan-out that has ended. It stands until a newer one
// ends, also when the fan-out is gone; that is why its message starts with the fan-out's name.
func LastRun(schedule string, before *metav1.Condition, runs []Run, ranEver bool) metav1.Condition {
	runs = byTick(runs)
	ended := slices.DeleteFunc(slices.Clone(runs), func(r Run) bool { return !r.HasEnded() })
	stands := before != nil && (before.Status == metav1.ConditionTrue || before.Status == metav1.ConditionFalse)
	if len(ended) > 0 {
		newest := ended[len(ended)-1]
		if !stands || !newest.Tick.Before(toldOf(schedule, before.Message)) {
			result := newest.Succeeded
			return metav1.Condition{Status: result.Status, Reason: result.Reason, Message: newest.Name + ": " + result.Message}
		}
	}
	unknown := metav1.Condition{Status: metav1.ConditionUnknown}
	switch {
	case stands:
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

// toldOf is the minute of the tick whose result a message tells.
func toldOf(schedule, message string) time.Time {
	name, _, _ := strings.Cut(message, ":")
	tick, _ := NamedTick(schedule, name)
	return tick
}

// Surplus are the fan-outs that have ended beyond the newest that are kept, of those until a tick: what comes after has not
// been written down, and would be made again.
func Surplus(spec *v1alpha1.TenantScheduleSpec, runs []Run, until time.Time) []Run {
	left := map[metav1.ConditionStatus]int{
		metav1.ConditionTrue:  keptByDefault,
		metav1.ConditionFalse: keptByDefault,
	}
	if spec.SuccessfulFanOutsHistoryLimit != nil {
		left[metav1.ConditionTrue] = int(*spec.SuccessfulFanOutsHistoryLimit)
	}
	if spec.FailedFanOutsHistoryLimit != nil {
		left[metav1.ConditionFalse] = int(*spec.FailedFanOutsHistoryLimit)
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

// byTick sorts runs, oldest first.
func byTick(runs []Run) []Run {
	return slices.SortedFunc(slices.Values(runs), func(a, b Run) int { return a.Tick.Compare(b.Tick) })
}
