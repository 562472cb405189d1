package fanout

import (
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func withTick(tick time.Time) func(*v1alpha1.TenantFanOut) {
	return func(f *v1alpha1.TenantFanOut) {
		metav1.SetMetaDataAnnotation(&f.ObjectMeta, v1alpha1.AnnotationScheduledTime, tick.Format(time.RFC3339))
		f.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: "tenantry.dev/v1alpha1", Kind: "TenantSchedule", Name: "every-night", UID: "uid-of-it", Controller: new(true),
		}}
	}
}

func onTenantsClock(f *v1alpha1.TenantFanOut) {
	metav1.SetMetaDataAnnotation(&f.ObjectMeta, v1alpha1.AnnotationTimeZoneFrom, "Tenant")
}

// TestChildOf: the child is the TenantJob that the ledger knows, whatever its owner references say. Before the ledger knows one,
// it is what the fan-out could have created.
func TestChildOf(t *testing.T) {
	fanOut := givenFanOut(func(f *v1alpha1.TenantFanOut) { f.Spec.Parameters = map[string]v1alpha1.ParameterValue{"days": "3"} })
	plan := givenPlan(t, fanOut, []Tenant{tenant("acme")})
	ended := func(tj *v1alpha1.TenantJob) {
		tj.Status.JobRef = &v1alpha1.LocalReference{Name: "nightly"}
		tj.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionSucceeded, Status: "False", Reason: "JobFailed", Message: "m"}}
	}
	waits := Child{Presence: Ours, UID: "first", Status: "Unknown"}
	foreign := Child{Presence: Foreign}
	for name, tc := range map[string]struct {
		change func(*v1alpha1.TenantJob)
		// known is what is made of it when the ledger has the UID "first", unknown when it has none.
		known, unknown Child
	}{
		"as it was created": {known: waits, unknown: waits},
		"ended":             {ended, Child{Ours, "first", false, true, "False", "JobFailed", "m"}, Child{Ours, "first", false, true, "False", "JobFailed", "m"}},
		"made again":        {func(tj *v1alpha1.TenantJob) { tj.UID = "second" }, foreign, Child{Presence: Ours, UID: "second", Status: "Unknown"}},
		"without an owner":  {func(tj *v1alpha1.TenantJob) { tj.OwnerReferences = nil }, waits, foreign},
		"of another fan-out of the name": {
			func(tj *v1alpha1.TenantJob) { tj.OwnerReferences[0].UID = "another" }, waits, foreign,
		},
		"with other parameters": {func(tj *v1alpha1.TenantJob) { tj.Spec.Parameters["days"] = "9" }, waits, foreign},
		"of another template":   {func(tj *v1alpha1.TenantJob) { tj.Spec.TemplateRef.Name = "other" }, waits, foreign},
		"of another tenant":     {func(tj *v1alpha1.TenantJob) { tj.Spec.TenantRef.Name = "globex" }, waits, foreign},
		"being deleted": {
			func(tj *v1alpha1.TenantJob) { tj.DeletionTimestamp = &metav1.Time{Time: testTime} },
			Child{Presence: Ours, UID: "first", Deleting: true, Status: "Unknown"}, Child{Presence: Ours, UID: "first", Deleting: true, Status: "Unknown"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tj := BuildChild(fanOut, plan, 0, "tenant-acme")
			tj.UID = "first"
			if tc.change != nil {
				tc.change(tj)
			}
			l := NewLedger(plan)
			if diff := cmp.Diff(tc.unknown, l.ChildOf(fanOut, 0, tj)); diff != "" {
				t.Errorf("not in the ledger: -want +got:\n%s", diff)
			}
			l.setCreated(0, "first")
			if diff := cmp.Diff(tc.known, l.ChildOf(fanOut, 0, tj)); diff != "" {
				t.Errorf("in the ledger: -want +got:\n%s", diff)
			}
		})
	}
}

