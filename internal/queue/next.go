package queue

import (
	"maps"
	"slices"
	"time"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Advance tells the time. Call it before feeding, so that the clocks of maxWaitSeconds stop and start on time.
func (s *State) Advance(now time.Time) {
	s.now = now
	for !s.due.empty() && !s.due.top().NotBefore.After(now) {
		s.showDue(s.due.top())
	}
	for !s.backedOff.empty() && !s.backedOff.top().backoff.After(now) {
		t := s.backedOff.top()
		s.backedOff.set(t, false)
		s.showTenant(t)
		s.tidyTenant(t)
	}
	for !s.exhausted.empty() && !s.exhausted.top().notUntil.After(now) {
		q := s.exhausted.top()
		s.exhausted.set(q, false)
		s.showQueue(q)
	}
}

// Next decides about one TenantJob, and keeps what it decided: slots are taken with ActionStart. Call it until it
// returns ActionNone.
func (s *State) Next(now time.Time) Decision {
	s.Advance(now)
	if !s.expiring.empty() && !s.expiring.top().deadline.After(now) {
		return s.expire(s.expiring.top().expiry.top())
	}
	for !s.ready.empty() {
		q := s.ready.top()
		if at := q.starts.next(now, q.StartsPerMinute); at.After(now) {
			q.notUntil = at
			s.exhausted.set(q, true)
			s.showQueue(q)
			continue
		}
		e := q.open.top().first.job
		if e.overlaps() {
			return s.overlap(e)
		}
		s.start(e)
		return Decision{Action: ActionStart, Job: e.Job}
	}
	return Decision{At: s.wake()}
}

// start takes slots for a job and moves its tenant back in the line.
func (s *State) start(e *entry) {
	q, l := e.queue, e.line
	s.detach(e)
	q.virtual = max(q.virtual, l.tag)
	l.tag = q.virtual + costOf(l.tenant.Weight)
	l.turn, q.turn = s.turn(), s.turn()
	q.starts.add(s.now)
	s.moveBack(l)
	s.take(e, s.now)
	s.showQueue(q)
	s.tidyLines(q)
}

// overlap decides about a job whose turn it is while an earlier run of its schedule holds a slot of its tenant.
func (s *State) overlap(e *entry) Decision {
	d := Decision{Action: ActionOverlapped, Job: e.Job, Earlier: slices.Sorted(maps.Keys(e.schedule.running))}
	if e.Overlap == v1alpha1.ConcurrencyReplace {
		d.Action = ActionReplace
		e.replacing = true
		s.showJob(e)
	} else {
		s.remove(e)
	}
	return d
}

func (s *State) expire(e *entry) Decision {
	d := Decision{Action: ActionExpire, Job: e.Job, Hold: s.hold(e)}
	s.remove(e)
	return d
}

// wake is when something changes by itself. Zero means never.
func (s *State) wake() time.Time {
	var at time.Time
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if !s.due.empty() {
		sooner(s.due.top().NotBefore)
	}
	if !s.backedOff.empty() {
		sooner(s.backedOff.top().backoff)
	}
	if !s.exhausted.empty() {
		sooner(s.exhausted.top().notUntil)
	}
	if !s.expiring.empty() {
		sooner(s.expiring.top().deadline)
	}
	return at
}
