package schedule

import (
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
	// Refused is the API server's message why it refuses the fan-outs that the schedule would create. It is empty when the
	// API server accepts them, or was not asked.
	Refused string
	Now     time.Time
}

// Decision is what to do about a TenantSchedule.
type Decision struct {
	// Ticks are empty while the schedule is suspended or has a Problem.
	Ticks
	// EffectiveTime is since when the spec is as it is: see status.effectiveTime.
	EffectiveTime time.Time
	// Problem says what is wrong with the spec, and which field to change. It is empty when nothing is.
	Problem string
}

// Decide returns what to do about a TenantSchedule.
func Decide(o Observed) Decision {
	ts := o.Schedule
	d := Decision{EffectiveTime: effectiveTime(ts, o.Now)}
	expression, zone, err := parseSpec(&ts.Spec)
	if err != nil {
		d.Problem = err.Error()
		return d
	}
	if ptr.Deref(ts.Spec.Suspend, false) {
		return d
	}
	in := Input{
		Expression: expression, Zone: zone, TimeZoneFrom: ts.Spec.TimeZoneFrom,
		CatchUpLimit: ts.Spec.CatchUpLimit, StartingDeadlineSeconds: ts.Spec.StartingDeadlineSeconds,
		NotBefore: d.EffectiveTime, LastRun: timeOf(ts.Status.LastScheduleTime), Now: o.Now,
	}
	if ts.Status.Missed != nil {
		in.LastMissed = timeOf(ts.Status.Missed.LastTime)
	}
	for _, run := range o.Runs {
		in.Created = append(in.Created, run.Tick)
	}
	d.Ticks = FindTicks(in)
	if o.Refused != "" {
		for _, tick := range d.Due {
			d.Missed = d.Missed.Add(Missed{Count: 1, Last: tick, Reason: MissedInvalidFanOut})
		}
		d.Due = nil
	}
	return d
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

// effectiveTime returns when a schedule was created, last edited or last resumed. For an edit that the status does not have
// yet it is the time that the API server has recorded, so that ticks between the edit and now are found, and so that the
// result is always the same. The API server records no time for an edit that only removed fields: then it is now.
func effectiveTime(ts *v1alpha1.TenantSchedule, now time.Time) time.Time {
	newest, known := now.Add(maxClockSkew), timeOf(ts.Status.EffectiveTime)
	if known.After(newest) {
		known = time.Time{} // A clock that was ahead wrote it.
	}
	if !known.IsZero() && ts.Status.ObservedGeneration == ts.Generation {
		return known
	}
	if ts.Generation == 1 {
		return ts.CreationTimestamp.Time
	}
	before := known
	if before.IsZero() {
		before = ts.CreationTimestamp.Time
	}
	if edited := lastEdit(ts.ManagedFields); edited.After(before) && !edited.After(newest) {
		return edited
	}
	return later(before, now)
}

// lastEdit returns when a field of the spec was last set, by the managed fields of the object. It is zero when they do not
// say so.
func lastEdit(managers []metav1.ManagedFieldsEntry) time.Time {
	var last time.Time
	for _, m := range managers {
		if m.Subresource == "" && m.FieldsV1 != nil && strings.Contains(m.FieldsV1.String(), `"f:spec"`) {
			last = later(last, timeOf(m.Time))
		}
	}
	return last
}

// timeOf returns the time of an API object's field, zero when it is unset.
func timeOf(t *metav1.Time) time.Time { return ptr.Deref(t, metav1.Time{}).Time }
