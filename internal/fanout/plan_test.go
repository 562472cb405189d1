package fanout

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func TestSealSelects(t *testing.T) {
	acme, globex, initech := tenant("acme", "gold"), tenant("globex"), tenant("initech", "gold")
	all := []Tenant{globex, initech, acme}
	deleted := Outcome{Counter: Skipped, Reason: v1alpha1.ReasonTenantDeleted}

	type planned struct {
		Tenant  string
		UID     types.UID
		Outcome Outcome
	}
	source := func(tenants ...Tenant) *Ledger {
		l := NewLedger(givenPlan(t, givenFanOut(withNames("acme", "globex", "initech", "typo")), tenants))
		l.Record(0, failedWith(v1alpha1.ReasonJobFailed))
		l.Record(1, Outcome{Counter: Succeeded})
		l.Record(2, failedWith(v1alpha1.ReasonDeleted))
		return l
	}
	for name, tc := range map[string]struct {
		request Request
		want    []planned
		refused string
	}{
		"all, sorted": {
			request: Request{FanOut: givenFanOut(), Tenants: all},
			want:    []planned{{"acme", "uid-acme", Outcome{}}, {"globex", "uid-globex", Outcome{}}, {"initech", "uid-initech", Outcome{}}},
		},
		"all but those excluded, which need not exist": {
			request: Request{FanOut: givenFanOut(withExclude("initech", "nobody")), Tenants: all},
			want:    []planned{{"acme", "uid-acme", Outcome{}}, {"globex", "uid-globex", Outcome{}}},
		},
		"tenants that can't run are planned with their outcome": {
			request: Request{FanOut: givenFanOut(), Tenants: []Tenant{in(Suspended, acme), in(Deleting, globex), in(NotReady, initech)}},
			want: []planned{
				{"acme", "uid-acme", Outcome{Counter: Skipped, Reason: v1alpha1.ReasonTenantSuspended}},
				{"globex", "uid-globex", deleted},
				{"initech", "uid-initech", Outcome{Counter: Skipped, Reason: v1alpha1.ReasonTenantNotReady}},
			},
		},
		"by selector": {
			request: Request{FanOut: givenFanOut(withSelector(metav1.LabelSelector{MatchLabels: map[string]string{"gold": "true"}})), Tenants: all},
			want:    []planned{{"acme", "uid-acme", Outcome{}}, {"initech", "uid-initech", Outcome{}}},
		},
		"an empty selector does not select all": {
			request: Request{FanOut: givenFanOut(withSelector(metav1.LabelSelector{})), Tenants: all},
			refused: v1alpha1.ReasonInvalidSpec,
		},
		"a selector that can't be read": {
			request: Request{FanOut: givenFanOut(withSelector(metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}))},
			refused: v1alpha1.ReasonInvalidSpec,
		},
		"by name, once, and a name that no Tenant has is planned": {
			request: Request{FanOut: givenFanOut(withNames("globex", "typo", "acme", "acme")), Tenants: all},
			want:    []planned{{"acme", "uid-acme", Outcome{}}, {"globex", "uid-globex", Outcome{}}, {"typo", "", deleted}},
		},
		"no selection": {
			request: Request{FanOut: givenFanOut(withNames()), Tenants: all},
			refused: v1alpha1.ReasonInvalidSpec,
		},
		"a plan without tenants": {
			request: Request{FanOut: givenFanOut()},
		},
		"retry of the failed ones by default": {
			request: Request{FanOut: givenFanOut(withRetry()), Tenants: all, Source: source(all...)},
			want:    []planned{{"acme", "uid-acme", Outcome{}}, {"initech", "uid-initech", Outcome{}}},
		},
		"retry of skipped ones finds a tenant that was created since": {
			request: Request{FanOut: givenFanOut(withRetry(v1alpha1.RetrySkipped)), Tenants: append(all, tenant("typo")), Source: source(all...)},
			want:    []planned{{"typo", "uid-typo", Outcome{}}},
		},
		"retry does not run for another tenant of the same name": {
			request: Request{
				FanOut:  givenFanOut(withRetry(v1alpha1.RetryFailed, v1alpha1.RetrySkipped)),
				Tenants: []Tenant{{Name: "acme", UID: "another"}, globex},
				Source:  source(all...),
			},
			want: []planned{{"acme", "uid-acme", deleted}, {"initech", "uid-initech", deleted}, {"typo", "", deleted}},
		},
		"retry of a fan-out that is gone": {
			request: Request{FanOut: givenFanOut(withRetry()), Tenants: all},
			refused: v1alpha1.ReasonSourceGone,
		},
		"parameters that don't fit end all tenants that could have run": {
			request: Request{FanOut: givenFanOut(), Tenants: []Tenant{acme, in(Suspended, globex)}, Invalid: "no such parameter"},
			want: []planned{
				{"acme", "uid-acme", Outcome{Counter: Failed, Reason: v1alpha1.ReasonInvalidParameters}},
				{"globex", "uid-globex", Outcome{Counter: Skipped, Reason: v1alpha1.ReasonTenantSuspended}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.request.Template = givenTemplate()
			p, err := Seal(tc.request, testTime)
			var got []planned
			reason := ""
			if refusal := (*SealError)(nil); errors.As(err, &refusal) {
				reason = refusal.Reason
			} else {
				for _, e := range storedPlan(t, tc.request.FanOut, p).Entries {
					if e.Outcome.Decided() && e.Outcome.Message == "" {
						t.Errorf("%s has no message", e.Tenant)
					}
					e.Outcome.Message = ""
					got = append(got, planned{e.Tenant, e.UID, e.Outcome})
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || reason != tc.refused {
				t.Errorf("refused %q, want %q; entries -want +got:\n%s", reason, tc.refused, diff)
			}
		})
	}
}

// TestSealRetry: a retry waits until its source has ended, and what can never end is said at once.
func TestSealRetry(t *testing.T) {
	named := func(name, retries string) *v1alpha1.TenantFanOut {
		f := givenFanOut(func(f *v1alpha1.TenantFanOut) { f.Name = name })
		if retries != "" {
			f.Spec.Tenants = v1alpha1.TenantSelection{RetryOf: &v1alpha1.RetryOf{Name: retries}}
		}
		return f
	}
	complete := NewLedger(givenPlan(t, givenFanOut(), givenTenants(2)))
	running := complete.Clone()
	for i, outcome := range []Outcome{failedWith(v1alpha1.ReasonJobFailed), {Counter: Succeeded}} {
		complete.Record(i, outcome)
	}
	running.Record(0, failedWith(v1alpha1.ReasonJobFailed))
	planned := named("nightly", "")
	planned.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionPlanned, Status: metav1.ConditionTrue}}
	deleting, ended := named("nightly", ""), named("nightly", "")
	deleting.DeletionTimestamp, ended.Status.CompletionTime = &metav1.Time{Time: testTime}, &metav1.Time{Time: testTime}
	type sources = []*v1alpha1.TenantFanOut
	for name, tc := range map[string]struct {
		retry   string
		source  *Ledger
		sources sources
		reason  string
		message string
	}{
		"its source has ended":                        {"nightly", complete, sources{planned}, "", ""},
		"its source runs":                             {"nightly", running, sources{planned}, v1alpha1.ReasonSourceRunning, "waits until TenantFanOut nightly has ended"},
		"its source has no plan":                      {"nightly", nil, sources{named("nightly", "")}, v1alpha1.ReasonSourceRunning, "which has no plan yet"},
		"its source waits for one":                    {"nightly", nil, sources{named("nightly", "first"), named("first", "")}, v1alpha1.ReasonSourceRunning, "which has no plan yet"},
		"its source is gone":                          {"nightly", nil, nil, v1alpha1.ReasonSourceGone, "there is no TenantFanOut nightly"},
		"its source is being deleted, and never ends": {"nightly", running, sources{deleting}, v1alpha1.ReasonSourceGone, ""},
		"its source has ended without a plan":         {"nightly", nil, sources{ended}, v1alpha1.ReasonSourceGone, ""},
		"its source's ledger is lost":                 {"nightly", nil, sources{planned}, v1alpha1.ReasonSourceGone, ""},
		"itself":                                      {"retry", nil, sources{named("retry", "retry")}, v1alpha1.ReasonInvalidSpec, "is this fan-out itself"},
		"in a circle of two": {
			"one", nil, sources{named("one", "retry"), named("retry", "one")}, v1alpha1.ReasonInvalidSpec, "(retry, one, retry)",
		},
		"of a circle": {
			"one", nil, sources{named("one", "two"), named("two", "one"), named("one", "two")}, v1alpha1.ReasonInvalidSpec, "(retry, one, two, one)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Seal(Request{
				FanOut: named("retry", tc.retry), Template: givenTemplate(), Tenants: givenTenants(2), Source: tc.source, Sources: tc.sources,
			}, testTime)
			why := &SealError{}
			errors.As(err, &why)
			if why.Reason != tc.reason || !strings.Contains(why.Message, tc.message) || why.Transient != (tc.reason == v1alpha1.ReasonSourceRunning) {
				t.Errorf("%+v, want %s: %s", why, tc.reason, tc.message)
			}
		})
	}
}

