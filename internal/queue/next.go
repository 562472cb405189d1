package queue

import (
	"maps"
	"slices"
	"time"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Advance sets the time. Call it before any update, so that the clocks of maxWaitSeconds stop and start at the right
// time.
func (s *State) Advance(now time.Time) {
	s.now = now
	for !s.notDue.empty() && !s.notDue.top().NotBefore.After(now) {
		s.updateDue(s.notDue.top())
	}
	for !s.backedOff.empty() && !s.backedOff.top().backoffUntil.After(now) {
		t := s.backedOff.top()
		s.backedOff.set(t, false)
		s.updateTenant(t)
		s.pruneTenant(t)
	}
	for !s.rateLimited.empty() && !s.rateLimited.top().rateLimitedUntil.After(now) {
		q := s.rateLimited.top()
		s.rateLimited.set(q, false)
		s.updateQueue(q)
	}
}

// Next decides about one TenantJob and records the decision: with ActionStart the slots are taken. Call it until it
// returns ActionNone.
func (s *State) Next(now time.Time) Decision {
	s.Advance(now)
	if s.held != "" {
		return Decision{}
	}
	for !s.startable.empty() {
		q := s.startable.top()
		if at := q.starts.next(now, q.StartsPerMinute); at.After(now) {
			q.rateLimitedUntil = at
			s.rateLimited.set(q, true)
			s.updateQueue(q)
			continue
		}
		if s.needsReservation(q) {
			q.unreserved = true
			s.unreserved = append(s.unreserved, q.Name)
			s.updateQueue(q)
			continue
		}
		e := q.startable.top().head.job
		if e.overlaps() {
			return s.overlap(e)
		}
		s.start(e)
		return Decision{Action: ActionStart, Job: e.Job}
	}
	// One that may start does so, also when nobody was there to start it in time.
	if !s.expiring.empty() && !s.expiring.top().deadline.After(now) {
		return s.expire(s.expiring.top().expiring.top())
	}
	return Decision{At: s.nextChange()}
}

// start takes the slots of a job and moves its flow back.
func (s *State) start(e *entry) {
	q, f := e.queue, e.flow
	s.dequeue(e)
	q.virtualTime = max(q.virtualTime, f.startTag)
	e.cost, e.turn = costOf(f.tenant.Weight), f.sequence
	f.startTag = q.virtualTime + e.cost
	f.sequence, q.sequence = s.nextSequence(), s.nextSequence()
	s.updateQueue(q) // at once: takeSlots moves other queues in the same heap
	q.starts.add(s.now)
	q.reserved = max(0, q.reserved-1)
	s.reorderFlow(f)
	s.takeSlots(e, s.now)
	s.pruneQueue(q)
}

// overlap decides about a job that is next while an earlier run of its schedule holds a slot of its tenant.
func (s *State) overlap(e *entry) Decision {
	d := Decision{Action: ActionOverlapped, Job: e.Job, Earlier: slices.Sorted(maps.Keys(e.schedule.running))}
	if e.Overlap == v1alpha1.ConcurrencyReplace {
		d.Action = ActionReplace
		e.replacing = true
		s.updateReady(e)
	} else {
		d.Job.Waited = s.Waited(e.UID)
		s.remove(e)
	}
	return d
}

func (s *State) expire(e *entry) Decision {
	d := Decision{Action: ActionExpire, Job: e.Job, Hold: s.firstHold(e)}
	s.remove(e)
	return d
}

// nextChange is when the passing of time changes something. Zero means never.
func (s *State) nextChange() time.Time {
	var at time.Time
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if !s.notDue.empty() {
		sooner(s.notDue.top().NotBefore)
	}
	if !s.backedOff.empty() {
		sooner(s.backedOff.top().backoffUntil)
	}
	if !s.rateLimited.empty() {
		sooner(s.rateLimited.top().rateLimitedUntil)
	}
	if !s.expiring.empty() {
		sooner(s.expiring.top().deadline)
	}
	return at
}
