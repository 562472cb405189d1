package schedule

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Observed is everything that is known about a TenantSchedule when Decide is called.
type Observed struct {
	Schedule *v1alpha1.TenantSchedule
	// Runs are its fan-outs.
	Runs []Run
	// Template is the TenantJobTemplate that they run. It is nil when there is none.
	Template *v1alpha1.TenantJobTemplate
	// Refused is the API server's message why it refuses the fan-outs that the schedule would create. It is empty when the
	// API server accepts them, or was not asked.
	Refused string
	Now     time.Time
}

// Decision is what to do about a TenantSchedule.
type Decision struct {
	// Ticks are empty while the schedule has a Problem, but for those that were missed before it was edited. While it is
	// suspended, no tick is due.
	Ticks
	// EffectiveTime and EffectiveSchedule are since when the ticks are as they are, and how: see the status.
	EffectiveTime     time.Time
	EffectiveSchedule string
	// Problem says what is wrong with the spec, and which field to change. It is empty when nothing is.
	Problem string
}

// Decide returns what to do about a TenantSchedule.
func Decide(o Observed) Decision {
	ts := o.Schedule
	d := Decision{EffectiveSchedule: effectiveSchedule(&ts.Spec)}
	var unseen bool
	d.EffectiveTime, unseen = effectiveTime(ts, o.Now)
	if unseen {
		d.Missed = missedBeforeEdit(o, d.EffectiveTime)
	}
	d.Missed = d.Missed.Add(missedUnplanned(&ts.Status, o.Runs))
	expression, zone, err := parseSpec(&ts.Spec)
	if err != nil {
		d.Problem = err.Error()
		return d
	}
	in := o.input(expression, zone, ts.Spec.TimeZoneFrom)
	in.CatchUpLimit, in.StartingDeadlineSeconds = ts.Spec.CatchUpLimit, ts.Spec.StartingDeadlineSeconds
	in.NotBefore = d.EffectiveTime
	ticks := FindTicks(in)
	d.Next, d.RequeueAfter = ticks.Next, ticks.RequeueAfter
	if ptr.Deref(ts.Spec.Suspend, false) {
		return d
	}
	d.Due, d.Missed = ticks.Due, d.Missed.Add(ticks.Missed)
	if o.Refused != "" {
		for _, tick := range d.Due {
			d.Missed = d.Missed.Add(Missed{Count: 1, Last: tick, Reason: MissedInvalidFanOut})
		}
		d.Due = nil
	}
	return d
}

// input returns what is known about the ticks of a schedule, whatever its expression.
func (o Observed) input(expression Expression, zone *time.Location, from v1alpha1.TimeZoneSource) Input {
	in := Input{
		Expression: expression, Zone: zone, TimeZoneFrom: from, LastRun: timeOf(o.Schedule.Status.LastScheduleTime), Now: o.Now,
	}
	if missed := o.Schedule.Status.Missed; missed != nil {
		in.LastMissed = timeOf(missed.LastTime)
	}
	for _, run := range o.Runs {
		in.Created = append(in.Created, run.Tick)
	}
	return in
}

// NeedsConfirmation says whether the decision has ticks, or an edit of the spec, that the status does not have yet. Then it
// must be repeated with what the API server has, at the API server's time, since the cache may be behind and the clock
// ahead.
func (d Decision) NeedsConfirmation(status v1alpha1.TenantScheduleStatus, generation int64) bool {
	return len(d.Due) > 0 || d.Missed.Count > 0 ||
		status.ObservedGeneration != generation || !timeOf(status.EffectiveTime).Equal(d.EffectiveTime)
}

// parseSpec reads the fields that say when the ticks are. The error says which field to change.
func parseSpec(spec *v1alpha1.TenantScheduleSpec) (Expression, *time.Location, error) {
	expression, err := Parse(spec.Schedule)
	if err != nil {
		return Expression{}, nil, fmt.Errorf("`spec.schedule`: %w", err)
	}
	if spec.TimeZoneFrom == v1alpha1.TimeZoneFromTenant && !expression.OncePerDay() {
		return Expression{}, nil, errors.New("`spec.schedule` must have at most one tick a day with timeZoneFrom: Tenant: " +
			"a single minute and a single hour")
	}
	zone, err := LoadZone(spec.TimeZone)
	if err != nil {
		return Expression{}, nil, fmt.Errorf("`spec.timeZone`: %w", err)
	}
	return expression, zone, nil
}

// suspendedSchedule is the status.effectiveSchedule of a schedule that is suspended.
const suspendedSchedule = "suspended"

