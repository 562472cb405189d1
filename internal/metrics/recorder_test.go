package metrics

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/tenantry/tenantry/internal/queue"
)

var now = time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)

// gathered are the samples of a Recorder, one a line, its histograms in short. A pedantic registry also finds what is
// described wrongly.
func gathered(t *testing.T, r *Recorder) []string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := r.Register(registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var samples []string
	for _, family := range families {
		for _, m := range family.GetMetric() {
			sample := strings.TrimPrefix(family.GetName(), "tenantry_")
			for _, label := range m.GetLabel() {
				sample += " " + label.GetValue()
			}
			if h := m.GetHistogram(); h != nil {
				buckets := h.GetBucket()
				soon, all := buckets[0].GetCumulativeCount(), h.GetSampleCount()
				sample += fmt.Sprintf(" %d of %d in %g s, sum %g s", soon, all, buckets[0].GetUpperBound(), h.GetSampleSum())
			} else {
				sample += fmt.Sprintf(" %g", m.GetGauge().GetValue()+m.GetCounter().GetValue())
			}
			samples = append(samples, sample)
		}
	}
	return samples
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
}

func recorder(opts Options) *Recorder {
	opts.Clock = clocktesting.NewFakePassiveClock(now)
	return New(opts)
}

func TestQueues(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]struct {
		queues func() map[string]queue.Counts
		want   []string
	}{
		"nobody to ask": {nil, nil},
		"nothing known": {func() map[string]queue.Counts { return nil }, nil},
		"an idle queue": {counts(queue.Counts{}), []string{
			"queue_oldest_wait_seconds payments 0", "queue_running_tenantjobs payments 0", "queue_waiting_tenantjobs payments 0",
		}},
		"some wait": {counts(queue.Counts{Waiting: 3, Running: 2, Oldest: now.Add(-90 * time.Second)}), []string{
			"queue_oldest_wait_seconds payments 90", "queue_running_tenantjobs payments 2", "queue_waiting_tenantjobs payments 3",
		}},
		"a clock is ahead": {counts(queue.Counts{Waiting: 1, Oldest: now.Add(time.Second)}), []string{
			"queue_oldest_wait_seconds payments 0", "queue_running_tenantjobs payments 0", "queue_waiting_tenantjobs payments 1",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expect(t, gathered(t, recorder(Options{Queues: given.queues})), given.want...)
		})
	}
}

func counts(c queue.Counts) func() map[string]queue.Counts {
	return func() map[string]queue.Counts { return map[string]queue.Counts{"payments": c} }
}

func TestWaits(t *testing.T) {
	t.Parallel()
	r := recorder(Options{})
	r.Started("payments", "High", 200*time.Millisecond)
	r.Started("payments", "High", -time.Second)
	r.Started("payments", "Low", 2*time.Hour)
	r.Started("default", "Medium", time.Second)
	expect(t, gathered(t, r),
		"tenantjob_wait_seconds High payments 1 of 2 in 0.1 s, sum 0.2 s",
		"tenantjob_wait_seconds Low payments 0 of 1 in 0.1 s, sum 7200 s",
		"tenantjob_wait_seconds Medium default 0 of 1 in 0.1 s, sum 1 s")
	r.ForgetQueue("payments")
	expect(t, gathered(t, r), "tenantjob_wait_seconds Medium default 0 of 1 in 0.1 s, sum 1 s")
}

func TestFinished(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]struct {
		record func(*Recorder)
		want   []string
	}{
		"a rate begins at 0": {
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
		"a tenant that is gone makes room": {
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
		"one that comes back begins anew": {
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
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := recorder(Options{MaxTenants: 2})
			given.record(r)
			var want []string
			for _, w := range given.want {
				want = append(want, "tenantjobs_finished_total "+w)
			}
			slices.Sort(want) // by outcome first, as they come
			expect(t, gathered(t, r), want...)
		})
	}
}

