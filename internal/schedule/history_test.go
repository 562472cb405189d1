package schedule

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// runsOf returns fan-outs of the schedule s, one for each hour of a day: `-` has not ended, `+` succeeded, `!` did not
// succeed, and a space is none. They are not sorted.
func runsOf(t *testing.T, states string) []Run {
	t.Helper()
	var runs []Run
	for hour, what := range states {
		tick := at(t, "2026-08-03 00:00").Add(time.Duration(hour) * time.Hour)
		run := Run{Name: TickName("s", tick), Tick: tick, Succeeded: metav1.Condition{Status: metav1.ConditionUnknown}}
		switch what {
		case '+':
			run.Succeeded = metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonCompleted, Message: "all"}
			run.CompletionTime = tick.Add(10 * time.Minute)
		case '!':
			run.Succeeded = metav1.Condition{Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonSomeFailed, Message: "some"}
			run.CompletionTime = tick.Add(10 * time.Minute)
		case ' ':
			continue
		}
		runs = append(runs, run)
	}
	slices.Reverse(runs)
	return runs
}

func hoursOf(runs []Run) (hours []int) {
	for _, run := range runs {
		hours = append(hours, run.Tick.Hour())
	}
	slices.Sort(hours)
	return hours
}

func TestSurplus(t *testing.T) {
	for name, tc := range map[string]struct {
		states            string
		successes, others *int32
		until             string
		want              []int
	}{
		"none":                           {"", nil, nil, "23:00", nil},
		"three of each by default":       {"++++!!!!", nil, nil, "23:00", []int{0, 4}},
		"each its own limit":             {"+!+!+!", new(int32(1)), new(int32(2)), "23:00", []int{0, 1, 2}},
		"none is kept":                   {"+!", new(int32(0)), new(int32(0)), "23:00", []int{0, 1}},
		"one that has not ended is kept": {"---+", new(int32(0)), new(int32(0)), "23:00", []int{3}},
		"one after the last scheduled tick is kept": {"+++", new(int32(0)), nil, "01:00", []int{0, 1}},
		"by tick": {"+++", new(int32(2)), nil, "23:00", []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := &v1alpha1.TenantScheduleSpec{SuccessfulFanOutsHistoryLimit: tc.successes, FailedFanOutsHistoryLimit: tc.others}
			got := hoursOf(Surplus(spec, runsOf(t, tc.states), at(t, "2026-08-03 "+tc.until)))
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLastRun(t *testing.T) {
	name := func(hour int) string { return TickName("s", at(t, fmt.Sprintf("2026-08-03 %02d:00", hour))) }
	succeeded := func(hour int) metav1.Condition {
		return metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonCompleted, Message: name(hour) + ": all"}
	}
	failed := func(hour int) metav1.Condition {
		return metav1.Condition{Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonSomeFailed, Message: name(hour) + ": some"}
	}
	unknown := func(reason string) metav1.Condition {
		return metav1.Condition{Status: metav1.ConditionUnknown, Reason: reason}
	}
	for name, tc := range map[string]struct {
		before  metav1.Condition
		states  string
		ranEver bool
		want    metav1.Condition
	}{
		"never":                   {metav1.Condition{}, "", false, unknown(v1alpha1.ReasonNeverRun)},
		"the first has not ended": {unknown(v1alpha1.ReasonNeverRun), "-", true, unknown(v1alpha1.ReasonRunning)},
		"the first was deleted":   {unknown(v1alpha1.ReasonRunning), "", true, unknown(v1alpha1.ReasonDeleted)},
		"the first has ended":     {unknown(v1alpha1.ReasonRunning), "+", true, succeeded(0)},
		"the result is kept while the next has not ended":       {succeeded(0), "+-", true, succeeded(0)},
		"the next has ended":                                    {succeeded(0), "+!", true, failed(1)},
		"the result is kept when the fan-out is deleted":        {failed(1), "", true, failed(1)},
		"the result is kept when only an older fan-out is left": {failed(1), "+", true, failed(1)},
		"an older one ends after the newer":                     {failed(1), "+!", true, failed(1)},
		"an older one ended last":                               {succeeded(2), "!", true, succeeded(2)},
		"the newest of many":                                    {metav1.Condition{}, "!+!+--", true, succeeded(3)},
		"the same one has another message":                      {metav1.Condition{Status: metav1.ConditionFalse, Reason: "Old", Message: TickName("s", at(t, "2026-08-03 01:00")) + ": old"}, "+!", true, failed(1)},
		"a message of another form":                             {metav1.Condition{Status: metav1.ConditionFalse, Reason: "Old", Message: "unreadable"}, "+", true, succeeded(0)},
	} {
		t.Run(name, func(t *testing.T) {
			before := &tc.before
			if tc.before.Status == "" {
				before = nil
			}
			got := LastRun("s", before, runsOf(t, tc.states), tc.ranEver)
			var ignore cmp.Options
			if tc.want.Status == metav1.ConditionUnknown {
				ignore = cmp.Options{cmpopts.IgnoreFields(metav1.Condition{}, "Message")}
				if got.Message == "" {
					t.Error("it has no message")
				}
			}
			if diff := cmp.Diff(tc.want, got, ignore); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLastScheduled(t *testing.T) {
	for name, tc := range map[string]struct {
		before, states, want string
	}{
		"never":                                {"", "", ""},
		"the first":                            {"", "+", "2026-08-03 00:00"},
		"the newest":                           {"2026-08-03 00:00", "+-!", "2026-08-03 02:00"},
		"it is kept when fan-outs are deleted": {"2026-08-03 02:00", "+", "2026-08-03 02:00"},
		"a clock went back":                    {"2026-08-04 02:00", "+-", "2026-08-04 02:00"},
		"a clock went back, nothing is known":  {"2026-08-04 02:00", "", "2026-08-04 02:00"},
		"a fan-out of the future":              {"2026-08-03 01:00", "+-++++++-", "2026-08-03 05:00"},
	} {
		t.Run(name, func(t *testing.T) {
			got := LastScheduled(metaTime(t, tc.before), runsOf(t, tc.states), at(t, "2026-08-03 05:00"))
			if !got.Equal(at(t, tc.want)) {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestLastSuccess(t *testing.T) {
	for name, tc := range map[string]struct {
		before, states, want string
	}{
		"never":                    {"", "-!", ""},
		"the newest":               {"2026-08-03 00:10", "++!", "2026-08-03 01:10"},
		"it is kept when all fail": {"2026-08-03 00:10", " !", "2026-08-03 00:10"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := LastSuccess(metaTime(t, tc.before), runsOf(t, tc.states)); !got.Equal(at(t, tc.want)) {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestActive(t *testing.T) {
	runs := runsOf(t, "+-!-")
	want := []v1alpha1.LocalReference{{Name: TickName("s", at(t, "2026-08-03 01:00"))}, {Name: TickName("s", at(t, "2026-08-03 03:00"))}}
	if diff := cmp.Diff(want, Active(runs)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	runs = nil
	for i := range 150 {
		tick := at(t, "2026-08-03 00:00").Add(time.Duration(i) * time.Minute)
		runs = append(runs, Run{Name: TickName("s", tick), Tick: tick})
	}
	if got := Active(runs); len(got) != 100 || got[99].Name != runs[149].Name || got[0].Name != runs[50].Name {
		t.Errorf("%d from %v", len(got), got[0])
	}
}

func TestRunOf(t *testing.T) {
	ts := &v1alpha1.TenantSchedule{ObjectMeta: metav1.ObjectMeta{Name: "s", UID: "1"}}
	tick := at(t, "2026-08-03 10:00")
	for name, tc := range map[string]struct {
		change func(*v1alpha1.TenantFanOut)
		want   time.Time
	}{
		"as it was created": {func(*v1alpha1.TenantFanOut) {}, tick},
		"of another name":   {func(f *v1alpha1.TenantFanOut) { f.Name = "s-retry" }, time.Time{}},
		"a tick within the minute": {func(f *v1alpha1.TenantFanOut) {
			f.Annotations[v1alpha1.AnnotationScheduledTime] = "2026-08-03T10:00:32Z"
		}, tick.Add(32 * time.Second)},
		"an annotation of another minute": {func(f *v1alpha1.TenantFanOut) {
			f.Annotations[v1alpha1.AnnotationScheduledTime] = "2026-08-04T10:00:00Z"
		}, tick},
		"no annotation": {func(f *v1alpha1.TenantFanOut) { f.Annotations = nil }, tick},
	} {
		t.Run(name, func(t *testing.T) {
			fanOut := FanOut(ts, tick, Together{tick, tick})
			tc.change(fanOut)
			run, ok := RunOf(ts, fanOut)
			if ok != !tc.want.IsZero() || !run.Tick.Equal(tc.want) || run.HasEnded() {
				t.Errorf("got %v, %t", run, ok)
			}
		})
	}
}

func TestFanOut(t *testing.T) {
	ts := &v1alpha1.TenantSchedule{ObjectMeta: metav1.ObjectMeta{Name: "nightly", UID: "1"}}
	ts.Spec.TimeZoneFrom = v1alpha1.TimeZoneFromTenant
	ts.Spec.FanOutTemplate.Metadata = &v1alpha1.FanOutTemplateMetadata{
		Labels:      map[string]v1alpha1.LabelValue{"tag.tenantry.dev/what": "bills"},
		Annotations: map[string]v1alpha1.AnnotationValue{"why": "because"},
	}
	ts.Spec.FanOutTemplate.Spec.Tenants.Names = []v1alpha1.TenantName{"acme"}
	tick := time.Date(2026, 8, 3, 2, 0, 0, 0, time.FixedZone("", 3600))
	fanOut := FanOut(ts, tick, Together{tick, tick})
	want := metav1.ObjectMeta{
		Name:   "nightly-29761980",
		Labels: map[string]string{"tag.tenantry.dev/what": "bills", "tenantry.dev/schedule": "nightly"},
		Annotations: map[string]string{
			"why": "because", "tenantry.dev/scheduled-time": "2026-08-03T01:00:00Z", "tenantry.dev/time-zone-from": "Tenant",
		},
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "tenantry.dev/v1alpha1", Kind: "TenantSchedule", Name: "nightly", UID: "1", Controller: new(true), BlockOwnerDeletion: new(true),
		}},
	}
	if diff := cmp.Diff(want, fanOut.ObjectMeta); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	fanOut.Spec.Tenants.Names[0] = "globex"
	if ts.Spec.FanOutTemplate.Spec.Tenants.Names[0] != "acme" {
		t.Error("the fan-out shares its spec with the schedule")
	}
}

// A missed tick that is caught up together with newer ones is not superseded by these. A later one supersedes it.
func TestSupersededAfter(t *testing.T) {
	ts := &v1alpha1.TenantSchedule{ObjectMeta: metav1.ObjectMeta{Name: "nightly"}}
	tick := time.Date(2026, 8, 3, 8, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct{ newest, want time.Time }{
		"alone":             {tick, tick},
		"the oldest of two": {tick.Add(time.Hour), tick.Add(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := SupersededAfter(FanOut(ts, tick, Together{tick, tc.newest}), tick); !got.Equal(tc.want) {
				t.Errorf("superseded after %s, want %s", got, tc.want)
			}
		})
	}
}

// TestTogetherOf: ticks that are caught up on are known to each other's fan-outs, also when the controller dies in between.
func TestTogetherOf(t *testing.T) {
	const eight, nine, ten = "2026-08-03 08:00", "2026-08-03 09:00", "2026-08-03 10:00"
	ts := &v1alpha1.TenantSchedule{ObjectMeta: metav1.ObjectMeta{Name: "s", UID: "1"}}
	created := func(tick, from, to string) *v1alpha1.TenantFanOut {
		return FanOut(ts, at(t, tick), Together{at(t, from), at(t, to)})
	}
	for name, tc := range map[string]struct {
		due      []string
		existing []*v1alpha1.TenantFanOut
		want     []string
		late     bool
	}{
		"one on time":                      {[]string{ten}, nil, []string{ten, ten}, false},
		"one on time, and the one before":  {[]string{ten}, []*v1alpha1.TenantFanOut{created(nine, nine, nine)}, []string{ten, ten}, false},
		"two":                              {[]string{nine, ten}, nil, []string{nine, ten}, true},
		"the second, after a death":        {[]string{ten}, []*v1alpha1.TenantFanOut{created(nine, nine, ten)}, []string{nine, ten}, true},
		"the third, after a death":         {[]string{ten}, []*v1alpha1.TenantFanOut{created(eight, eight, ten), created(nine, eight, ten)}, []string{eight, ten}, true},
		"the next, and two that were late": {[]string{"2026-08-03 11:00"}, []*v1alpha1.TenantFanOut{created(nine, nine, ten), created(ten, nine, ten)}, []string{"2026-08-03 11:00", "2026-08-03 11:00"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var runs []Run
			for _, f := range tc.existing {
				run, _ := RunOf(ts, f)
				runs = append(runs, run)
			}
			due := allAt(t, tc.due...)
			together := TogetherOf(due, runs)
			if diff := cmp.Diff(tc.want, texts([]time.Time{together.From, together.To})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, tick := range due {
				caughtUp, late := CaughtUp(FanOut(ts, tick, together))
				if late != tc.late || late && caughtUp != together {
					t.Errorf("the fan-out of %s: %v, %t", tick, caughtUp, late)
				}
			}
		})
	}
	if _, late := CaughtUp(&v1alpha1.TenantFanOut{}); late {
		t.Error("a fan-out without a tick is late")
	}
}