// effectiveSchedule returns what an edit must change in a spec to move status.effectiveTime.
func effectiveSchedule(spec *v1alpha1.TenantScheduleSpec) string {
	switch {
	case ptr.Deref(spec.Suspend, false):
		return suspendedSchedule
	case spec.TimeZoneFrom == v1alpha1.TimeZoneFromTenant:
		return strings.Join([]string{spec.Schedule, string(v1alpha1.TimeZoneFromTenant)}, ", ")
	}
	return strings.Join([]string{spec.Schedule, spec.TimeZone}, ", ")
}

// parseEffectiveSchedule reads a status.effectiveSchedule. It returns false for one that has no ticks.
func parseEffectiveSchedule(text string) (expression Expression, zone *time.Location, from v1alpha1.TimeZoneSource, ok bool) {
	at := strings.LastIndex(text, ", ")
	if text == suspendedSchedule || at < 0 {
		return Expression{}, nil, "", false
	}
	expression, err := Parse(text[:at])
	if err != nil {
		return Expression{}, nil, "", false
	}
	if text[at+2:] == string(v1alpha1.TimeZoneFromTenant) {
		return expression, nil, v1alpha1.TimeZoneFromTenant, true
	}
	zone, err = LoadZone(text[at+2:])
	return expression, zone, v1alpha1.TimeZoneFromSchedule, err == nil
}

// missedBeforeEdit counts the ticks that the schedule had before it was edited, until the edit, and that were not handled:
// nobody was there. They never run, since nothing of the past runs after an edit.
func missedBeforeEdit(o Observed, edited time.Time) Missed {
	status := o.Schedule.Status
	expression, zone, from, ok := parseEffectiveSchedule(status.EffectiveSchedule)
	if !ok {
		return Missed{}
	}
	in := o.input(expression, zone, from)
	in.NotBefore, in.Now = timeOf(status.EffectiveTime), edited
	missed := in.period().missed(unixAfter(in.since()), 0, unixAfter(edited))
	if missed.Count > 0 {
		missed.Reason = MissedEdited
	}
	return missed
}

// effectiveTime returns when a schedule was created, its ticks were last edited, or it was last resumed. Edited says that the
// status does not have this edit yet. Its time is the one that the API server has recorded, so that ticks between the edit
// and now are found, and so that the result is always the same. The API server records no time for an edit that only removed
// fields: then it is now.
func effectiveTime(ts *v1alpha1.TenantSchedule, now time.Time) (at time.Time, edited bool) {
	newest, known := now.Add(maxClockSkew), timeOf(ts.Status.EffectiveTime)
	if known.After(newest) {
		known = time.Time{} // A clock that was ahead wrote it.
	}
	if !known.IsZero() && (ts.Status.ObservedGeneration == ts.Generation || !ticksEdited(ts, known)) {
		return known, false
	}
	if ts.Generation == 1 {
		return ts.CreationTimestamp.Time, false
	}
	before := known
	if before.IsZero() {
		before = ts.CreationTimestamp.Time
	}
	if last := lastEdit(ts.ManagedFields, "spec"); last.After(before) && !last.After(newest) {
		return last, true
	}
	return later(before, now), true
}

// ticksEdited says whether an edit that the status does not have yet may have changed when the ticks are. Whoever has set
// spec.suspend since may have suspended and resumed the schedule.
func ticksEdited(ts *v1alpha1.TenantSchedule, known time.Time) bool {
	return ts.Status.EffectiveSchedule != effectiveSchedule(&ts.Spec) || lastEdit(ts.ManagedFields, "spec", "suspend").After(known)
}

// lastEdit returns when a field was last set, by the managed fields of the object. It is zero when they do not say so. The API
// server knows the time of a manager's last change, and not of which field.
func lastEdit(managers []metav1.ManagedFieldsEntry, path ...string) time.Time {
	var last time.Time
	for _, m := range managers {
		if m.Subresource == "" && m.FieldsV1 != nil && hasField(m.FieldsV1.String(), path) {
			last = later(last, timeOf(m.Time))
		}
	}
	return last
}

// hasField says whether a field is among managed fields.
func hasField(fields string, path []string) bool {
	var set map[string]json.RawMessage
	for i, name := range path {
		if json.Unmarshal([]byte(fields), &set) != nil || set["f:"+name] == nil {
			return false
		}
		if i < len(path)-1 {
			fields, set = string(set["f:"+name]), nil
		}
	}
	return true
}

// timeOf returns the time of an API object's field, zero when it is unset.
func timeOf(t *metav1.Time) time.Time { return ptr.Deref(t, metav1.Time{}).Time }
