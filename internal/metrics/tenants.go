package metrics

import (
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// OtherTenants is the tenant label of the tenants that have no series of their own. No Tenant can have this name.
const OtherTenants = "_other"

// tenantSeries counts the TenantJobs that have ended, by tenant, and decides which tenants have a label of their own.
type tenantSeries struct {
	finished   *prometheus.CounterVec
	maxTenants int

	mu sync.Mutex
	// labelled are the tenants that have a label of their own. True means that a counter has the label. The others have theirs
	// only as long as one of their TenantJobs runs.
	labelled map[string]bool
}

func newTenantSeries(maxTenants int) *tenantSeries {
	return &tenantSeries{
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tenantry_tenantjobs_finished_total",
			Help: "How many TenantJobs have ended, by outcome: succeeded, failed, or skipped, which is nobody's failure.",
		}, []string{"tenant", "outcome"}),
		maxTenants: maxTenants,
		labelled:   map[string]bool{},
	}
}

func (s *tenantSeries) addFinished(tenant, outcome string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	label := s.label(tenant)
	if isCounted, isLabelled := s.labelled[label]; isLabelled && !isCounted {
		s.labelled[label] = true
		// A new series starts at 0, since rate() does not see an increase from no series to 1.
		for _, o := range []string{OutcomeSucceeded, OutcomeFailed, OutcomeSkipped} {
			s.finished.WithLabelValues(label, o)
		}
	}
	s.finished.WithLabelValues(label, outcome).Inc()
}

// forget removes the series of a tenant, so that another one can have a label.
func (s *tenantSeries) forget(tenant string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, isLabelled := s.labelled[tenant]; isLabelled {
		delete(s.labelled, tenant)
		s.finished.DeletePartialMatch(prometheus.Labels{"tenant": tenant})
	}
}

// byLabel adds up numbers of tenants by label. A tenant that has a label and no number has 0.
func (s *tenantSeries) byLabel(byTenant map[string]int) map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A deleted tenant may have got a label again from a scrape before its last TenantJob was gone.
	maps.DeleteFunc(s.labelled, func(tenant string, isCounted bool) bool { return !isCounted && byTenant[tenant] == 0 })
	sums := make(map[string]int, len(s.labelled)+1)
	for tenant := range s.labelled {
		sums[tenant] = 0
	}
	for _, tenant := range slices.Sorted(maps.Keys(byTenant)) {
		if n := byTenant[tenant]; n > 0 {
			sums[s.label(tenant)] += n
		}
	}
	return sums
}

// sum adds up numbers of tenants by label. Only tenants with a number count.
func (s *tenantSeries) sum(byTenant map[string]int) map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	sums := map[string]int{}
	for _, tenant := range slices.Sorted(maps.Keys(byTenant)) {
		sums[s.label(tenant)] += byTenant[tenant]
	}
	return sums
}

// label returns the label of a tenant. A tenant without one gets a label of its own if there is room.
func (s *tenantSeries) label(tenant string) string {
	_, isLabelled := s.labelled[tenant]
	switch {
	case isLabelled:
		return tenant
	case tenant == "" || tenant == OtherTenants || len(s.labelled) >= s.maxTenants:
		return OtherTenants
	}
	s.labelled[tenant] = false
	return tenant
}
