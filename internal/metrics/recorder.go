// Package metrics is what the operator tells Prometheus: few series, of which none is about a single TenantJob, and no
// more than a set number of tenants have their own.
package metrics

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"github.com/tenantry/tenantry/internal/queue"
)

// Outcomes of a TenantJob, as a fan-out counts them.
const (
	OutcomeSucceeded = "succeeded"
	OutcomeFailed    = "failed"
	OutcomeSkipped   = "skipped"
)

// Options of a Recorder. The functions are asked at each scrape, by several at once, and must answer quickly.
type Options struct {
	// Queues returns the counts of every queue, by name. Nil means none.
	Queues func() map[string]queue.Counts
	// Running returns how many TenantJobs of each tenant run, by name. Nil means none.
	Running func() map[string]int
	// MaxTenants is how many tenants have series of their own, first come, first served. The others share OtherTenants.
	MaxTenants int
	// Clock tells the time.
	Clock clock.PassiveClock
}

var (
	queueWaiting = prometheus.NewDesc("tenantry_queue_waiting_tenantjobs",
		"How many TenantJobs wait in the queue.", []string{"queue"}, nil)
	queueRunning = prometheus.NewDesc("tenantry_queue_running_tenantjobs",
		"How many TenantJobs of the queue run.", []string{"queue"}, nil)
	queueOldest = prometheus.NewDesc("tenantry_queue_oldest_wait_seconds",
		"How long ago the oldest TenantJob that waits in the queue was made. 0 when none waits.", []string{"queue"}, nil)
	tenantRunning = prometheus.NewDesc("tenantry_tenant_running_tenantjobs",
		"How many TenantJobs of the tenant run.", []string{"tenant"}, nil)
)

// waitBuckets are from what a person does not notice to what goes wrong overnight.
var waitBuckets = []float64{0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 12 * 3600}

// Recorder holds all series of the operator's own. It is safe for concurrent use.
type Recorder struct {
	opts     Options
	waits    *prometheus.HistogramVec
	finished *finished
}

var _ prometheus.Collector = (*Recorder)(nil)

// New returns a Recorder that has recorded nothing yet.
func New(opts Options) *Recorder {
	return &Recorder{
		opts: opts,
		waits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tenantry_tenantjob_wait_seconds",
			Help:    "How long TenantJobs waited, from when they could have started at the earliest until they did.",
			Buckets: waitBuckets,
		}, []string{"queue", "priority"}),
		finished: newFinished(opts.MaxTenants),
	}
}

// Register has the registry gather what this Recorder holds, in place of what an earlier one held: of several operators
// in one process the last one counts.
func (r *Recorder) Register(registry prometheus.Registerer) error {
	for {
		err := registry.Register(r)
		if err == nil {
			return nil
		}
		if _, taken := errors.AsType[prometheus.AlreadyRegisteredError](err); !taken {
			return fmt.Errorf("registering the metrics: %w", err)
		}
		// What is registered goes by the names of its series, so this takes off the one that was there.
		registry.Unregister(r)
	}
}

// Started records that a TenantJob has started, and how long it had waited since it could have at the earliest: since it
// was made, or since its notBeforeTime.
func (r *Recorder) Started(queueName, priority string, wait time.Duration) {
	// Clocks of several machines are in it.
	r.waits.WithLabelValues(queueName, priority).Observe(max(0, wait).Seconds())
}

// Finished records that a TenantJob has ended. An empty tenant is one of which nobody has found that it exists: names that
// somebody made up must not take the place of tenants.
func (r *Recorder) Finished(tenant, outcome string) { r.finished.add(tenant, outcome) }

// ForgetTenant removes what is recorded about a tenant that is gone, and lets another one have series in its place.
func (r *Recorder) ForgetTenant(name string) { r.finished.forget(name) }

// ForgetQueue removes what is recorded about a queue that is gone.
func (r *Recorder) ForgetQueue(name string) {
	r.waits.DeletePartialMatch(prometheus.Labels{"queue": name})
}

// Describe implements prometheus.Collector.
func (r *Recorder) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{queueWaiting, queueRunning, queueOldest, tenantRunning} {
		descs <- d
	}
	r.waits.Describe(descs)
	r.finished.counters.Describe(descs)
}

// Collect implements prometheus.Collector.
func (r *Recorder) Collect(series chan<- prometheus.Metric) {
	r.waits.Collect(series)
	r.finished.counters.Collect(series)
	gauge := func(desc *prometheus.Desc, value float64, label string) {
		series <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, label)
	}
	if r.opts.Queues != nil {
		now := r.opts.Clock.Now()
		for name, c := range r.opts.Queues() {
			gauge(queueWaiting, float64(c.Waiting), name)
			gauge(queueRunning, float64(c.Running), name)
			gauge(queueOldest, age(c.Oldest, now).Seconds(), name)
		}
	}
	if r.opts.Running != nil {
		for name, n := range r.finished.share(r.opts.Running()) {
			gauge(tenantRunning, float64(n), name)
		}
	}
}

func age(since, now time.Time) time.Duration {
	if since.IsZero() {
		return 0
	}
	return max(0, now.Sub(since))
}
