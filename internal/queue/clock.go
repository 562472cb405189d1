package queue

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// The time that counts against maxWaitSeconds is measured in two parts. Each waveQueue has a clock, which runs while
// nothing but limits of the queue holds the wave. Each job has a stopwatch, which runs while neither the job itself
// nor its tenant is held, and which measures by the clock of the waveQueue. So a fan-out that fills and empties with
// every start stops and starts one clock for each of its waves, and touches no job.

// clock of a waveQueue.
type clock struct {
	on bool
	// since is when it was last started or stopped, elapsed what it read then.
	since   time.Time
	elapsed time.Duration
}

// stopwatch of a job.
type stopwatch struct {
	measuring bool
	// from is what the clock read when the stopwatch was last updated, waited how long the job had waited until then.
	from, waited time.Duration
	// expiresAt is what the clock reads when the job has waited for its MaxWait.
	expiresAt time.Duration
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

// updateClock starts or stops the clock of a waveQueue and notes when the first of its jobs expires.
func (s *State) updateClock(w *waveQueue) {
	w.set(s.held == "" && w.queue.active() && w.active() && w.fanOut.hasRoom(), s.now)
	if !w.expiring.empty() {
		w.deadline = w.since.Add(w.expiring.top().expiresAt - w.elapsed)
	}
	s.expiring.set(w, w.on && !w.expiring.empty())
}

// updateStopwatch starts or stops the stopwatch of a job.
func (s *State) updateStopwatch(e *entry) {
	w := e.templateQueue.flow.wave
	s.updateClock(w)
	reading := w.reading(s.now)
	if e.measuring {
		e.waited += reading - e.from
	}
	e.measuring = e.isReady() && e.tenant.active()
	e.from, e.expiresAt = reading, reading+e.MaxWait-e.waited
	w.expiring.set(e, e.measuring && e.MaxWait > 0)
	s.updateClock(w)
}

// updateStopwatches updates those of all of a tenant's ready jobs.
func (s *State) updateStopwatches(t *tenant) {
	for f := range t.flows.all() {
		for _, fq := range f.queues {
			for _, tq := range fq.templates {
				for _, e := range tq.ready.items {
					s.updateStopwatch(e)
				}
			}
		}
	}
}

// Waited is how long limits of queue, tenant and template have held a waiting TenantJob. This time counts against its
// maxWaitSeconds.
func (s *State) Waited(uid types.UID) time.Duration {
	e := s.jobs[uid]
	switch {
	case e == nil:
		return 0
	case !e.measuring:
		return e.waited
	}
	return e.waited + e.templateQueue.flow.wave.reading(s.now) - e.from
}
