package queue

import (
	"cmp"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// bind finds what a job belongs to, or makes it.
func (s *State) bind(e *entry) {
	e.queue = s.queueOf(e.Queue)
	e.tenant = s.tenantOf(e.Tenant)
	e.fanOut = s.fanOutOf(e.FanOut)
	e.bin = e.tenant.bins.get(e.Template)
	if e.bin == nil {
		e.bin = &bin{tenant: e.tenant, template: e.Template}
		e.tenant.bins.add(e.Template, e.bin)
	}
	e.line = e.queue.lines[e.tenant.Name]
	if e.line == nil {
		e.line = &line{queue: e.queue, tenant: e.tenant}
		e.queue.lines[e.tenant.Name] = e.line
		e.tenant.lines.add(e.queue.Name, e.line)
	}
	e.schedule = nil
	if e.Schedule == "" {
		return
	}
	e.schedule = e.tenant.schedules[e.Schedule]
	if e.schedule == nil {
		e.schedule = &scheduled{running: map[types.UID]struct{}{}, waiting: map[*entry]struct{}{}}
		if e.tenant.schedules == nil {
			e.tenant.schedules = map[string]*scheduled{}
		}
		e.tenant.schedules[e.Schedule] = e.schedule
	}
}

// tidy forgets what nothing belongs to any more. A line stays until virtual time has caught up with it, or a tenant that
// comes with one job at a time would be a new one each time.
func (s *State) tidy(e *entry) {
	q, t, l := e.queue, e.tenant, e.line
	if sc := e.schedule; sc != nil && len(sc.running)+len(sc.waiting) == 0 {
		delete(t.schedules, e.Schedule)
	}
	if e.bin.running+len(e.bin.lanes) == 0 {
		t.bins.remove(e.Template)
	}
	q.idle.set(l, l.waiting+l.running == 0)
	s.tidyLines(q)
	if f := e.fanOut; f != nil && !f.known && f.running+len(f.groups) == 0 {
		delete(s.fanOuts, f.Name)
	}
}

func (s *State) tidyLines(q *queue) {
	for !q.idle.empty() && q.idle.top().tag <= q.virtual {
		l := q.idle.top()
		q.idle.set(l, false)
		delete(q.lines, l.tenant.Name)
		l.tenant.lines.remove(q.Name)
		s.tidyTenant(l.tenant)
	}
	if !q.known && len(q.lines) == 0 && q.exhaustedAt == 0 {
		delete(s.queues, q.Name)
	}
}

func (s *State) tidyTenant(t *tenant) {
	if !t.known && t.lines.len()+t.bins.len()+len(t.schedules) == 0 && t.backedOffAt == 0 {
		delete(s.tenants, t.Name)
	}
}

func (s *State) queueOf(name string) *queue {
	q := s.queues[name]
	if q == nil {
		q = &queue{Queue: Queue{Name: name}, known: name == v1alpha1.DefaultQueue, lines: map[string]*line{}, groups: map[groupKey]*group{}}
		q.open = heap[*group]{
			less:  func(a, b *group) bool { return a.first.before(b.first) },
			index: func(g *group) *int { return &g.openAt },
		}
		q.oldest = heap[*entry]{
			less: func(a, b *entry) bool {
				return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.UID, b.UID)) < 0
			},
			index: func(e *entry) *int { return &e.oldestAt },
		}
		q.idle = heap[*line]{
			less: func(a, b *line) bool {
				return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.tenant.Name, b.tenant.Name)) < 0
			},
			index: func(l *line) *int { return &l.idleAt },
		}
		s.queues[name] = q
	}
	return q
}

func (s *State) tenantOf(name string) *tenant {
	t := s.tenants[name]
	if t == nil {
		t = &tenant{Tenant: Tenant{Name: name}}
		s.tenants[name] = t
	}
	return t
}

func (s *State) fanOutOf(name string) *fanOut {
	if name == "" {
		return nil
	}
	f := s.fanOuts[name]
	if f == nil {
		f = &fanOut{FanOut: FanOut{Name: name}, groups: map[*group]struct{}{}}
		s.fanOuts[name] = f
	}
	return f
}

// stallOf finds the part of a job's line that it belongs to, and the group, or makes them.
func (s *State) stallOf(e *entry) *stall {
	key := groupKey{e.FanOut, e.Wave}
	if st := e.line.stalls[key]; st != nil {
		return st
	}
	g := e.queue.groups[key]
	if g == nil {
		g = &group{queue: e.queue, key: key, fanOut: e.fanOut, expiry: newExpiry()}
		g.stalls = heap[*stall]{
			less: func(a, b *stall) bool {
				return a.line.tag < b.line.tag || a.line.tag == b.line.tag && a.line.turn < b.line.turn
			},
			index: func(st *stall) *int { return &st.stallAt },
		}
		e.queue.groups[key] = g
		if e.fanOut != nil {
			e.fanOut.groups[g] = struct{}{}
		}
	}
	st := &stall{line: e.line, group: g, lanes: map[string]*lane{}}
	st.open = heap[*lane]{
		less:  func(a, b *lane) bool { return a.jobs.top().before(b.jobs.top()) },
		index: func(l *lane) *int { return &l.laneAt },
	}
	if e.line.stalls == nil {
		e.line.stalls = map[groupKey]*stall{}
	}
	e.line.stalls[key] = st
	return st
}

func (s *State) laneOf(st *stall, b *bin) *lane {
	l := st.lanes[b.template]
	if l == nil {
		l = &lane{stall: st, bin: b}
		l.jobs = heap[*entry]{
			less:  func(a, b *entry) bool { return a.before(b) },
			index: func(e *entry) *int { return &e.jobAt },
		}
		st.lanes[b.template] = l
		if b.lanes == nil {
			b.lanes = map[*lane]struct{}{}
		}
		b.lanes[l] = struct{}{}
	}
	return l
}
