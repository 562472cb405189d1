package queue

import (
	"cmp"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// The clock of maxWaitSeconds has two hands, so that a fan-out that fills and empties with every start does not touch
// those that wait: a group's clock runs while its fan-out and its queue would let it start but for the queue's limits,
// and a job reads the time that it waits from it while neither the job itself nor its tenant is held.

// clock of a group.
type clock struct {
	on    bool
	since time.Time
	// elapsed until since.
	elapsed time.Duration
}

// stopwatch of a job.
type stopwatch struct {
	ticking bool
	// from is what the group's clock read when it was last looked at, waited how long it had waited then.
	from, waited time.Duration
	// expireAt is what the group's clock reads when it has waited for its MaxWait.
	expireAt time.Duration
}

func (c *clock) reading(now time.Time) time.Duration {
	if !c.on {
		return c.elapsed
	}
	return c.elapsed + max(0, now.Sub(c.since))
}

func (c *clock) set(on bool, now time.Time) {
	if on != c.on {
		c.elapsed, c.since, c.on = c.reading(now), now, on
	}
}

// showClock starts or stops a group's clock and notes when the first of its jobs expires.
func (s *State) showClock(g *group) {
	g.set(g.queue.free() && g.fanOut.free(g.key.wave) && g.fanOut.hasRoom(), s.now)
	if !g.expiry.empty() {
		g.deadline = g.since.Add(g.expiry.top().expireAt - g.elapsed)
	}
	s.expiring.set(g, g.on && !g.expiry.empty())
}

// runClock starts or stops a job's stopwatch.
func (s *State) runClock(e *entry) {
	g := e.lane.stall.group
	s.showClock(g)
	reading := g.reading(s.now)
	if e.ticking {
		e.waited += reading - e.from
	}
	e.ticking = e.jobAt != 0 && e.tenant.known && e.tenant.Held == ""
	e.from, e.expireAt = reading, reading+e.MaxWait-e.waited
	g.expiry.set(e, e.ticking && e.MaxWait > 0)
	s.showClock(g)
}

// Waited is how long limits of queue, tenant and template have held a TenantJob that waits: the time that counts against
// its maxWaitSeconds.
func (s *State) Waited(uid types.UID) time.Duration {
	e := s.jobs[uid]
	if e == nil || e.lane == nil || !e.ticking {
		if e == nil {
			return 0
		}
		return e.waited
	}
	return e.waited + e.lane.stall.group.reading(s.now) - e.from
}

func newExpiry() heap[*entry] {
	return heap[*entry]{
		less: func(a, b *entry) bool {
			return cmp.Or(cmp.Compare(a.expireAt, b.expireAt), cmp.Compare(a.UID, b.UID)) < 0
		},
		index: func(e *entry) *int { return &e.expiryAt },
	}
}
