package schedule

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func metaTime(t *testing.T, text string) *metav1.Time {
	t.Helper()
	if text == "" {
		return nil
	}
	return &metav1.Time{Time: at(t, text)}
}

// edit is an entry in the managed fields of an object.
type edit struct{ manager, subresource, when, fields string }

func TestEffectiveTime(t *testing.T) {
	const spec, labels = `{"f:spec":{"f:schedule":{}}}`, `{"f:metadata":{"f:labels":{"f:a":{}}}}`
	created := edit{"kubectl-create", "", "2026-08-03 10:00", spec}
	for name, tc := range map[string]struct {
		generation, observed int64
		known                string
		edits                []edit
		want                 string
	}{
		"new":                              {1, -1, "", []edit{created}, "2026-08-03 10:00"},
		"seen":                             {1, 1, "2026-08-03 10:00", []edit{created}, "2026-08-03 10:00"},
		"resumed, seen":                    {3, 3, "2026-08-03 11:00", []edit{created, {"edit", "", "2026-08-03 11:00", spec}}, "2026-08-03 11:00"},
		"edited before the first decision": {2, -1, "", []edit{created, {"edit", "", "2026-08-03 10:20", spec}}, "2026-08-03 10:20"},
		"edited since the last decision":   {2, 1, "2026-08-03 10:00", []edit{created, {"edit", "", "2026-08-03 11:00", spec}}, "2026-08-03 11:00"},
		"edited twice":                     {3, 1, "2026-08-03 10:00", []edit{{"edit", "", "2026-08-03 11:30", spec}, {"other", "", "2026-08-03 11:00", spec}}, "2026-08-03 11:30"},
		"edited, then labelled by others":  {2, 1, "2026-08-03 10:00", []edit{{"edit", "", "2026-08-03 11:00", spec}, {"label", "", "2026-08-03 11:45", labels}}, "2026-08-03 11:00"},
		"edited, then its status written":  {2, 1, "2026-08-03 10:00", []edit{{"edit", "", "2026-08-03 11:00", spec}, {"tenantry", "status", "2026-08-03 11:45", spec}}, "2026-08-03 11:00"},
		"a field was removed":              {2, 1, "2026-08-03 10:00", []edit{created}, "2026-08-03 12:00"},
		"a field was removed before the first decision": {2, -1, "", []edit{created}, "2026-08-03 12:00"},
		"no managed fields":                             {2, 1, "2026-08-03 10:00", nil, "2026-08-03 12:00"},
		"written by a clock that was ahead":             {2, 2, "2026-08-04 14:00", []edit{created, {"edit", "", "2026-08-03 11:00", spec}}, "2026-08-03 11:00"},
		"the same, and a field was removed":             {2, 2, "2026-08-04 14:00", []edit{created}, "2026-08-03 12:00"},
		"edited in the future":                          {2, 1, "2026-08-03 10:00", []edit{{"edit", "", "2026-08-04 14:00", spec}}, "2026-08-03 12:00"},
	} {
		t.Run(name, func(t *testing.T) {
			ts := &v1alpha1.TenantSchedule{
				ObjectMeta: metav1.ObjectMeta{Generation: tc.generation, CreationTimestamp: *metaTime(t, "2026-08-03 10:00")},
				Status:     v1alpha1.TenantScheduleStatus{ObservedGeneration: tc.observed, EffectiveTime: metaTime(t, tc.known)},
			}
			for _, e := range tc.edits {
				ts.ManagedFields = append(ts.ManagedFields, metav1.ManagedFieldsEntry{
					Manager: e.manager, Subresource: e.subresource, Time: metaTime(t, e.when), FieldsV1: metav1.NewFieldsV1(e.fields),
				})
			}
			if got, _ := effectiveTime(ts, at(t, "2026-08-03 12:00")); !got.Equal(at(t, tc.want)) {
				t.Errorf("effective since %s, want %s", got, tc.want)
			}
		})
	}
}

