package metrics

import (
	"fmt"
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

// samplesOf returns the samples of a Recorder, one a line. Of a histogram it has only the first bucket, the count and the sum.
// A pedantic registry also checks the descriptions.
func samplesOf(t *testing.T, r *Recorder) []string {
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
		"no function":   {nil, nil},
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
			expect(t, samplesOf(t, recorder(Options{Queues: given.queues})), given.want...)
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
	expect(t, samplesOf(t, r),
		"tenantjob_wait_seconds High payments 1 of 2 in 0.1 s, sum 0.2 s",
		"tenantjob_wait_seconds Low payments 0 of 1 in 0.1 s, sum 7200 s",
		"tenantjob_wait_seconds Medium default 0 of 1 in 0.1 s, sum 1 s")
	r.ForgetQueue("payments")
	expect(t, samplesOf(t, r), "tenantjob_wait_seconds Medium default 0 of 1 in 0.1 s, sum 1 s")
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

func TestPolicies(t *testing.T) {
	expect(t, samplesOf(t, recorder(Options{Policies: func() map[string]PolicyCounts {
		return map[string]PolicyCounts{"tenant-run": {InForce: true, Repairs: 2}, "tenant-job": {}}
	}})),
		"policy_in_force tenant-job 0", "policy_in_force tenant-run 1",
		"policy_repairs_total tenant-job 0", "policy_repairs_total tenant-run 2")
}
