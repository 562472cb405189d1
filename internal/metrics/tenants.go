package metrics

import (
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// OtherTenants is the tenant label of those that have no series of their own. No Tenant can have such a name.
const OtherTenants = "_other"

// finished counts what has ended by tenant, and knows which tenants have series of their own.
type finished struct {
	counters *prometheus.CounterVec
	max      int

	mu sync.Mutex
	// own are the tenants with series of their own. True means that something of theirs is counted; the others have a
	// place only for as long as something runs.
	own map[string]bool
}

func newFinished(most int) *finished {
	return &finished{
		counters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tenantry_tenantjobs_finished_total",
			Help: "How many TenantJobs have ended, by outcome: succeeded, failed, or skipped, which is nobody's failure.",
		}, []string{"tenant", "outcome"}),
		max: most,
		own: map[string]bool{},
	}
}

func (f *finished) add(tenant, outcome string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	label := f.label(tenant)
	if counted, own := f.own[label]; own && !counted {
		f.own[label] = true
		// A rate sees no increase from nothing to 1, but from 0.
		for _, o := range []string{OutcomeSucceeded, OutcomeFailed, OutcomeSkipped} {
			f.counters.WithLabelValues(label, o)
		}
	}
	f.counters.WithLabelValues(label, outcome).Inc()
}

// forget gives the place of a tenant free.
func (f *finished) forget(tenant string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, own := f.own[tenant]; own {
		delete(f.own, tenant)
		f.counters.DeletePartialMatch(prometheus.Labels{"tenant": tenant})
	}
}

// share turns counts by tenant into counts by label. A tenant whose last run has ended has 0.
func (f *finished) share(byTenant map[string]int) map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	// One that was forgotten may have been seen once more before its last run was gone.
	maps.DeleteFunc(f.own, func(tenant string, counted bool) bool { return !counted && byTenant[tenant] == 0 })
	byLabel := make(map[string]int, len(f.own)+1)
	for tenant := range f.own {
		byLabel[tenant] = 0
	}
	for _, tenant := range slices.Sorted(maps.Keys(byTenant)) {
		if n := byTenant[tenant]; n > 0 {
			byLabel[f.label(tenant)] += n
		}
	}
	return byLabel
}

// label is the tenant's own name if it has a place or gets one.
func (f *finished) label(tenant string) string {
	_, own := f.own[tenant]
	switch {
	case own:
		return tenant
	case tenant == "" || tenant == OtherTenants || len(f.own) >= f.max:
		return OtherTenants
	}
	f.own[tenant] = false
	return tenant
}