// TestChangeOf: what somebody changes in a child is found, and what the fan-out has made is not taken for a change.
func TestChangeOf(t *testing.T) {
	late := &metav1.Time{Time: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)}
	for name, tc := range map[string]struct {
		change func(*v1alpha1.TenantJob)
		want   string
	}{
		"nothing":                {func(*v1alpha1.TenantJob) {}, ""},
		"cancelled":              {func(tj *v1alpha1.TenantJob) { tj.Spec.Cancel = new(true) }, ""},
		"a label of one's own":   {func(tj *v1alpha1.TenantJob) { tj.Labels["mine"] = "x" }, ""},
		"put off":                {func(tj *v1alpha1.TenantJob) { tj.Spec.NotBeforeTime = late }, "spec.notBeforeTime"},
		"a limit for its wait":   {func(tj *v1alpha1.TenantJob) { tj.Spec.MaxWaitSeconds = new(int32(1)) }, "spec.maxWaitSeconds"},
		"the label removed":      {func(tj *v1alpha1.TenantJob) { delete(tj.Labels, v1alpha1.LabelFanOut) }, "metadata.labels[tenantry.dev/fan-out]"},
		"of another fan-out now": {func(tj *v1alpha1.TenantJob) { tj.Labels[v1alpha1.LabelFanOut] = "x" }, "metadata.labels[tenantry.dev/fan-out]"},
	} {
		for kind, fanOut := range map[string]*v1alpha1.TenantFanOut{
			"plain": givenFanOut(), "spread": givenFanOut(withSpread(600)), "of a tick": givenFanOut(withTick(testTime), withSpread(60)),
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				plan := givenPlan(t, fanOut, []Tenant{tenant("acme")})
				tj := BuildChild(fanOut, plan, 0, "tenant-acme")
				tc.change(tj)
				if got := plan.ChangeOf(fanOut, 0, tj); got != tc.want {
					t.Errorf("%q, want %q", got, tc.want)
				}
			})
		}
	}
	scheduled := givenFanOut(withTick(testTime))
	plan := givenPlan(t, scheduled, []Tenant{tenant("acme")})
	for _, change := range []func(*v1alpha1.TenantJob){
		func(tj *v1alpha1.TenantJob) { delete(tj.Labels, v1alpha1.LabelSchedule) },
		func(tj *v1alpha1.TenantJob) { tj.Annotations = nil },
	} {
		tj := BuildChild(scheduled, plan, 0, "tenant-acme")
		change(tj)
		if plan.ChangeOf(scheduled, 0, tj) == "" {
			t.Errorf("not found: %+v", tj.ObjectMeta)
		}
	}
}

