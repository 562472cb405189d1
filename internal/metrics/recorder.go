// Package metrics exports the operator's metrics to Prometheus. There are few series: none is about a single TenantJob, and
// only a limited number of tenants have their own.
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

// Options of a Recorder. The functions are called at each scrape, also concurrently, and must return quickly.
type Options struct {
	// Queues returns the counts of every queue, by name. Nil means none.
	Queues func() map[string]queue.Counts
	// Running returns how many TenantJobs of each tenant run, by name. Nil means none.
	Running func() map[string]int
	// Credentials returns what each CredentialProvider has to do with credentials of runs, by its name. Nil means none.
	Credentials func() map[string]CredentialCounts
	// Policies returns what is known of each admission policy, by its name. Nil means none.
	Policies func() map[string]PolicyCounts
	// Workloads returns how many workloads that are no runs each tenant has, by name. Nil means none.
	Workloads func() map[string]int
	// MaxTenants is how many tenants have series of their own: the first that are seen. The others share those of OtherTenants.
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
	tenantWorkloads = prometheus.NewDesc("tenantry_tenant_foreign_workloads",
		"How many workloads in the namespace of the tenant are no runs of the tenant.", []string{"tenant"}, nil)
)

// CredentialCounts are those of one CredentialProvider.
type CredentialCounts struct {
	// Live is how many credentials are issued, or being issued, and Revoking how many are to be revoked and are not yet.
	Live, Revoking int
	// Oldest is since when the oldest of the latter is to be. Zero means that there is none.
	Oldest time.Time
	// What was done since this process leads.
	Issued, IssueFailures, Revoked, RevokeFailures uint64
}

var (
	credentialsLive = prometheus.NewDesc("tenantry_credentials_live",
		"How many credentials of runs the provider has issued or is issuing.", []string{"provider"}, nil)
	credentialsRevoking = prometheus.NewDesc("tenantry_credentials_revoking",
		"How many credentials are to be revoked and are not yet.", []string{"provider"}, nil)
	credentialsOldest = prometheus.NewDesc("tenantry_credentials_oldest_revocation_seconds",
		"For how long the oldest credential that is to be revoked lives on. 0 when there is none.", []string{"provider"}, nil)
	credentialsIssues = prometheus.NewDesc("tenantry_credentials_issues_total",
		"How many attempts to issue a credential there were, by outcome: succeeded or failed.", []string{"provider", "outcome"}, nil)
	credentialsRevocations = prometheus.NewDesc("tenantry_credentials_revocations_total",
		"How many attempts to revoke a credential there were, by outcome: succeeded or failed.", []string{"provider", "outcome"}, nil)
)

// PolicyCounts are those of one admission policy.
type PolicyCounts struct {
	// InForce says whether the policy is in force, as far as is known.
	InForce bool
	// Repairs is how often the policy or a binding of it was put back since this process leads.
	Repairs uint64
}

var (
	policyInForce = prometheus.NewDesc("tenantry_policy_in_force",
		"1 while the admission policy is in force, 0 while it is not: nothing starts then.", []string{"policy"}, nil)
	policyRepairs = prometheus.NewDesc("tenantry_policy_repairs_total",
		"How often the admission policy or a binding of it was missing or changed, and put back.", []string{"policy"}, nil)
)

// waitBuckets reach from waits that a person does not notice to a whole night.
var waitBuckets = []float64{0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 12 * 3600}

// Recorder holds all of the operator's own series. It is safe for concurrent use.
type Recorder struct {
	opts    Options
	waits   *prometheus.HistogramVec
	tenants *tenantSeries
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
		tenants: newTenantSeries(opts.MaxTenants),
	}
}

// Register adds the Recorder to a registry. It replaces one that was registered before: when there are several operators in
// one process, the registry has the metrics of the last one.
func (r *Recorder) Register(registry prometheus.Registerer) error {
	for {
		err := registry.Register(r)
		if err == nil {
			return nil
		}
		if _, isTaken := errors.AsType[prometheus.AlreadyRegisteredError](err); !isTaken {
			return fmt.Errorf("registering the metrics: %w", err)
		}
		// A registry tells collectors apart by the names of their series, so this removes the earlier Recorder.
		registry.Unregister(r)
	}
}

// Started records that a TenantJob has started, and how long it had waited. The wait begins when the TenantJob was created, or
// at its notBeforeTime.
func (r *Recorder) Started(queueName, priority string, wait time.Duration) {
	// The times come from several machines, so the wait may be negative.
	r.waits.WithLabelValues(queueName, priority).Observe(max(0, wait).Seconds())
}

// Finished records that a TenantJob has ended. The tenant is empty when no Tenant of that name was found: invented names must
// not use up the series of tenants.
func (r *Recorder) Finished(tenant, outcome string) { r.tenants.addFinished(tenant, outcome) }

// ForgetTenant removes the series of a deleted tenant, so that another tenant can have series of its own.
func (r *Recorder) ForgetTenant(name string) { r.tenants.forget(name) }

// ForgetQueue removes the series of a deleted queue.
func (r *Recorder) ForgetQueue(name string) {
	r.waits.DeletePartialMatch(prometheus.Labels{"queue": name})
}

// Describe implements prometheus.Collector.
func (r *Recorder) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		queueWaiting, queueRunning, queueOldest, tenantRunning, tenantWorkloads,
		credentialsLive, credentialsRevoking, credentialsOldest, credentialsIssues, credentialsRevocations,
		policyInForce, policyRepairs,
	} {
		descs <- d
	}
	r.waits.Describe(descs)
	r.tenants.finished.Describe(descs)
}

// Collect implements prometheus.Collector.
func (r *Recorder) Collect(series chan<- prometheus.Metric) {
	r.waits.Collect(series)
	r.tenants.finished.Collect(series)
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
		for name, n := range r.tenants.byLabel(r.opts.Running()) {
			gauge(tenantRunning, float64(n), name)
		}
	}
	if r.opts.Workloads != nil {
		for name, n := range r.tenants.sum(r.opts.Workloads()) {
			gauge(tenantWorkloads, float64(n), name)
		}
	}
	if r.opts.Credentials != nil {
		r.collectCredentials(series, gauge)
	}
	if r.opts.Policies != nil {
		for name, c := range r.opts.Policies() {
			inForce := 0.0
			if c.InForce {
				inForce = 1
			}
			gauge(policyInForce, inForce, name)
			series <- prometheus.MustNewConstMetric(policyRepairs, prometheus.CounterValue, float64(c.Repairs), name)
		}
	}
}

func (r *Recorder) collectCredentials(series chan<- prometheus.Metric, gauge func(*prometheus.Desc, float64, string)) {
	counter := func(desc *prometheus.Desc, value uint64, labels ...string) {
		series <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
	}
	now := r.opts.Clock.Now()
	for name, c := range r.opts.Credentials() {
		gauge(credentialsLive, float64(c.Live), name)
		gauge(credentialsRevoking, float64(c.Revoking), name)
		gauge(credentialsOldest, age(c.Oldest, now).Seconds(), name)
		counter(credentialsIssues, c.Issued, name, OutcomeSucceeded)
		counter(credentialsIssues, c.IssueFailures, name, OutcomeFailed)
		counter(credentialsRevocations, c.Revoked, name, OutcomeSucceeded)
		counter(credentialsRevocations, c.RevokeFailures, name, OutcomeFailed)
	}
}

func age(since, now time.Time) time.Duration {
	if since.IsZero() {
		return 0
	}
	return max(0, now.Sub(since))
}
