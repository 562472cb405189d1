package queue

import "github.com/tenantry/tenantry/api/v1alpha1"

// The update functions put an element into the heap above it or take it out, after something changed that decides
// whether one of its jobs can start. Each of them then updates the next level: templateQueue, flowQueue, waveQueue,
// queue.

// updateDue is called after a job changed or became due.
func (s *State) updateDue(e *entry) {
	e.isDue = !e.NotBefore.After(s.now)
	s.notDue.set(e, !e.isDue)
	s.updateReady(e)
}

// updateReady is called after what holds the job itself changed. A flow that becomes ready comes after the flows that
// have the same start tag.
func (s *State) updateReady(e *entry) {
	ready, was := e.Held == "" && e.isDue && !e.replacing && !e.awaitsCaughtUp(), e.isReady()
	if was && !ready {
		e.flow.ready--
	}
	if ready && !was {
		if e.flow.ready == 0 {
			e.flow.startTag = max(e.flow.startTag, e.queue.virtualTime)
			e.flow.sequence = s.nextSequence()
		}
		e.flow.ready++
	}
	e.templateQueue.ready.set(e, ready)
	s.updateStopwatch(e)
	s.updateTemplateQueue(e.templateQueue)
}

// updateTemplateQueue is called after its jobs or the slots of its template changed.
func (s *State) updateTemplateQueue(tq *templateQueue) {
	tq.flow.startable.set(tq, !tq.ready.empty() && (s.usageHasRoom(tq.usage) || tq.ready.top().overlaps()))
	s.updateFlowQueue(tq.flow)
}

// updateFlowQueue is called after its templateQueues, the tenant or the start tag of the flow changed.
func (s *State) updateFlowQueue(fq *flowQueue) {
	f := fq.flow
	fq.wave.startable.set(fq, !fq.startable.empty() && f.tenant.active() && !s.backedOff.has(f.tenant) &&
		(f.hasRoom() || fq.startable.top().ready.top().overlaps()))
	s.updateWaveQueue(fq.wave)
}

// updateWaveQueue is called after its flowQueues or the fan-out changed.
func (s *State) updateWaveQueue(w *waveQueue) {
	w.updateHead()
	w.queue.startable.set(w, !w.startable.empty() && w.active() && w.fanOut.hasRoom())
	s.updateClock(w)
	s.updateQueue(w.queue)
}

func (w *waveQueue) updateHead() {
	if !w.startable.empty() {
		fq := w.startable.top()
		w.head = head{fq.flow.startTag, fq.flow.sequence, fq.startable.top().ready.top()}
	}
}

// updateQueue is called after its waveQueues, its slots or its limits changed.
func (s *State) updateQueue(q *queue) {
	s.startable.set(q, !q.startable.empty() && q.active() && q.hasRoom() && !s.rateLimited.has(q) && !q.unreserved)
}

func (s *State) updateFlow(f *flow) {
	for _, fq := range f.queues {
		s.updateFlowQueue(fq)
	}
}

// reorderFlow moves a flow in the heaps after its start tag has changed.
func (s *State) reorderFlow(f *flow) {
	for _, fq := range f.queues {
		w := fq.wave
		if !w.startable.has(fq) {
			continue
		}
		wasTop := w.startable.top() == fq
		w.startable.set(fq, true)
		if wasTop || w.startable.top() == fq {
			w.updateHead()
			w.queue.startable.set(w, w.queue.startable.has(w))
		}
	}
}

func (s *State) updateTenant(t *tenant) {
	for f := range t.flows.all() {
		s.updateFlow(f)
	}
}

func (s *State) updateUsage(u *templateUsage) {
	for tq := range u.queues {
		s.updateTemplateQueue(tq)
	}
}

func (s *State) updateFanOut(f *fanOut) {
	if f == nil {
		return
	}
	for w := range f.waves {
		s.updateWaveQueue(w)
	}
}

// active is true if nothing but the queue's limits holds its jobs.
func (q *queue) active() bool { return q.exists && !q.Suspended }

// active is true if nothing but the tenant's limits and back-off holds its jobs.
func (t *tenant) active() bool { return t.exists && t.Held == "" }

// active is true if nothing but the fan-out's limit holds the children of a wave. There is no fan-out to hold the other
// jobs.
func (f *fanOut) active(wave int) bool {
	return f == nil || f.exists && f.Held == "" && wave <= f.OpenWave
}

func (w *waveQueue) active() bool { return w.fanOut.active(w.key.wave) }

// isReady is true if nothing of the job's own holds it.
func (e *entry) isReady() bool { return e.readyIndex != 0 }

// awaitsCaughtUp is true if a run holds a slot whose tick was caught up on together with that of the job, and the two must not run
// at once.
func (e *entry) awaitsCaughtUp() bool {
	if e.schedule == nil || e.Overlap == v1alpha1.ConcurrencyAllow || e.CaughtUpTo.IsZero() {
		return false
	}
	for _, other := range e.schedule.running {
		if !other.Tick.Before(e.CaughtUpFrom) && !other.Tick.After(e.CaughtUpTo) {
			return true
		}
	}
	return false
}

// overlaps is true if an earlier run of the job's schedule holds a slot, and the two must not run at once. The decision
// about such a job takes no slot. So a limit of the tenant, which the earlier run may have reached, does not delay it.
func (e *entry) overlaps() bool {
	return e.schedule != nil && e.Overlap != v1alpha1.ConcurrencyAllow && len(e.schedule.running) > 0
}