func TestBuildChild(t *testing.T) {
	acme := tenant("acme")
	operators := map[string]string{
		v1alpha1.LabelTenant: "acme", v1alpha1.LabelTemplate: "check", v1alpha1.LabelQueue: "default", v1alpha1.LabelFanOut: "nightly",
	}
	with := func(labels ...string) map[string]string {
		all := maps.Clone(operators)
		for i := 0; i < len(labels); i += 2 {
			all[labels[i]] = labels[i+1]
		}
		return all
	}
	dueAt := func(at time.Time) Tenant {
		late := acme
		late.NotBefore = at
		return late
	}
	scheduled := func(at time.Time) map[string]string {
		return map[string]string{v1alpha1.AnnotationScheduledTime: at.Format(time.RFC3339)}
	}
	nightly := with(v1alpha1.LabelSchedule, "every-night")
	place := placeInWindow(Entry{UID: acme.UID}, 3600)
	for name, tc := range map[string]struct {
		fanOut      *v1alpha1.TenantFanOut
		template    func(*v1alpha1.TenantJobTemplate)
		tenant      Tenant
		labels      map[string]string
		annotations map[string]string
		notBefore   time.Time
	}{
		"plain": {fanOut: givenFanOut(), tenant: acme, labels: operators},
		"tags of the fan-out, and no other label of it": {
			fanOut: givenFanOut(func(f *v1alpha1.TenantFanOut) {
				f.Labels = map[string]string{v1alpha1.TagPrefix + "ticket": "1", "app": "x", v1alpha1.LabelSchedule: "not-its-own"}
			}),
			tenant: acme, labels: with(v1alpha1.TagPrefix+"ticket", "1"),
		},
		"tags of parameters, and the template's queue": {
			fanOut: givenFanOut(func(f *v1alpha1.TenantFanOut) {
				f.Spec.Parameters = map[string]v1alpha1.ParameterValue{"days": "3"}
			}),
			template: func(o *v1alpha1.TenantJobTemplate) {
				o.Spec.QueueRef = &v1alpha1.LabelReference{Name: "slow"}
				o.Spec.Parameters = []v1alpha1.Parameter{{Name: "days", Tag: new(true)}, {Name: "mode", Tag: new(true), Default: new(v1alpha1.ParameterValue("all"))}}
			},
			tenant: acme,
			labels: with(v1alpha1.TagPrefix+"days", "3", v1alpha1.TagPrefix+"mode", "all", v1alpha1.LabelQueue, "slow"),
		},
		"of a tick": {
			fanOut: givenFanOut(withTick(testTime)), tenant: acme,
			labels: nightly, annotations: scheduled(testTime),
		},
		"of a tick that is spread": {
			fanOut: givenFanOut(withTick(testTime), withSpread(3600)), tenant: acme,
			labels: nightly, annotations: scheduled(testTime), notBefore: testTime.Add(place),
		},
		"of a tick on the tenant's clock": {
			fanOut: givenFanOut(withTick(testTime), onTenantsClock), tenant: dueAt(testTime.Add(5 * time.Hour)),
			labels: nightly, annotations: scheduled(testTime.Add(5 * time.Hour)), notBefore: testTime.Add(5 * time.Hour),
		},
		"of a tick on the tenant's clock that is spread": {
			fanOut: givenFanOut(withTick(testTime), onTenantsClock, withSpread(3600)), tenant: dueAt(testTime.Add(5 * time.Hour)),
			labels: nightly, annotations: scheduled(testTime.Add(5 * time.Hour)), notBefore: testTime.Add(5 * time.Hour).Add(place),
		},
	} {
		t.Run(name, func(t *testing.T) {
			template := givenTemplate()
			if tc.template != nil {
				tc.template(template)
			}
			sealed, err := Seal(Request{FanOut: tc.fanOut, Template: template, Tenants: []Tenant{tc.tenant}, Start: WindowStart(tc.fanOut, testTime)}, testTime)
			if err != nil {
				t.Fatal(err)
			}
			// Editing spreadSeconds later does not change the tenant's place in the window.
			edited := tc.fanOut.DeepCopy()
			withSpread(1)(edited)
			got := BuildChild(edited, storedPlan(t, tc.fanOut, sealed), 0, "tenant-acme")
			want := &v1alpha1.TenantJob{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: "tenant-acme", Name: "nightly", Labels: tc.labels, Annotations: tc.annotations,
					OwnerReferences: []metav1.OwnerReference{{
						APIVersion: "tenantry.dev/v1alpha1", Kind: "TenantFanOut", Name: "nightly", UID: tc.fanOut.UID,
						Controller: new(true), BlockOwnerDeletion: new(true),
					}},
				},
				Spec: v1alpha1.TenantJobSpec{
					TenantRef:   v1alpha1.TenantReference{Name: "acme"},
					TemplateRef: v1alpha1.LabelReference{Name: "check"},
					Parameters:  tc.fanOut.Spec.Parameters,
				},
			}
			if !tc.notBefore.IsZero() {
				want.Spec.NotBeforeTime = &metav1.Time{Time: tc.notBefore}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the child (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWindowStart(t *testing.T) {
	for name, tc := range map[string]struct {
		fanOut *v1alpha1.TenantFanOut
		want   time.Time
	}{
		"no tick":                  {givenFanOut(withSpread(600)), time.Time{}},
		"a tick just now":          {givenFanOut(withTick(testTime), withSpread(600)), testTime},
		"a tick within the window": {givenFanOut(withTick(testTime.Add(-599*time.Second)), withSpread(600)), testTime.Add(-599 * time.Second)},
		"a tick that was missed":   {givenFanOut(withTick(testTime.Add(-600*time.Second)), withSpread(600)), time.Time{}},
		"a tick that is none": {givenFanOut(withSpread(600), func(f *v1alpha1.TenantFanOut) {
			f.Annotations = map[string]string{v1alpha1.AnnotationScheduledTime: "tomorrow"}
		}), time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := WindowStart(tc.fanOut, testTime); !got.Equal(tc.want) {
				t.Errorf("it starts at %v instead of %v", got, tc.want)
			}
		})
	}
}

// A tenant whose own time is further in the past than the deadline is Expired. The others run.
func TestSealLate(t *testing.T) {
	at := func(name string, ago time.Duration) Tenant {
		late := tenant(name)
		late.NotBefore = testTime.Add(-ago)
		return late
	}
	noTime := tenant("d")
	tenants := []Tenant{at("a", time.Hour+time.Second), at("b", time.Hour), at("c", -time.Hour), noTime, in(Suspended, at("e", 2*time.Hour))}
	for name, tc := range map[string]struct {
		deadline time.Duration
		spread   int32
		want     []string
	}{
		"no deadline":               {want: []string{"", "", "", "", v1alpha1.ReasonTenantSuspended}},
		"an hour":                   {deadline: time.Hour, want: []string{v1alpha1.ReasonExpired, "", "", "", v1alpha1.ReasonTenantSuspended}},
		"a window that is not over": {deadline: time.Hour, spread: 86400, want: []string{"", "", "", "", v1alpha1.ReasonTenantSuspended}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Seal(Request{FanOut: givenFanOut(withSpread(tc.spread)), Template: givenTemplate(), Tenants: tenants, Deadline: tc.deadline}, testTime)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range p.Entries {
				got = append(got, e.Outcome.Reason)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
			if o := p.Entries[0].Outcome; o.Decided() && o.Counter != Failed {
				t.Errorf("it is %s", o.Counter)
			}
		})
	}
}

func TestLost(t *testing.T) {
	l := NewLedger(givenPlan(t, givenFanOut(), givenTenants(3)))
	fanOut := givenFanOut()
	fanOut.Status = Decide(Observed{FanOut: fanOut, Ledger: l}, testTime).Status(testTime)
	got := Lost(fanOut, "its ledger is gone", testTime)
	want := map[string]string{
		v1alpha1.ConditionPlanned: "True Sealed", v1alpha1.ConditionSucceeded: "Unknown LedgerLost",
		v1alpha1.ConditionStalled: "True LedgerLost", v1alpha1.ConditionReconciling: "",
	}
	for conditionType, want := range want {
		if c := condition(got.Conditions, conditionType); c != want {
			t.Errorf("%s is %q instead of %q", conditionType, c, want)
		}
	}
	if diff := cmp.Diff(fanOut.Status.Counts, got.Counts); diff != "" {
		t.Errorf("the counters (-before +after):\n%s", diff)
	}
}
