package queue

import "time"

// takeSlots counts the slots of a job that starts.
func (s *State) takeSlots(e *entry, at time.Time) {
	e.started = at
	if e.schedule != nil {
		e.schedule.running[e.UID] = e
	}
	s.addSlots(e, 1)
	s.updateSchedule(e.schedule)
}

// releaseSlots ends the counting of a job's slots.
func (s *State) releaseSlots(e *entry) {
	if e.schedule != nil {
		delete(e.schedule.running, e.UID)
	}
	s.addSlots(e, -1)
	s.updateSchedule(e.schedule)
}

// addSlots adds to what a job counts against, and updates what reaches its limit or gets room by that.
func (s *State) addSlots(e *entry, n int) {
	q, t, f, u, fo := e.queue, e.tenant, e.flow, e.usage, e.fanOut
	queueRoom, tenantRoom, flowRoom, usageRoom, fanOutRoom := q.hasRoom(), t.hasRoom(), f.hasRoom(), s.usageHasRoom(u), fo.hasRoom()
	q.running += n
	t.running += n
	f.running += n
	u.running += n
	if fo != nil {
		fo.running += n
	}
	if usageRoom != s.usageHasRoom(u) {
		s.updateUsage(u)
	}
	if tenantRoom != t.hasRoom() {
		s.updateTenant(t)
	} else if flowRoom != f.hasRoom() {
		s.updateFlow(f)
	}
	if fanOutRoom != fo.hasRoom() {
		s.updateFanOut(fo)
	}
	if queueRoom != q.hasRoom() {
		s.updateQueue(q)
	}
}

// updateSchedule updates the waiting jobs of a schedule after one of its runs started or ended.
func (s *State) updateSchedule(r *scheduleRuns) {
	if r == nil {
		return
	}
	for e := range r.waiting {
		e.replacing = e.replacing && len(r.running) > 0
		s.updateReady(e)
	}
}

func (q *queue) hasRoom() bool { return below(q.running, q.MaxConcurrent) }

func (t *tenant) hasRoom() bool { return below(t.running, t.MaxConcurrent) }

func (f *flow) hasRoom() bool {
	return f.tenant.hasRoom() && below(f.running, f.queue.MaxConcurrentPerTenant)
}

func (s *State) usageHasRoom(u *templateUsage) bool {
	return below(u.running, s.templateLimits[u.template])
}

func (f *fanOut) hasRoom() bool { return f == nil || below(f.running, f.MaxConcurrent) }

func below(running int, limit int32) bool { return limit <= 0 || running < int(limit) }
