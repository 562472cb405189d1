package schedule

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// unplannedAt returns a fan-out without a plan of the schedule s.
func unplannedAt(t *testing.T, tick string) v1alpha1.TenantFanOut {
	t.Helper()
	return v1alpha1.TenantFanOut{ObjectMeta: metav1.ObjectMeta{
		Name: TickName("s", at(t, tick)), Annotations: map[string]string{v1alpha1.AnnotationScheduledTime: at(t, tick).Format(time.RFC3339)},
	}}
}

// TestLapseOf is about the fan-out of ten o'clock, which has no plan.
func TestLapseOf(t *testing.T) {
	const tick = "2026-08-03 10:00"
	for name, tc := range map[string]struct {
		limit    *int32
		deadline *int32
		change   func(*v1alpha1.TenantFanOut)
		siblings []string
		now      string
		reason   string
		at       string
	}{
		"nothing is later":                        {now: "2026-08-04 10:00"},
		"older ones do not count":                 {siblings: []string{"2026-08-03 09:00", "2026-08-03 09:59"}, now: "2026-08-04 10:00"},
		"within the deadline":                     {deadline: new(int32(3600)), now: "2026-08-03 11:00", at: "2026-08-03 11:00:01"},
		"past the deadline":                       {deadline: new(int32(3600)), now: "2026-08-03 11:00:01", reason: v1alpha1.ReasonExpired},
		"a newer one, and this one is on time":    {siblings: []string{"2026-08-03 10:01"}, now: "2026-08-03 10:00:59", at: "2026-08-03 10:01"},
		"a newer one, and this one is late":       {siblings: []string{"2026-08-03 10:01"}, now: "2026-08-03 10:01", reason: v1alpha1.ReasonSuperseded},
		"as many newer ones as may run late":      {limit: new(int32(2)), siblings: []string{"2026-08-03 10:01", "2026-08-03 10:02"}, now: "2026-08-03 10:02", reason: v1alpha1.ReasonSuperseded},
		"fewer newer ones than may run late":      {limit: new(int32(3)), siblings: []string{"2026-08-03 10:01", "2026-08-03 10:02"}, now: "2026-08-03 10:02"},
		"none may run late, on time":              {limit: new(int32(0)), siblings: []string{"2026-08-03 10:01"}, now: "2026-08-03 10:00:30", at: "2026-08-03 10:01"},
		"none may run late":                       {limit: new(int32(0)), siblings: []string{"2026-08-03 10:01"}, now: "2026-08-03 10:01", reason: v1alpha1.ReasonSuperseded},
		"none may run late, and nothing is newer": {limit: new(int32(0)), now: "2026-08-03 12:00"},
		"beyond the limit before the deadline":    {siblings: []string{"2026-08-03 10:01"}, deadline: new(int32(3600)), now: "2026-08-03 10:00:30", at: "2026-08-03 10:01"},
		"the last clock has not shown it":         {change: onTenantsClock, siblings: []string{"2026-08-04 10:00"}, deadline: new(int32(3600)), now: "2026-08-04 12:00", at: "2026-08-04 12:01"},
		"past the deadline of the last clock":     {change: onTenantsClock, deadline: new(int32(3600)), now: "2026-08-04 13:00:01", reason: v1alpha1.ReasonExpired},
		"one that is not named for a tick":        {change: func(f *v1alpha1.TenantFanOut) { f.Name = "s-now" }, limit: new(int32(0)), now: "2027-01-01 00:00"},
		"one of another schedule is no newer one": {siblings: []string{""}, now: "2026-08-04 10:00"},
	} {
		t.Run(name, func(t *testing.T) {
			fanOut := unplannedAt(t, tick)
			if tc.change != nil {
				tc.change(&fanOut)
			}
			u := Unplanned{
				Schedule: &v1alpha1.TenantSchedule{
					ObjectMeta: metav1.ObjectMeta{Name: "s"},
					Spec:       v1alpha1.TenantScheduleSpec{CatchUpLimit: tc.limit, StartingDeadlineSeconds: tc.deadline},
				},
				FanOut: &fanOut, Siblings: []v1alpha1.TenantFanOut{fanOut}, Now: at(t, tc.now),
			}
			for _, sibling := range tc.siblings {
				other := v1alpha1.TenantFanOut{ObjectMeta: metav1.ObjectMeta{Name: "other-29767800"}}
				if sibling != "" {
					other = unplannedAt(t, sibling)
				}
				u.Siblings = append(u.Siblings, other)
			}
			got := LapseOf(u)
			if got.Reason != tc.reason || !got.At.Equal(at(t, tc.at)) || (got.Message == "") != (got.Reason == "") {
				t.Errorf("%+v, want %s, again at %s", got, tc.reason, tc.at)
			}
		})
	}
}

