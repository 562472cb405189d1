package tenants

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

const (
	// countAfter is how far status.running may be behind, so that jobs that are over by then cost no write. In a rush of
	// starts those come first, and it is countAfterInRush.
	countAfter       = 15 * time.Second
	countAfterInRush = time.Minute
	// countEvery and countsAtOnce bound how many of them are brought up to date, so that a fan-out over thousands of
	// tenants does not cost each of them a write: it may be over by then. In a rush they are countsAtOnceInRush.
	countEvery         = time.Second
	countsAtOnce       = 10
	countsAtOnceInRush = 2
)

// countLine are the Tenants that have had a Job begin or end since their running jobs were counted, in this order.
type countLine struct {
	mu    sync.Mutex
	line  []countDue
	known map[string]struct{}
}

// countDue is a Tenant, and since when its count may be wrong.
type countDue struct {
	tenant string
	since  time.Time
}

// add a Tenant, if it is not in line.
func (l *countLine) add(tenant string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.known[tenant]; known {
		return
	}
	if l.known == nil {
		l.known = map[string]struct{}{}
	}
	l.known[tenant] = struct{}{}
	l.line = append(l.line, countDue{tenant, now})
}

// take out those that have waited for long enough, until there are enough of those whose count is wrong, which are returned.
func (l *countLine) take(now time.Time, rush bool, wrong func(tenant string) bool) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, most := now.Add(-countAfter), countsAtOnce
	if rush {
		before, most = now.Add(-countAfterInRush), countsAtOnceInRush
	}
	var found []string
	next := 0
	for ; next < len(l.line) && len(found) < most && !l.line[next].since.After(before); next++ {
		tenant := l.line[next].tenant
		delete(l.known, tenant)
		if wrong(tenant) {
			found = append(found, tenant)
		}
	}
	if l.line = l.line[next:]; len(l.line) == 0 {
		l.line = nil
	}
	return found
}

// keepCounts has Tenants looked at whose status.running has been wrong for a while, until the context is done.
func (r *Reconciler) keepCounts(ctx context.Context) error {
	ticker := time.NewTicker(countEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		for _, name := range r.counts.take(r.Clock.Now(), r.Dispatcher.Rushing(), r.isMiscounted) {
			r.look(ctx, &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: name}})
		}
	}
}

// isMiscounted says whether the status of a Tenant has another number of running jobs than the cache.
func (r *Reconciler) isMiscounted(tenant string) bool {
	t, exists := r.tenants.Get(types.NamespacedName{Name: tenant})
	if !exists {
		return false
	}
	live := liveJobsOf(r.jobs.In(t.NamespaceName()), t)
	return t.Status.Running == nil || int(*t.Status.Running) != len(live)
}