// TestEditWhileNobodyWasThere: only an edit that changes when the ticks are moves effectiveTime, and the ticks between the last one
// that was handled and such an edit are counted.
func TestEditWhileNobodyWasThere(t *testing.T) {
	type want struct {
		effective string
		due       []string
		missed    Missed
	}
	const created = `{"f:spec":{"f:schedule":{},"f:timeZone":{}}}`
	lost := func(n int64, last string) Missed { return Missed{n, at(t, last), MissedEdited} }
	unchanged := want{"2026-08-02 12:45", []string{"2026-08-03 12:00"}, Missed{3, at(t, "2026-08-03 11:00"), MissedCatchUpLimit}}
	for name, tc := range map[string]struct {
		// effective is the status's effectiveSchedule.
		effective string
		edit      func(*v1alpha1.TenantScheduleSpec)
		// fields are those that the edit has set, by an API server that records them.
		fields string
		want   want
	}{
		"the history limit": {
			"0 * * * *, Etc/UTC", func(s *v1alpha1.TenantScheduleSpec) { s.SuccessfulFanOutsHistoryLimit = new(int32(1)) },
			`{"f:spec":{"f:successfulFanOutsHistoryLimit":{}}}`, unchanged,
		},
		"what is run, by whom has written the whole object": {
			"0 * * * *, Etc/UTC", func(s *v1alpha1.TenantScheduleSpec) { s.FanOutTemplate.Spec.TemplateRef.Name = "other" }, created, unchanged,
		},
		"a label of the fan-outs was removed": {"0 * * * *, Etc/UTC", func(*v1alpha1.TenantScheduleSpec) {}, "", unchanged},
		"the schedule": {
			"30 * * * *, Etc/UTC", func(*v1alpha1.TenantScheduleSpec) {}, created,
			want{"2026-08-03 11:15", []string{"2026-08-03 12:00"}, lost(3, "2026-08-03 10:30")},
		},
		"the time zone": {
			"0 * * * *, Asia/Kolkata", func(*v1alpha1.TenantScheduleSpec) {}, created,
			want{"2026-08-03 11:15", []string{"2026-08-03 12:00"}, lost(3, "2026-08-03 10:30")},
		},
		"on whose clock it is read": {
			"0 22 * * *, Tenant", func(*v1alpha1.TenantScheduleSpec) {}, created,
			want{"2026-08-03 11:15", []string{"2026-08-03 12:00"}, lost(1, "2026-08-03 08:00")},
		},
		"it was resumed": {
			"suspended", func(*v1alpha1.TenantScheduleSpec) {}, created, want{"2026-08-03 11:15", []string{"2026-08-03 12:00"}, Missed{}},
		},
		"it was suspended": {
			"0 * * * *, Etc/UTC", func(s *v1alpha1.TenantScheduleSpec) { s.Suspend = new(true) }, `{"f:spec":{"f:suspend":{}}}`,
			want{"2026-08-03 11:15", nil, lost(3, "2026-08-03 11:00")},
		},
		"it was suspended and resumed": {
			"0 * * * *, Etc/UTC", func(s *v1alpha1.TenantScheduleSpec) { s.Suspend = new(false) }, `{"f:spec":{"f:suspend":{}}}`,
			want{"2026-08-03 11:15", []string{"2026-08-03 12:00"}, lost(3, "2026-08-03 11:00")},
		},
		"of an earlier version's status": {
			"", func(*v1alpha1.TenantScheduleSpec) {}, created, want{"2026-08-03 11:15", []string{"2026-08-03 12:00"}, Missed{}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ts := &v1alpha1.TenantSchedule{
				ObjectMeta: metav1.ObjectMeta{Name: "hourly", Generation: 3, CreationTimestamp: *metaTime(t, "2026-08-01 10:00")},
				Spec:       v1alpha1.TenantScheduleSpec{Schedule: "0 * * * *", TimeZone: "Etc/UTC"},
				Status: v1alpha1.TenantScheduleStatus{
					ObservedGeneration: 2, EffectiveTime: metaTime(t, "2026-08-02 12:45"), LastScheduleTime: metaTime(t, "2026-08-03 08:00"),
					EffectiveSchedule: tc.effective,
				},
			}
			if tc.effective == "0 22 * * *, Tenant" {
				ts.Status.LastScheduleTime = metaTime(t, "2026-08-02 08:00")
			}
			tc.edit(&ts.Spec)
			if tc.fields != "" {
				ts.ManagedFields = []metav1.ManagedFieldsEntry{{Time: metaTime(t, "2026-08-03 11:15"), FieldsV1: metav1.NewFieldsV1(tc.fields)}}
			}
			d := Decide(Observed{Schedule: ts, Now: at(t, "2026-08-03 12:00:30")})
			got := want{d.EffectiveTime.Format("2006-01-02 15:04"), texts(d.Due), d.Missed}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			// With that in the status, nothing is left.
			ts.Status.ObservedGeneration, ts.Status.EffectiveTime = ts.Generation, &metav1.Time{Time: d.EffectiveTime}
			ts.Status.EffectiveSchedule = d.EffectiveSchedule
			if d.Missed.Count > 0 {
				ts.Status.Missed = &v1alpha1.MissedTicks{Count: d.Missed.Count, LastTime: &metav1.Time{Time: d.Missed.Last}}
			}
			o := Observed{Schedule: ts, Now: at(t, "2026-08-03 12:00:30")}
			for _, tick := range d.Due {
				o.Runs = append(o.Runs, Run{Tick: tick})
			}
			if again := Decide(o); again.NeedsConfirmation(ts.Status, ts.Generation) {
				t.Errorf("afterwards %+v", again)
			}
		})
	}
}

