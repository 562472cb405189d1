package metrics

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// finishedCase is what is recorded with two labels for tenants, and which samples that gives.
type finishedCase struct {
	record func(*Recorder)
	want   []string
}

func (given finishedCase) run(t *testing.T) {
	t.Parallel()
	r := recorder(Options{MaxTenants: 2})
	given.record(r)
	var want []string
	for _, w := range given.want {
		want = append(want, "tenantjobs_finished_total "+w)
	}
	slices.Sort(want) // by outcome first, as in samplesOf
	expect(t, samplesOf(t, r), want...)
}

func TestFinished(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]finishedCase{
		"a counter begins at 0": {
			func(r *Recorder) { r.Finished("acme", OutcomeFailed) },
			[]string{"failed acme 1", "skipped acme 0", "succeeded acme 0"},
		},
		"one tenant more than there is room for": {
			func(r *Recorder) {
				r.Finished("globex", OutcomeSucceeded)
				r.Finished("initech", OutcomeFailed)
				r.Finished("acme", OutcomeSucceeded)
				r.Finished("globex", OutcomeSucceeded)
				r.Finished("hooli", OutcomeSucceeded)
			},
			[]string{
				"succeeded _other 2", "failed globex 0", "skipped globex 0", "succeeded globex 2", "failed initech 1",
				"skipped initech 0", "succeeded initech 0",
			},
		},
		"names of no tenant take no room": {
			func(r *Recorder) {
				r.Finished("", OutcomeFailed)
				r.Finished(OtherTenants, OutcomeFailed)
				r.Finished("acme", OutcomeFailed)
				r.Finished("globex", OutcomeFailed)
			},
			[]string{
				"failed _other 2", "failed acme 1", "skipped acme 0", "succeeded acme 0", "failed globex 1", "skipped globex 0",
				"succeeded globex 0",
			},
		},
	} {
		t.Run(name, given.run)
	}
}

func TestForgetTenant(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]finishedCase{
		"a deleted tenant makes room": {
			func(r *Recorder) {
				r.Finished("globex", OutcomeSucceeded)
				r.Finished("initech", OutcomeSucceeded)
				r.ForgetTenant("globex")
				r.ForgetTenant("never-seen")
				r.Finished("acme", OutcomeSkipped)
			},
			[]string{
				"failed acme 0", "skipped acme 1", "succeeded acme 0", "failed initech 0", "skipped initech 0", "succeeded initech 1",
			},
		},
		"one that is created again begins at 0": {
			func(r *Recorder) {
				r.Finished("acme", OutcomeSucceeded)
				r.ForgetTenant("acme")
				r.Finished("acme", OutcomeFailed)
			},
			[]string{"failed acme 1", "skipped acme 0", "succeeded acme 0"},
		},
		"forgetting one of the others": {
			func(r *Recorder) {
				for _, tenant := range []string{"globex", "initech", "acme"} {
					r.Finished(tenant, OutcomeSkipped)
				}
				r.ForgetTenant("acme")
				r.ForgetTenant("globex")
			},
			[]string{"skipped _other 1", "failed initech 0", "skipped initech 1", "succeeded initech 0"},
		},
	} {
		t.Run(name, given.run)
	}
}

func TestRunningOfTenants(t *testing.T) {
	t.Parallel()
	running := map[string]int{}
	r := recorder(Options{MaxTenants: 2, Running: func() map[string]int { return maps.Clone(running) }})
	step := func(given map[string]int, want ...string) {
		t.Helper()
		running = given
		got := slices.DeleteFunc(samplesOf(t, r), func(s string) bool { return strings.HasPrefix(s, "tenantjobs_finished_total") })
		for i := range want {
			want[i] = "tenant_running_tenantjobs " + want[i]
		}
		expect(t, got, want...)
	}
	step(nil)
	step(map[string]int{"acme": 2}, "acme 2")
	r.Finished("acme", OutcomeSucceeded)
	step(map[string]int{"globex": 1, "hooli": 3, "initech": 4}, "_other 7", "acme 0", "globex 1")
	// globex keeps its label, since it had one first.
	step(map[string]int{"acme": 1, "amce": 1, "globex": 1}, "_other 1", "acme 1", "globex 1")
	r.ForgetTenant("globex")
	r.ForgetTenant("acme")
	step(map[string]int{"acme": 1, "hooli": 1}, "acme 1", "hooli 1")
	// A scrape has seen acme once more after it was deleted. Its label is free again, too.
	step(map[string]int{"hooli": 1, "initech": 1}, "hooli 1", "initech 1")
	step(map[string]int{})
}

// TestNoTenantOfItsOwn: with none allowed everything is in one series.
func TestNoTenantOfItsOwn(t *testing.T) {
	t.Parallel()
	for _, maxTenants := range []int{0, -1} {
		r := recorder(Options{MaxTenants: maxTenants, Running: func() map[string]int { return map[string]int{"acme": 2, "globex": 1} }})
		r.Finished("acme", OutcomeSucceeded)
		expect(t, samplesOf(t, r),
			"tenant_running_tenantjobs _other 3", "tenantjobs_finished_total succeeded _other 1")
	}
}