func TestSealTemplate(t *testing.T) {
	ready := func(status metav1.ConditionStatus, generation int64) *v1alpha1.TenantJobTemplate {
		template := givenTemplate()
		template.Status.Conditions[0].Status = status
		template.Status.Conditions[0].ObservedGeneration = generation
		return template
	}
	for name, tc := range map[string]struct {
		template      *v1alpha1.TenantJobTemplate
		wantReason    string
		wantTransient bool
	}{
		"missing":       {nil, v1alpha1.ReasonTemplateNotFound, false},
		"ready":         {ready(metav1.ConditionTrue, 4), "", false},
		"not ready":     {ready(metav1.ConditionFalse, 4), v1alpha1.ReasonTemplateNotReady, false},
		"not known yet": {ready(metav1.ConditionUnknown, 4), v1alpha1.ReasonTemplateNotReady, true},
		"edited since":  {ready(metav1.ConditionTrue, 3), v1alpha1.ReasonTemplateNotReady, true},
		"never checked": {&v1alpha1.TenantJobTemplate{}, v1alpha1.ReasonTemplateNotReady, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Seal(Request{FanOut: givenFanOut(), Template: tc.template}, testTime)
			got := &SealError{}
			if !errors.As(err, &got) && tc.wantReason != "" || got.Reason != tc.wantReason || got.Transient != tc.wantTransient {
				t.Errorf("got %+v, want %s, transient %t", got, tc.wantReason, tc.wantTransient)
			}
		})
	}
}