func TestDecide(t *testing.T) {
	type want struct {
		due     []string
		missed  Missed
		next    string
		problem string
		confirm bool
	}
	for name, tc := range map[string]struct {
		change  func(*v1alpha1.TenantSchedule)
		runs    []string
		refused string
		want    want
	}{
		"between ticks": {
			runs: []string{"2026-08-03 12:00"}, want: want{next: "2026-08-03 13:00"},
		},
		"a tick": {
			want: want{due: []string{"2026-08-03 12:00"}, next: "2026-08-03 13:00", confirm: true},
		},
		"ticks that were missed": {
			change: func(ts *v1alpha1.TenantSchedule) { ts.Status.LastScheduleTime = metaTime(t, "2026-08-03 10:00") },
			runs:   []string{"2026-08-03 12:00"},
			want:   want{missed: Missed{1, at(t, "2026-08-03 11:00"), MissedCatchUpLimit}, next: "2026-08-03 13:00", confirm: true},
		},
		"ticks that were counted": {
			change: func(ts *v1alpha1.TenantSchedule) {
				ts.Status.Missed = &v1alpha1.MissedTicks{Count: 7, LastTime: metaTime(t, "2026-08-03 12:00")}
			},
			want: want{next: "2026-08-03 13:00"},
		},
		"an edit": {
			change: func(ts *v1alpha1.TenantSchedule) { ts.Generation++ }, want: want{next: "2026-08-03 13:00", confirm: true},
		},
		"never seen": {
			change: func(ts *v1alpha1.TenantSchedule) { ts.Status = v1alpha1.TenantScheduleStatus{} },
			want:   want{next: "2026-08-03 13:00", confirm: true},
		},
		"suspended": {
			change: func(ts *v1alpha1.TenantSchedule) { ts.Spec.Suspend = new(true) },
			want:   want{next: "2026-08-03 13:00"},
		},
		"refused": {
			change: func(ts *v1alpha1.TenantSchedule) {
				ts.Spec.CatchUpLimit = new(int32(2))
				ts.Status.LastScheduleTime = metaTime(t, "2026-08-03 09:00")
			},
			refused: "no",
			want:    want{missed: Missed{3, at(t, "2026-08-03 12:00"), MissedInvalidFanOut}, next: "2026-08-03 13:00", confirm: true},
		},
		"another zone": {
			change: func(ts *v1alpha1.TenantSchedule) {
				ts.Spec.Schedule, ts.Spec.TimeZone = "30 14 * * *", "Europe/Berlin"
				ts.Status.LastScheduleTime = metaTime(t, "2026-08-02 12:30")
			},
			want: want{next: "2026-08-03 12:30"},
		},
		"each tenant's own clock": {
			change: func(ts *v1alpha1.TenantSchedule) {
				ts.Spec.Schedule, ts.Spec.TimeZoneFrom = "30 2 * * *", v1alpha1.TimeZoneFromTenant
			},
			want: want{next: "2026-08-03 12:30"},
		},
		"an expression without a tick": {
			change: func(ts *v1alpha1.TenantSchedule) { ts.Spec.Schedule = "0 0 31 2 *" },
			want:   want{problem: "`spec.schedule`: day of month \"31\" never comes in month \"2\""},
		},
		"a zone that does not exist": {
			change: func(ts *v1alpha1.TenantSchedule) { ts.Spec.TimeZone = "Europe/Nowhere" },
			want:   want{problem: "`spec.timeZone`: \"Europe/Nowhere\" must be an IANA time zone"},
		},
		"the zone of the machine": {
			change: func(ts *v1alpha1.TenantSchedule) { ts.Spec.TimeZone = "Local" },
			want:   want{problem: "`spec.timeZone`: \"Local\" must be an IANA time zone"},
		},
		"twice a day on each tenant's own clock": {
			change: func(ts *v1alpha1.TenantSchedule) {
				ts.Spec.Schedule, ts.Spec.TimeZoneFrom = "0 2,3 * * *", v1alpha1.TimeZoneFromTenant
			},
			want: want{problem: "`spec.schedule` must have at most one tick a day"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ts := &v1alpha1.TenantSchedule{
				ObjectMeta: metav1.ObjectMeta{Name: "hourly", Generation: 2, CreationTimestamp: *metaTime(t, "2026-08-01 10:00")},
				Spec:       v1alpha1.TenantScheduleSpec{Schedule: "0 * * * *", TimeZone: "Etc/UTC"},
				Status: v1alpha1.TenantScheduleStatus{
					ObservedGeneration: 2, EffectiveTime: metaTime(t, "2026-08-02 12:45"), LastScheduleTime: metaTime(t, "2026-08-03 11:00"),
				},
			}
			if tc.change != nil {
				tc.change(ts)
			}
			o := Observed{Schedule: ts, Refused: tc.refused, Now: at(t, "2026-08-03 12:00:30")}
			for _, tick := range allAt(t, tc.runs...) {
				o.Runs = append(o.Runs, Run{Tick: tick})
			}
			d := Decide(o)
			got := want{due: texts(d.Due), missed: d.Missed, confirm: d.NeedsConfirmation(ts.Status, ts.Generation), problem: d.Problem}
			if len(d.Next) > 0 {
				got.next = texts(d.Next)[0]
			}
			if tc.want.problem != "" && strings.HasPrefix(got.problem, tc.want.problem) {
				got.problem = tc.want.problem
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestMissedAdd(t *testing.T) {
	early, late := Missed{2, at(t, "2026-08-03 10:00"), "early"}, Missed{1, at(t, "2026-08-03 11:00"), "late"}
	for name, tc := range map[string]struct{ a, b, want Missed }{
		"none":          {Missed{}, Missed{}, Missed{}},
		"some and none": {early, Missed{}, early},
		"none and some": {Missed{}, early, early},
		"newer last":    {early, late, Missed{3, late.Last, "late"}},
		"newer first":   {late, early, Missed{3, late.Last, "late"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.a.Add(tc.b)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadZone(t *testing.T) {
	for range 2 {
		if zone, err := LoadZone("America/New_York"); err != nil || zone.String() != "America/New_York" {
			t.Errorf("got %v, %v", zone, err)
		}
		for _, name := range []string{"", "Local", "Europe/Nowhere", "../UTC"} {
			if zone, err := LoadZone(name); err == nil {
				t.Errorf("%q is %v", name, zone)
			}
		}
	}
}