func onTenantsClock(f *v1alpha1.TenantFanOut) {
	f.Annotations[v1alpha1.AnnotationTimeZoneFrom] = string(v1alpha1.TimeZoneFromTenant)
}

// TestMissedUnplanned: a tick of which nothing has run, because its fan-out was never planned, counts once.
func TestMissedUnplanned(t *testing.T) {
	run := func(tick, reason string) Run {
		r := Run{Name: TickName("s", at(t, tick)), Tick: at(t, tick), Unplanned: true}
		if reason != "" {
			r.Succeeded = metav1.Condition{Status: metav1.ConditionFalse, Reason: reason}
		}
		return r
	}
	planned := run("2026-08-03 09:00", v1alpha1.ReasonSuperseded)
	planned.Unplanned = false
	ten, eleven := "2026-08-03 10:00", "2026-08-03 11:00"
	for name, tc := range map[string]struct {
		active []string
		last   string
		runs   []Run
		want   Missed
	}{
		"it ends":                         {[]string{ten}, ten, []Run{run(ten, v1alpha1.ReasonSuperseded)}, Missed{1, at(t, ten), v1alpha1.ReasonSuperseded}},
		"it has not ended":                {[]string{ten}, ten, []Run{run(ten, "")}, Missed{}},
		"it was counted":                  {nil, ten, []Run{run(ten, v1alpha1.ReasonSuperseded)}, Missed{}},
		"it had a plan":                   {[]string{"2026-08-03 09:00"}, ten, []Run{planned}, Missed{}},
		"it ended before it was recorded": {nil, "2026-08-03 09:00", []Run{run(ten, v1alpha1.ReasonExpired)}, Missed{1, at(t, ten), MissedStartingDeadline}},
		"two at once": {
			[]string{ten, eleven}, eleven, []Run{run(eleven, v1alpha1.ReasonExpired), run(ten, v1alpha1.ReasonSuperseded)},
			Missed{2, at(t, eleven), MissedStartingDeadline},
		},
	} {
		t.Run(name, func(t *testing.T) {
			status := &v1alpha1.TenantScheduleStatus{LastScheduleTime: metaTime(t, tc.last)}
			for _, tick := range tc.active {
				status.Active = append(status.Active, v1alpha1.LocalReference{Name: TickName("s", at(t, tick))})
			}
			if diff := cmp.Diff(tc.want, missedUnplanned(status, tc.runs)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestRunOfWhichNoneRan: all tenants were skipped, so it is no success of its schedule.
func TestRunOfWhichNoneRan(t *testing.T) {
	for name, tc := range map[string]struct {
		counts *v1alpha1.FanOutCounts
		want   metav1.Condition
	}{
		"all were skipped": {&v1alpha1.FanOutCounts{Total: 2, Skipped: 2}, metav1.Condition{
			Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonOverlapped, Message: "done; globex: TenantJob s-1 holds it",
		}},
		"one has succeeded":   {&v1alpha1.FanOutCounts{Total: 2, Skipped: 1, Succeeded: 1}, metav1.Condition{Status: metav1.ConditionTrue, Reason: "Completed", Message: "done"}},
		"none was selected":   {&v1alpha1.FanOutCounts{}, metav1.Condition{Status: metav1.ConditionTrue, Reason: "Completed", Message: "done"}},
		"there are no counts": {nil, metav1.Condition{Status: metav1.ConditionTrue, Reason: "Completed", Message: "done"}},
	} {
		t.Run(name, func(t *testing.T) {
			fanOut := unplannedAt(t, "2026-08-03 10:00")
			fanOut.Status = v1alpha1.TenantFanOutStatus{
				Counts: tc.counts, CompletionTime: metaTime(t, "2026-08-03 10:01"),
				Conditions: []metav1.Condition{{Type: v1alpha1.ConditionSucceeded, Status: metav1.ConditionTrue, Reason: "Completed", Message: "done"}},
				Reasons:    []v1alpha1.ReasonCount{{Reason: v1alpha1.ReasonOverlapped, Count: 1}, {Reason: v1alpha1.ReasonTenantSuspended, Count: 1}},
				UnsuccessfulTenants: []v1alpha1.UnsuccessfulTenant{
					{Tenant: "acme", Reason: v1alpha1.ReasonTenantSuspended, Message: "tenant acme was suspended"},
					{Tenant: "globex", Reason: v1alpha1.ReasonOverlapped, Message: "TenantJob s-1 holds it"},
				},
			}
			run, _ := RunOf(&v1alpha1.TenantSchedule{ObjectMeta: metav1.ObjectMeta{Name: "s"}}, &fanOut)
			tc.want.Type = v1alpha1.ConditionSucceeded
			if diff := cmp.Diff(tc.want, run.Succeeded); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if succeeded := !LastSuccess(nil, []Run{run}).IsZero(); succeeded != (tc.want.Status == metav1.ConditionTrue) {
				t.Errorf("it succeeded: %t", succeeded)
			}
		})
	}
}
