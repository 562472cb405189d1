package queue

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Put a TenantJob that waits, or change what is known of it. One that holds slots keeps them, whatever a cache may say:
// only Back and Remove give them back.
func (s *State) Put(j Job) {
	e := s.jobs[j.UID]
	switch {
	case e == nil:
		e = &entry{Job: j}
		e.waited, e.since, e.order = j.Waited, s.now, s.turn()
		s.jobs[j.UID] = e
		s.attach(e)
	case e.lane == nil:
	case e.stays(j):
		e.Job = j
		e.queue.oldest.set(e, true)
		s.showDue(e)
	default:
		s.detach(e)
		s.tidy(e)
		e.Job = j
		s.attach(e)
	}
}

// stays says whether a changed job belongs where it is.
func (e *entry) stays(j Job) bool {
	return e.Queue == j.Queue && e.Tenant == j.Tenant && e.Template == j.Template && e.FanOut == j.FanOut &&
		e.Wave == j.Wave && e.Schedule == j.Schedule
}

// Run tells of a TenantJob that has a live Job, or pods of it that have not ended: it holds slots. The time that it was
// started counts for startsPerMinute; the API server's times have whole seconds, so round it up.
func (s *State) Run(j Job, started time.Time) {
	e := s.jobs[j.UID]
	switch {
	case e == nil:
		e = &entry{Job: j}
		e.waited, e.since, e.order = j.Waited, s.now, s.turn()
		s.jobs[j.UID] = e
		s.bind(e)
	case e.lane == nil:
		return
	default:
		s.detach(e)
		s.tidy(e)
		e.Job = j
		s.bind(e)
	}
	e.queue.starts.add(started)
	s.take(e, started)
}

// Started tells of a start in a queue of which nothing holds a slot any more.
func (s *State) Started(queue string, at time.Time) { s.queueOf(queue).starts.add(at) }

// Back gives back the slots of a start that came to nothing, for which there certainly is no Job. It waits again, and
// does not count for startsPerMinute.
func (s *State) Back(uid types.UID) {
	e := s.jobs[uid]
	if e == nil || e.lane != nil {
		return
	}
	e.queue.starts.forget(e.started)
	s.exhausted.set(e.queue, false)
	s.give(e)
	s.attach(e)
}

// Remove a TenantJob that is over or gone and has no pod left.
func (s *State) Remove(uid types.UID) {
	if e := s.jobs[uid]; e != nil {
		s.remove(e)
	}
}

func (s *State) remove(e *entry) {
	if e.lane != nil {
		s.detach(e)
	} else {
		s.give(e)
	}
	s.tidy(e)
	delete(s.jobs, e.UID)
}

// Holding says whether a TenantJob holds slots.
func (s *State) Holding(uid types.UID) bool {
	e := s.jobs[uid]
	return e != nil && e.lane == nil
}

// Job returns what is known of a TenantJob.
func (s *State) Job(uid types.UID) (Job, bool) {
	if e := s.jobs[uid]; e != nil {
		return e.Job, true
	}
	return Job{}, false
}

// attach puts a job into its line.
func (s *State) attach(e *entry) {
	s.bind(e)
	st := s.stallOf(e)
	e.lane = s.laneOf(st, e.bin)
	e.lane.size++
	st.group.size++
	e.line.waiting++
	e.queue.waiting++
	e.queue.idle.set(e.line, false)
	e.queue.oldest.set(e, true)
	if e.schedule != nil {
		e.schedule.waiting[e] = struct{}{}
	}
	s.watch(e)
	s.showDue(e)
}

// detach takes a job out of its line.
func (s *State) detach(e *entry) {
	l := e.lane
	st := l.stall
	if e.jobAt != 0 {
		e.line.ready--
		l.jobs.set(e, false)
	}
	s.runClock(e)
	s.showLane(l)
	s.due.set(e, false)
	e.queue.oldest.set(e, false)
	e.queue.waiting--
	e.line.waiting--
	if e.schedule != nil {
		delete(e.schedule.waiting, e)
	}
	e.lane, e.replacing = nil, false
	s.unwatch(e)
	if l.size--; l.size == 0 {
		delete(st.lanes, l.bin.template)
		if delete(l.bin.lanes, l); len(l.bin.lanes) == 0 {
			l.bin.lanes = nil // A map keeps the room that it once needed, and most wait nowhere.
		}
	}
	if len(st.lanes) == 0 {
		if delete(e.line.stalls, st.group.key); len(e.line.stalls) == 0 {
			e.line.stalls = nil
		}
	}
	if st.group.size--; st.group.size == 0 {
		delete(e.queue.groups, st.group.key)
		if e.fanOut != nil {
			delete(e.fanOut.groups, st.group)
		}
	}
}

// showDue puts a job where it belongs after what is known of it changed.
func (s *State) showDue(e *entry) {
	e.isDue = !e.NotBefore.After(s.now)
	s.due.set(e, !e.isDue)
	s.showJob(e)
}

// showJob lets a job take part, or not. A line that comes into play comes at the end of those that virtual time has come
// to.
func (s *State) showJob(e *entry) {
	ready, was := e.Held == "" && e.isDue && !e.replacing, e.jobAt != 0
	if was && !ready {
		e.line.ready--
	}
	if ready && !was {
		if e.line.ready == 0 {
			e.line.tag = max(e.line.tag, e.queue.virtual)
			e.line.turn = s.turn()
		}
		e.line.ready++
	}
	e.lane.jobs.set(e, ready)
	s.runClock(e)
	s.showLane(e.lane)
}

func (s *State) turn() uint64 {
	s.turns++
	return s.turns
}

// take counts a job's slots.
func (s *State) take(e *entry, at time.Time) {
	e.started = at
	if sc := e.schedule; sc != nil {
		sc.running[e.UID] = struct{}{}
	}
	s.count(e, 1)
	s.showSchedule(e.schedule)
}

// give counts them no longer.
func (s *State) give(e *entry) {
	if sc := e.schedule; sc != nil {
		delete(sc.running, e.UID)
	}
	s.count(e, -1)
	s.showSchedule(e.schedule)
}

// showSchedule lets those go on that waited for an earlier run to end.
func (s *State) showSchedule(sc *scheduled) {
	if sc == nil {
		return
	}
	for e := range sc.waiting {
		e.replacing = e.replacing && len(sc.running) > 0
		s.showJob(e)
	}
}

// count slots, and show what is no longer full, or is now.
func (s *State) count(e *entry, by int) {
	q, t, l, b, f := e.queue, e.tenant, e.line, e.bin, e.fanOut
	queueRoom, tenantRoom, lineRoom, binRoom, fanOutRoom := q.hasRoom(), t.hasRoom(), l.hasRoom(), s.binHasRoom(b), f.hasRoom()
	q.running += by
	t.running += by
	l.running += by
	b.running += by
	if f != nil {
		f.running += by
	}
	if binRoom != s.binHasRoom(b) {
		s.showBin(b)
	}
	if tenantRoom != t.hasRoom() {
		s.showTenant(t)
	} else if lineRoom != l.hasRoom() {
		s.showLine(l)
	}
	if fanOutRoom != f.hasRoom() {
		s.showFanOut(f)
	}
	if queueRoom != q.hasRoom() {
		s.showQueue(q)
	}
}
