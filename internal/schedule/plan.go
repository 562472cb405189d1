package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Observed is all that a look at a schedule finds.
type Observed struct {
	Schedule *v1alpha1.TenantSchedule
	// Runs are its fan-outs.
	Runs []Run
	// Refused is why the API server refuses the fan-outs that the schedule would make. Empty when it does not, or was not
	// asked.
	Refused string
	Now     time.Time
}

// Plan is what follows for a schedule.
type Plan struct {
	// Result has no ticks while the schedule is suspended or its spec can't be read.
	Result
	// Effective is since when the schedule is as it is.
	Effective time.Time
	// Problem is what is wrong with the spec, and which field to change. Empty when nothing is.
	Problem string
}

// Look finds out what follows for a schedule.
func Look(o Observed) Plan {
	ts := o.Schedule
	p := Plan{Effective: effectiveTime(ts, o.Now)}
	expression, zone, err := read(&ts.Spec)
	if err != nil {
		p.Problem = err.Error()
		return p
	}
	if ts.Spec.Suspend != nil && *ts.Spec.Suspend {
		return p
	}
	in := Input{
		Expression: expression, Zone: zone, TimeZoneFrom: ts.Spec.TimeZoneFrom,
		CatchUpLimit: ts.Spec.CatchUpLimit, StartingDeadlineSeconds: ts.Spec.StartingDeadlineSeconds,
		NotBefore: p.Effective, LastRun: timeOf(ts.Status.LastScheduleTime), Now: o.Now,
	}
	if ts.Status.Missed != nil {
		in.LastMissed = timeOf(ts.Status.Missed.LastTime)
	}
	for _, run := range o.Runs {
		in.Made = append(in.Made, run.Tick)
	}
	p.Result = Decide(in)
	if o.Refused != "" {
		for _, tick := range p.Due {
			p.Missed = p.Missed.And(Missed{Count: 1, Last: tick, Reason: MissedInvalidFanOut})
		}
		p.Due = nil
	}
	return p
}

// IsNews says whether something follows for a schedule that is not written down yet, and so must not rest on a cache that
// is behind or on a clock that is ahead.
func (p Plan) IsNews(status v1alpha1.TenantScheduleStatus, generation int64) bool {
	return len(p.Due) > 0 || p.Missed.Count > 0 ||
		status.ObservedGeneration != generation || !timeOf(status.EffectiveTime).Equal(p.Effective)
}

// read reads the fields that say when the ticks are.
func read(spec *v1alpha1.TenantScheduleSpec) (Expression, *time.Location, error) {
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

// effectiveTime is when a schedule was made, last edited or last resumed. Of an edit that nobody has seen yet, the API
// server knows when it was, so that the ticks between it and the first look are found; the answer is the same however often
// it is asked for. It does not know when an edit only took fields away: then it is now.
func effectiveTime(ts *v1alpha1.TenantSchedule, now time.Time) time.Time {
	soon, known := now.Add(OnTimeFor), timeOf(ts.Status.EffectiveTime)
	if known.After(soon) {
		known = time.Time{} // written by a clock that was ahead
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
	if edited := lastEdit(ts.ManagedFields); edited.After(before) && !edited.After(soon) {
		return edited
	}
	return later(before, now)
}

// lastEdit is the last time at which somebody set a field of the spec.
func lastEdit(managers []metav1.ManagedFieldsEntry) time.Time {
	var last time.Time
	for _, m := range managers {
		if m.Subresource == "" && m.FieldsV1 != nil && strings.Contains(m.FieldsV1.String(), `"f:spec"`) {
			last = later(last, timeOf(m.Time))
		}
	}
	return last
}

// timeOf is zero for none.
func timeOf(t *metav1.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.Time
}
