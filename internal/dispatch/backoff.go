package dispatch

import (
	"time"

	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/clock"

	"github.com/tenantry/tenantry/internal/queue"
)

const (
	// firstBackoff and lastBackoff are after how long a tenant starts again after one of its starts failed: the first time, and
	// at most.
	firstBackoff = 2 * time.Second
	lastBackoff  = 5 * time.Minute
	// tenantsUnanswered is how many tenants' starts get no answer, with no start that succeeds in between, when the API server is
	// in trouble and not the tenants: then none waits for longer than firstBackoff.
	tenantsUnanswered = 3
	// maxTrials is of how many tenants whose last start failed a start is tried at once, so that starts that hang leave workers to
	// the starts of others: half of those that there are by default.
	maxTrials = 4
)

// backOffs keep the tenants whose starts fail from starting for a while.
type backOffs struct {
	// failures are of the tenants whose last start failed, and backoff how long each of them waits. Unanswered are those whose
	// starts got no answer since the last start that succeeded, whichever tenant's that was.
	failures   map[string]failure
	backoff    *flowcontrol.Backoff
	unanswered map[string]struct{}
	// trials are the tenants whose last start failed and of which the next is admitted or under way.
	trials map[string]struct{}
}

func newBackOffs(c clock.Clock) backOffs {
	backoff := flowcontrol.NewBackOff(firstBackoff, lastBackoff)
	backoff.Clock = c
	backoff.HasExpiredFunc = func(time.Time, time.Time, time.Duration) bool { return false } // only a start that succeeds ends it
	return backOffs{failures: map[string]failure{}, backoff: backoff, unanswered: map[string]struct{}{}, trials: map[string]struct{}{}}
}

// failure is why a tenant's last start failed, and until when it starts nothing. After that one start at a time shows whether it
// can start again: a start that hangs keeps a worker from the starts of others.
type failure struct {
	why   string
	until time.Time
}

// serverInTrouble says whether it is the API server that does not answer starts, and not their tenants that are to blame.
func (b *backOffs) serverInTrouble() bool { return len(b.unanswered) >= tenantsUnanswered }

// forget forgets that starts of a tenant failed.
func (b *backOffs) forget(tenant string) {
	delete(b.failures, tenant)
	delete(b.trials, tenant)
	b.backoff.DeleteEntry(tenant)
}

// forgive ends the back-off of a tenant, since a start has succeeded.
func (d *Dispatcher) forgive(tenant string) {
	clear(d.unanswered)
	if _, failed := d.failures[tenant]; failed {
		d.forget(tenant)
		d.state.BackOff(tenant, d.clock.Now(), "")
	}
}

// retry lets a tenant whose starts failed try again at once, and soon again if that fails, because there may be room now. It does
// not add a second trial to one under way: a tenant of which many Jobs end, and whose starts hang, would take all workers.
func (d *Dispatcher) retry(tenant string) {
	f, failed := d.failures[tenant]
	if !failed {
		return
	}
	d.backoff.DeleteEntry(tenant)
	d.failures[tenant] = failure{f.why, d.clock.Now()}
	if _, underWay := d.trials[tenant]; !underWay {
		d.endTrial(tenant)
	}
}

// beginTrial holds the other TenantJobs of a tenant whose last start failed, until it is known what comes of the start that was
// just admitted.
func (d *Dispatcher) beginTrial(tenant string) {
	if f, failed := d.failures[tenant]; failed {
		d.trials[tenant] = struct{}{}
		d.state.BackOff(tenant, d.clock.Now().Add(admissionLasts+WriteTimeout), f.why)
	}
}

// endTrial lets a tenant whose last start failed try the next, after its back-off.
func (d *Dispatcher) endTrial(tenant string) {
	delete(d.trials, tenant)
	if f, failed := d.failures[tenant]; failed {
		d.state.BackOff(tenant, f.until, f.why)
	}
}

// putOffTrial takes the admission of a tenant whose last start failed back, and says whether it did: starts of enough such tenants are
// under way.
func (d *Dispatcher) putOffTrial(j queue.Job, now time.Time) bool {
	f, failed := d.failures[j.Tenant]
	if _, underWay := d.trials[j.Tenant]; !failed || underWay || len(d.trials) < maxTrials {
		return false
	}
	d.state.Revoke(j.UID)
	d.state.BackOff(j.Tenant, now.Add(admissionLasts), f.why)
	return true
}

// backOff keeps a tenant from starting for a while after a start that failed, the longer the more often in a row that happened.
// What of it is admitted is revoked.
func (d *Dispatcher) backOff(tenant, why string) {
	now := d.clock.Now()
	switch {
	case d.serverInTrouble():
		d.failures[tenant] = failure{why, now.Add(firstBackoff)}
	case now.Before(d.failures[tenant].until): // Another start that was under way failed a moment ago.
	default:
		d.backoff.Next(tenant, now)
		d.failures[tenant] = failure{why, now.Add(d.backoff.Get(tenant))}
	}
	d.endTrial(tenant)
	for uid := range d.admitted {
		if s := d.slot(uid); s.job.Tenant == tenant {
			d.revokeAdmission(uid)
		}
	}
}