func TestSealWaves(t *testing.T) {
	tenants := givenTenants(100)
	for i := range 5 {
		tenants[i].Labels["canary"] = "true"
	}
	for i := 3; i < 10; i++ {
		tenants[i].Labels["early"] = "true"
	}
	for name, tc := range map[string]struct {
		waves []v1alpha1.Wave
		want  []int
	}{
		"none":                                                   {nil, []int{100}},
		"the first that selects a tenant has it":                 {[]v1alpha1.Wave{labelWave("a", "canary"), labelWave("b", "early")}, []int{5, 5, 90}},
		"sizes take from those in none yet":                      {[]v1alpha1.Wave{sizeWave("a", 30, nil), labelWave("b", "number"), sizeWave("c", 80, nil)}, []int{30, 0, 70, 0}},
		"percentages are of all that are planned":                {[]v1alpha1.Wave{sizeWave("a", "10%", nil), sizeWave("b", "50%", nil)}, []int{10, 50, 40}},
		"after a selector has taken some":                        {[]v1alpha1.Wave{labelWave("a", "canary"), sizeWave("b", "95%", nil)}, []int{5, 95, 0}},
		"more than there are":                                    {[]v1alpha1.Wave{sizeWave("a", 99, nil), sizeWave("b", 99, nil)}, []int{99, 1, 0}},
		"a wave that selects all tenants leaves none for others": {[]v1alpha1.Wave{{Name: "a", Selector: &metav1.LabelSelector{}}, sizeWave("b", 1, nil)}, []int{100, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			fanOut := givenFanOut(withWaves(tc.waves...))
			p := storedPlan(t, fanOut, givenPlan(t, fanOut, tenants))
			got := make([]int, len(tc.waves)+1)
			for _, e := range p.Entries {
				got[e.Wave]++
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("sizes -want +got:\n%s", diff)
			}
		})
	}
}

func TestScaled(t *testing.T) {
	for _, tc := range []struct {
		v        any
		of, want int
	}{
		{7, 100, 7}, {0, 100, 0}, {-1, 100, 0},
		{"5%", 300, 15}, {"5%", 319, 15}, {"100%", 7, 7}, {"99%", 10, 9},
		{"5%", 10, 1}, {"1%", 99, 1}, {"0%", 1000, 0},
		{"", 100, 0}, {"5", 100, 0}, {"five%", 100, 0}, {"-5%", 100, 0},
	} {
		if got := scaled(amount(tc.v), tc.of); got != tc.want {
			t.Errorf("%v of %d is %d, want %d", tc.v, tc.of, got, tc.want)
		}
	}
}

// A wave with a size has other tenants in each fan-out, and none with an outcome while there are others.
func TestHashOrder(t *testing.T) {
	tenants := givenTenants(1000)
	for i := range 900 {
		tenants[i].State = Suspended
	}
	canaries := func(fanOut types.UID) (names []string) {
		f := givenFanOut(withWaves(sizeWave("canary", 10, 0)))
		f.UID = fanOut
		for _, e := range givenPlan(t, f, tenants).Entries {
			if e.Wave == 0 {
				if e.Outcome.Decided() {
					t.Errorf("%s is suspended and a canary", e.Tenant)
				}
				names = append(names, e.Tenant)
			}
		}
		return names
	}
	first := canaries("one")
	slices.Reverse(tenants)
	if again := canaries("one"); !slices.Equal(first, again) {
		t.Errorf("the same fan-out has the canaries %v and %v", first, again)
	}
	if other := canaries("two"); slices.Equal(first, other) {
		t.Errorf("another fan-out has the same canaries: %v", other)
	}
}

