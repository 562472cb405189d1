package queue

import "k8s.io/apimachinery/pkg/types"

// Counts of a queue, for its status.
func (s *State) Counts(name string) Counts {
	q := s.queues[name]
	if q == nil {
		return Counts{}
	}
	c := Counts{Waiting: q.waiting, Running: q.running}
	if !q.oldest.empty() {
		c.Oldest = q.oldest.top().Created
	}
	return c
}

// AllCounts are those of each queue that there is, or in which something waits or runs, by name.
func (s *State) AllCounts() map[string]Counts {
	all := make(map[string]Counts, len(s.queues))
	for name := range s.queues {
		all[name] = s.Counts(name)
	}
	return all
}

// RunningByTenant is how many jobs hold slots, by tenant. Those that have none are left out.
func (s *State) RunningByTenant() map[string]int {
	all := map[string]int{}
	for name, t := range s.tenants {
		if t.running > 0 {
			all[name] = t.running
		}
	}
	return all
}

// Waiting is how many jobs of a tenant wait.
func (s *State) Waiting(name string) int {
	n := 0
	if t := s.tenants[name]; t != nil {
		for l := range t.lines.all() {
			n += l.waiting
		}
	}
	return n
}

// Running is how many jobs of a tenant hold slots.
func (s *State) Running(name string) int {
	if t := s.tenants[name]; t != nil {
		return t.running
	}
	return 0
}

// Place says where a TenantJob stands. It looks at all of its tenant's jobs in the queue and at all tenants in it, so it
// is for when somebody asks. False means that it does not wait, or that something else than limits holds it.
func (s *State) Place(uid types.UID) (Place, bool) {
	e := s.jobs[uid]
	if e == nil || e.lane == nil || e.jobAt == 0 {
		return Place{}, false
	}
	ahead := 0
	for _, st := range e.line.stalls {
		for _, l := range st.lanes {
			for _, other := range l.jobs.items {
				if other.before(e) {
					ahead++
				}
			}
		}
	}
	p := Place{InTenant: ahead + 1, OfTenant: e.line.ready, InQueue: ahead + 1}
	for _, l := range e.queue.lines {
		p.OfQueue += l.ready
		if l != e.line {
			p.InQueue += l.startsBefore(e.line, ahead)
		}
	}
	return p, true
}

// starts is the start tag of a line's n-th job, counted from 0.
func (l *line) starts(n int) int64 {
	return max(l.tag, l.queue.virtual) + int64(n)*costOf(l.tenant.Weight)
}

// startsBefore is how many of a line's jobs start before one of another line that has so many before it.
func (l *line) startsBefore(other *line, ahead int) int {
	first, tag, cost := l.starts(0), other.starts(ahead), costOf(l.tenant.Weight)
	if first > tag {
		return 0
	}
	n := (tag - first + cost - 1) / cost
	// Of equal tags those come first that have waited for their turn the longest: the first of a line, then the others.
	if equal := (tag-first)%cost == 0; equal && (first == tag) == (ahead == 0) && l.turn < other.turn || first == tag && ahead > 0 {
		n++
	}
	return min(l.ready, int(n))
}
