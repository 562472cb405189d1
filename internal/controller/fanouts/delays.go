package fanouts

import (
	"maps"
	"slices"
	"time"

	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/job"
)

const (
	// firstRetry is after how long the creation of a child is tried again that has failed; each time in a row doubles it.
	// lastRefusedRetry is the most for a child that the API server refuses, lastFailedRetry for one about which nobody knows
	// whether it was created: that request takes up to createTimeout.
	firstRetry       = 2 * time.Second
	lastRefusedRetry = 10 * time.Second
	lastFailedRetry  = 30 * time.Second
	// overloadTenants is how many different tenants' creations in a row must fail, without one that succeeds, to be taken for
	// trouble of the API server instead of the tenants'.
	overloadTenants = 3
)

// delay says why a child can't be created for now, and when to try again.
type delay struct {
	delayCause
	retryAt time.Time
	// retries is how often the creation has failed.
	retries int
	clock   job.TroubleClock
	// ended says that the tenant gets its outcome, and that the creation is not tried again.
	ended bool
}

// delayCause is why a child can't be created for now.
type delayCause struct {
	message string
	// reason is that of the tenant's outcome if it stays like that.
	reason string
	// unclear says that the cause may concern other tenants as well.
	unclear bool
	// takesLong says that the cause may pass without anybody's help.
	takesLong bool
	// longestRetry is after how long to try again at most.
	longestRetry time.Duration
}

// setDelayed puts off the creation of a tenant's child, for longer each time.
func (a *activeFanOut) setDelayed(tenant string, cause delayCause, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.delayed[tenant]
	if d == nil {
		d = &delay{}
		a.delayed[tenant] = d
	}
	d.delayCause = cause
	d.retryAt = now.Add(min(firstRetry<<min(d.retries, 10), cause.longestRetry))
	d.retries++
}

// succeeded notes that a child was created: the API server does not refuse all.
func (a *activeFanOut) succeeded() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.failing)
}

// failed notes that the creation of a tenant's child has failed for a reason that may concern other tenants as well. It says
// whether the API server is in trouble.
func (a *activeFanOut) failed(tenant string) (overload bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failing[tenant] = true
	return a.manyFail()
}

// isOverloaded says whether the API server is in trouble.
func (a *activeFanOut) isOverloaded() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.manyFail()
}

// manyFail is isOverloaded for callers that hold the lock.
func (a *activeFanOut) manyFail() bool { return len(a.failing) >= overloadTenants }

// delayMessages says of each delayed tenant why it has no child yet.
func (a *activeFanOut) delayMessages() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	messages := make(map[string]string, len(a.delayed))
	for tenant, d := range a.delayed {
		messages[tenant] = d.message
	}
	return messages
}

// withoutDelayed leaves out the entries of the plan whose tenant is to be tried again later, or is being tried.
func (a *activeFanOut) withoutDelayed(indexes []int, now time.Time) []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(indexes), func(i int) bool {
		tenant := a.plan.Entries[i].Tenant
		d := a.delayed[tenant]
		return a.inFlight[tenant] || d != nil && (d.ended || now.Before(d.retryAt))
	})
}

// limitDelays counts the time for which the creations of children have been delayed, while these children were to be created.
// A tenant whose child can't be created for too long gets its outcome in the next pass. It says whether there are any.
func (a *activeFanOut) limitDelays(wanted []int, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.delayed) == 0 {
		return false
	}
	isWanted := make(map[string]bool, len(wanted))
	for _, i := range wanted {
		isWanted[a.plan.Entries[i].Tenant] = true
	}
	ledger, limited := a.ledger.Load(), false
	maps.DeleteFunc(a.delayed, func(tenant string, d *delay) bool {
		i, _ := a.plan.Find(tenant)
		if ledger.HasChild(i) || ledger.Outcome(i).Decided() {
			return true
		}
		if left := d.clock.Tick(a.troubleOf(d, isWanted[tenant]), now); left <= 0 && isWanted[tenant] {
			limited = limited || !d.ended
			d.ended = true
		}
		return false
	})
	return limited
}

// addEnded adds the tenants whose child could not be created for too long to the children.
func (a *activeFanOut) addEnded(children map[string]fanout.Child) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for tenant, d := range a.delayed {
		if _, exists := children[tenant]; d.ended && !exists {
			children[tenant] = fanout.Child{Presence: fanout.Refused, Reason: d.reason, Message: d.clock.Message(d.message)}
		}
	}
}

// troubleOf says whose fault a delay is. Time in which the child is not to be created is nobody's.
func (a *activeFanOut) troubleOf(d *delay, isWanted bool) job.Trouble {
	switch {
	case !isWanted:
		return job.NoTrouble
	case d.takesLong, d.unclear && a.manyFail():
		return job.UnclearTrouble
	}
	return job.TenantsTrouble
}