func TestSealSpreads(t *testing.T) {
	const window = 3600
	tenants := givenTenants(2000)
	start := testTime.Add(-time.Minute)
	at := func(f *v1alpha1.TenantFanOut) map[string]time.Time {
		p, err := Seal(Request{FanOut: f, Template: givenTemplate(), Tenants: tenants, Start: start}, testTime)
		if err != nil {
			t.Fatal(err)
		}
		times := map[string]time.Time{}
		for _, e := range storedPlan(t, f, p).Entries {
			times[e.Tenant] = e.NotBefore
		}
		return times
	}
	for name, when := range at(givenFanOut()) {
		if !when.IsZero() {
			t.Fatalf("%s waits until %s", name, when)
		}
	}
	other := givenFanOut(withSpread(window))
	other.UID = "another"
	whole, again, half := at(givenFanOut(withSpread(window))), at(other), at(givenFanOut(withSpread(window/2)))
	quarters := [4]int{}
	for _, tn := range tenants {
		offset := whole[tn.Name].Sub(start)
		if offset < 0 || offset >= window*time.Second {
			t.Fatalf("%s is at %s", tn.Name, offset)
		}
		quarters[offset/(window/4*time.Second)]++
		if !again[tn.Name].Equal(whole[tn.Name]) {
			t.Errorf("%s has another place in the next fan-out", tn.Name)
		}
		if d := offset/2 - half[tn.Name].Sub(start); d < 0 || d > time.Second {
			t.Errorf("%s is %s off in half the window", tn.Name, d)
		}
	}
	if slices.Min(quarters[:]) < 400 {
		t.Errorf("the starts are not spread evenly: %v", quarters)
	}

	civil := testTime.Add(5 * time.Hour)
	tenants[7].NotBefore = civil
	if got := at(givenFanOut())[tenants[7].Name]; !got.Equal(civil) {
		t.Errorf("due on its own clock at %s, want %s", got, civil)
	}
	if got := at(givenFanOut(withSpread(window)))[tenants[7].Name]; got.Sub(civil) != whole[tenants[7].Name].Sub(start) {
		t.Errorf("due on its own clock at %s, want its place after %s", got, civil)
	}
}

func TestTenantOf(t *testing.T) {
	of := func(change func(*v1alpha1.Tenant)) *v1alpha1.Tenant {
		tn := &v1alpha1.Tenant{Status: v1alpha1.TenantStatus{Namespace: &v1alpha1.TenantNamespaceStatus{Name: "tenant-acme"}}}
		change(tn)
		return tn
	}
	notReady := func(reason string) func(*v1alpha1.Tenant) {
		return func(tn *v1alpha1.Tenant) {
			tn.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason}}
		}
	}
	for name, tc := range map[string]struct {
		change func(*v1alpha1.Tenant)
		want   State
	}{
		"active":                     {func(*v1alpha1.Tenant) {}, Active},
		"suspended":                  {func(tn *v1alpha1.Tenant) { tn.Spec.Suspend = new(true) }, Suspended},
		"being resumed":              {func(tn *v1alpha1.Tenant) { tn.Status.State = v1alpha1.StateSuspended }, Suspended},
		"new":                        {func(tn *v1alpha1.Tenant) { tn.Status.Namespace = nil }, NotReady},
		"namespace terminating":      {notReady(v1alpha1.ReasonNamespaceTerminating), NotReady},
		"not ready for other causes": {notReady(v1alpha1.ReasonInvalidSpec), Active},
		"deleting and suspended": {func(tn *v1alpha1.Tenant) {
			tn.DeletionTimestamp, tn.Spec.Suspend = &metav1.Time{Time: testTime}, new(true)
		}, Deleting},
	} {
		t.Run(name, func(t *testing.T) {
			if got := TenantOf(of(tc.change)); got.State != tc.want {
				t.Errorf("state %d, want %d", got.State, tc.want)
			}
		})
	}
}

func TestFind(t *testing.T) {
	p := givenPlan(t, givenFanOut(), givenTenants(50))
	for i := range 50 {
		if got, found := p.Find(fmt.Sprintf("tenant-%05d", i)); !found || got != i {
			t.Errorf("tenant %d is at %d, %t", i, got, found)
		}
	}
	if _, found := p.Find("tenant-1"); found {
		t.Error("found a tenant that is not planned")
	}
}