func TestRunningOfTenants(t *testing.T) {
	t.Parallel()
	running := map[string]int{}
	r := recorder(Options{MaxTenants: 2, Running: func() map[string]int { return maps.Clone(running) }})
	step := func(now map[string]int, want ...string) {
		t.Helper()
		running = now
		got := slices.DeleteFunc(gathered(t, r), func(s string) bool { return strings.HasPrefix(s, "tenantjobs_finished_total") })
		for i := range want {
			want[i] = "tenant_running_tenantjobs " + want[i]
		}
		expect(t, got, want...)
	}
	step(nil)
	step(map[string]int{"acme": 2}, "acme 2")
	r.Finished("acme", OutcomeSucceeded)
	step(map[string]int{"globex": 1, "hooli": 3, "initech": 4}, "_other 7", "acme 0", "globex 1")
	// globex keeps its place, since it was there first.
	step(map[string]int{"acme": 1, "amce": 1, "globex": 1}, "_other 1", "acme 1", "globex 1")
	r.ForgetTenant("globex")
	r.ForgetTenant("acme")
	step(map[string]int{"acme": 1, "hooli": 1}, "acme 1", "hooli 1")
	// A scrape has seen acme once more after it was gone. That place is free again, too.
	step(map[string]int{"hooli": 1, "initech": 1}, "hooli 1", "initech 1")
	step(map[string]int{})
}

// TestNoTenantOfItsOwn: with none allowed everything is in one series.
func TestNoTenantOfItsOwn(t *testing.T) {
	t.Parallel()
	for _, most := range []int{0, -1} {
		r := recorder(Options{MaxTenants: most, Running: func() map[string]int { return map[string]int{"acme": 2, "globex": 1} }})
		r.Finished("acme", OutcomeSucceeded)
		expect(t, gathered(t, r),
			"tenant_running_tenantjobs _other 3", "tenantjobs_finished_total succeeded _other 1")
	}
}

// TestRegister: several operators in one process, as in tests.
func TestRegister(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	first, second := recorder(Options{MaxTenants: 1}), recorder(Options{MaxTenants: 1})
	for _, r := range []*Recorder{first, second} {
		if err := r.Register(registry); err != nil {
			t.Fatal(err)
		}
	}
	first.Finished("acme", OutcomeSucceeded)
	second.Finished("globex", OutcomeFailed)
	want := `
# HELP tenantry_tenantjobs_finished_total How many TenantJobs have ended, by outcome: succeeded, failed, or skipped, which is nobody's failure.
# TYPE tenantry_tenantjobs_finished_total counter
tenantry_tenantjobs_finished_total{outcome="failed",tenant="globex"} 1
tenantry_tenantjobs_finished_total{outcome="skipped",tenant="globex"} 0
tenantry_tenantjobs_finished_total{outcome="succeeded",tenant="globex"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	taken := prometheus.NewCounter(prometheus.CounterOpts{Name: "tenantry_tenantjobs_finished_total", Help: "Another."})
	other := prometheus.NewRegistry()
	other.MustRegister(taken)
	if err := first.Register(other); err == nil || !strings.HasPrefix(err.Error(), "registering the metrics: ") {
		t.Errorf("a name that somebody else has: %v", err)
	}
}

// oneEach is one run for each of some tenants.
func oneEach(tenants ...string) func() map[string]int {
	return func() map[string]int {
		running := map[string]int{}
		for _, tenant := range tenants {
			running[tenant] = 1
		}
		return running
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	r := recorder(Options{MaxTenants: 1, Queues: counts(queue.Counts{}), Running: oneEach("acme")})
	r.Started("payments", "High", time.Second)
	r.Finished("acme", OutcomeSucceeded)
	problems, err := testutil.CollectAndLint(r)
	if err != nil || len(problems) > 0 {
		t.Errorf("problems %v, error %v", problems, err)
	}
}

// TestScrapedWhileRecording is for the race detector.
func TestScrapedWhileRecording(t *testing.T) {
	t.Parallel()
	r := recorder(Options{MaxTenants: 2, Queues: counts(queue.Counts{Waiting: 1}), Running: oneEach("acme", "hooli")})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			for _, tenant := range []string{"acme", "globex", "initech"} {
				r.Finished(tenant, OutcomeSucceeded)
				r.Started("payments", "High", time.Second)
				r.ForgetTenant(tenant)
			}
			r.ForgetQueue("payments")
		}
	}()
	registry := prometheus.NewPedanticRegistry()
	if err := r.Register(registry); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if _, err := registry.Gather(); err != nil {
			t.Fatal(err)
		}
	}
	<-done
}
