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
	// countDelay is how long a Tenant waits in the countQueue. A Job that starts and ends in that time costs no write.
	countDelay = 15 * time.Second
	// countDelayInRush is countDelay while the dispatcher is rushing, because the starts are more urgent.
	countDelayInRush = time.Minute
	// countInterval is the time between two batches of Tenants. Together with the size of a batch it bounds how many writes a
	// fan-out over thousands of tenants causes. Most of its Jobs have ended when it is their tenant's turn, and cost no write.
	countInterval = time.Second
	// countBatch is how many Tenants are reconciled at once for their count.
	countBatch = 10
	// countBatchInRush is countBatch while the dispatcher is rushing.
	countBatchInRush = 2
)

// countQueue has the Tenants that had a Job start or end since their running Jobs were counted, in this order.
type countQueue struct {
	mu      sync.Mutex
	entries []countEntry
	queued  map[string]struct{}
}

// countEntry is a Tenant, and the time since which its count may be out of date.
type countEntry struct {
	tenant string
	since  time.Time
}

// add adds a Tenant, if it is not in the queue.
func (q *countQueue) add(tenant string, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, queued := q.queued[tenant]; queued {
		return
	}
	if q.queued == nil {
		q.queued = map[string]struct{}{}
	}
	q.queued[tenant] = struct{}{}
	q.entries = append(q.entries, countEntry{tenant, now})
}

// next takes the Tenants that have waited long enough out of the queue, until it has found a batch of Tenants whose count is
// outdated. It returns the batch.
func (q *countQueue) next(now time.Time, rushing bool, isOutdated func(tenant string) bool) []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	delay, size := countDelay, countBatch
	if rushing {
		delay, size = countDelayInRush, countBatchInRush
	}
	var batch []string
	removed := 0
	for _, entry := range q.entries {
		if len(batch) == size || now.Sub(entry.since) < delay {
			break
		}
		delete(q.queued, entry.tenant)
		removed++
		if isOutdated(entry.tenant) {
			batch = append(batch, entry.tenant)
		}
	}
	if q.entries = q.entries[removed:]; len(q.entries) == 0 {
		q.entries = nil // It releases the memory.
	}
	return batch
}

// refreshCounts requests Tenants whose status.running is out of date, until the context is done.
func (r *Reconciler) refreshCounts(ctx context.Context) error {
	ticker := time.NewTicker(countInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		for _, name := range r.counts.next(r.Clock.Now(), r.Dispatcher.Rushing(), r.isCountOutdated) {
			r.request(ctx, &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: name}})
		}
	}
}

// isCountOutdated says whether a Tenant's status.running differs from the number of its running Jobs in the cache.
func (r *Reconciler) isCountOutdated(name string) bool {
	t, exists := r.tenants.Get(types.NamespacedName{Name: name})
	if !exists {
		return false
	}
	running := unfinishedJobs(r.jobs.In(t.NamespaceName()), t)
	return t.Status.Running == nil || int(*t.Status.Running) != len(running)
}
