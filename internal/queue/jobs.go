package queue

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Put adds a TenantJob that waits, or updates it. A job that holds slots keeps them, since a cache may be behind: only
// Requeue and Remove give slots back.
func (s *State) Put(j Job) {
	e := s.jobs[j.UID]
	switch {
	case e == nil:
		s.enqueue(s.newEntry(j))
	case !e.waits():
	case e.hasSameQueues(j):
		e.Job = j
		e.queue.byAge.set(e, true)
		s.updateDue(e)
	default:
		s.dequeue(e)
		s.prune(e)
		e.Job = j
		s.enqueue(e)
	}
}

// Run adds a TenantJob that has a live Job, or pods that have not ended: it holds slots. The time of its start counts
// for startsPerMinute. The API server's times have whole seconds, so the caller rounds it up.
func (s *State) Run(j Job, started time.Time) {
	e := s.jobs[j.UID]
	switch {
	case e == nil:
		e = s.newEntry(j)
	case !e.waits():
		return
	default:
		s.dequeue(e)
		s.prune(e)
		e.Job = j
	}
	s.link(e)
	e.queue.starts.add(started)
	s.takeSlots(e, started)
}

// RecordStart counts a start in a queue for startsPerMinute. It is for starts whose slots are free again.
func (s *State) RecordStart(queue string, at time.Time) { s.queueOf(queue).starts.add(at) }

// Requeue gives back the slots of a start for which there certainly is no Job. The TenantJob waits again, and the start
// does not count for startsPerMinute. It has cost its tenant a turn: otherwise a tenant whose starts all fail would have
// one after the other of them tried before those of the others.
func (s *State) Requeue(uid types.UID) {
	e := s.jobs[uid]
	if e == nil || e.waits() {
		return
	}
	e.queue.starts.remove(e.started)
	if e.queue.StartsPerMinute > 0 {
		e.queue.reserved++
	}
	s.rateLimited.set(e.queue, false)
	s.releaseSlots(e)
	s.enqueue(e)
}

// Revoke takes a start back that was decided and not begun. The TenantJob waits again, and its tenant has its turn back.
func (s *State) Revoke(uid types.UID) {
	e := s.jobs[uid]
	if e == nil || e.waits() {
		return
	}
	f := e.flow
	startTag, sequence := f.startTag-e.cost, min(f.sequence, e.turn)
	s.Requeue(uid)
	if e.cost > 0 { // Run has no turn.
		f.startTag, f.sequence = startTag, sequence
		s.reorderFlow(f)
	}
}

// Made notes that a start which was decided earlier is made now: for startsPerMinute it counts from now.
func (s *State) Made(uid types.UID) {
	if e := s.jobs[uid]; e != nil && !e.waits() {
		e.queue.starts.remove(e.started)
		e.queue.starts.add(s.now)
		e.started = s.now
	}
}

// Remove removes a TenantJob that is over or deleted and has no pod left.
func (s *State) Remove(uid types.UID) {
	if e := s.jobs[uid]; e != nil {
		s.remove(e)
	}
}

// Job returns what State knows of a TenantJob.
func (s *State) Job(uid types.UID) (Job, bool) {
	if e := s.jobs[uid]; e != nil {
		return e.Job, true
	}
	return Job{}, false
}

func (s *State) newEntry(j Job) *entry {
	e := &entry{Job: j, sequence: s.nextSequence(), knownSince: s.now}
	e.waited = j.Waited
	s.jobs[j.UID] = e
	return e
}

func (s *State) remove(e *entry) {
	if e.waits() {
		s.dequeue(e)
	} else {
		s.releaseSlots(e)
	}
	s.prune(e)
	delete(s.jobs, e.UID)
}

// hasSameQueues is true if an updated job belongs where it is.
func (e *entry) hasSameQueues(j Job) bool {
	return e.Queue == j.Queue && e.Tenant == j.Tenant && e.Template == j.Template && e.FanOut == j.FanOut &&
		e.Wave == j.Wave && e.Schedule == j.Schedule
}

// enqueue adds a job to the waiting jobs.
func (s *State) enqueue(e *entry) {
	s.link(e)
	fq := s.flowQueueOf(e)
	e.templateQueue = s.templateQueueOf(fq, e.usage)
	e.templateQueue.waiting++
	fq.wave.waiting++
	e.flow.waiting++
	e.queue.waiting++
	e.queue.idle.set(e.flow, false)
	e.queue.byAge.set(e, true)
	if e.schedule != nil {
		e.schedule.waiting[e] = struct{}{}
	}
	s.review.add(e)
	s.updateDue(e)
}

// dequeue takes a job out of the waiting jobs.
func (s *State) dequeue(e *entry) {
	tq := e.templateQueue
	fq := tq.flow
	if e.isReady() {
		e.flow.ready--
		tq.ready.set(e, false)
	}
	s.updateStopwatch(e)
	s.updateTemplateQueue(tq)
	s.notDue.set(e, false)
	e.queue.byAge.set(e, false)
	e.queue.waiting--
	e.flow.waiting--
	if e.schedule != nil {
		delete(e.schedule.waiting, e)
	}
	e.templateQueue, e.replacing = nil, false
	s.review.remove(e)
	if tq.waiting--; tq.waiting == 0 {
		delete(fq.templates, tq.usage.template)
		if delete(tq.usage.queues, tq); len(tq.usage.queues) == 0 {
			tq.usage.queues = nil // A map never shrinks, and most tenants have no waiting jobs.
		}
	}
	if len(fq.templates) == 0 {
		if delete(e.flow.queues, fq.wave.key); len(e.flow.queues) == 0 {
			e.flow.queues = nil
		}
	}
	if fq.wave.waiting--; fq.wave.waiting == 0 {
		delete(e.queue.waves, fq.wave.key)
		if e.fanOut != nil {
			delete(e.fanOut.waves, fq.wave)
		}
	}
}
