package queue

import (
	"cmp"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// stride is what a start costs a tenant of weight 1 in virtual time; others pay it divided by their weight. All weights
// up to 20 divide it, so that their shares are exact; the error of others is below 1 in 2,000,000.
const stride = 232_792_560

func costOf(weight int32) int64 { return stride / int64(max(1, weight)) }

// before is the order among one tenant's jobs: priority, then age.
func (e *entry) before(other *entry) bool {
	return cmp.Or(
		cmp.Compare(rank(e.Priority), rank(other.Priority)),
		e.Created.Compare(other.Created),
		cmp.Compare(e.order, other.order), // The API server's times have whole seconds.
	) < 0
}

func rank(p v1alpha1.JobPriority) int {
	switch p {
	case v1alpha1.PriorityHigh:
		return 0
	case v1alpha1.PriorityLow:
		return 2
	default:
		return 1
	}
}

// before is the order of the offers of a queue: tenants by their tags, then one tenant's own by priority and age.
func (o offer) before(other offer) bool {
	switch {
	case o.tag != other.tag:
		return o.tag < other.tag
	case o.turn != other.turn:
		return o.turn < other.turn
	}
	return o.job.before(other.job)
}

// Whether something can start is asked from the inside out: lane, stall, group, queue. Each is in the heap of the next
// one as long as nothing of its own holds it.

// showLane puts a lane where it belongs after its jobs or its template's slots changed.
func (s *State) showLane(l *lane) {
	l.stall.open.set(l, !l.jobs.empty() && (s.binHasRoom(l.bin) || l.jobs.top().overlaps()))
	s.showStall(l.stall)
}

// showStall does so after its lanes, the tenant's slots or its turn changed.
func (s *State) showStall(st *stall) {
	line := st.line
	st.group.stalls.set(st, !st.open.empty() && line.tenant.free() && (line.hasRoom() || st.open.top().jobs.top().overlaps()))
	s.showGroup(st.group)
}

// showGroup does so after its stalls or its fan-out changed.
func (s *State) showGroup(g *group) {
	g.look()
	g.queue.open.set(g, !g.stalls.empty() && g.fanOut.free(g.key.wave) && g.fanOut.hasRoom())
	s.showClock(g)
	s.showQueue(g.queue)
}

// look notes what the top of a group looks like.
func (g *group) look() {
	if !g.stalls.empty() {
		st := g.stalls.top()
		g.first = offer{st.line.tag, st.line.turn, st.open.top().jobs.top()}
	}
}

// showQueue does so after its groups, its slots or its limits changed.
func (s *State) showQueue(q *queue) {
	s.ready.set(q, !q.open.empty() && q.free() && q.hasRoom() && q.exhaustedAt == 0)
}

func (s *State) showLine(l *line) {
	for _, st := range l.stalls {
		s.showStall(st)
	}
}

// moveBack puts a line where it belongs after its turn came to be later.
func (s *State) moveBack(l *line) {
	for _, st := range l.stalls {
		if st.stallAt == 0 {
			continue
		}
		g := st.group
		wasTop := g.stalls.top() == st
		g.stalls.set(st, true)
		if wasTop {
			g.look()
			g.queue.open.set(g, g.openAt != 0)
		}
	}
}

func (s *State) showTenant(t *tenant) {
	for l := range t.lines.all() {
		s.showLine(l)
	}
}

func (s *State) showBin(b *bin) {
	for l := range b.lanes {
		s.showLane(l)
	}
}

func (s *State) showFanOut(f *fanOut) {
	if f == nil {
		return
	}
	for g := range f.groups {
		s.showGroup(g)
	}
}

// free means that nothing but limits holds its jobs.
func (q *queue) free() bool { return q.known && !q.Suspended }

func (q *queue) hasRoom() bool { return below(q.running, q.MaxConcurrent) }

func (t *tenant) free() bool { return t.known && t.Held == "" && t.backedOffAt == 0 }

func (t *tenant) hasRoom() bool { return below(t.running, t.MaxConcurrent) }

func (l *line) hasRoom() bool {
	return l.tenant.hasRoom() && below(l.running, l.queue.MaxConcurrentPerTenant)
}

func (s *State) binHasRoom(b *bin) bool { return below(b.running, s.perTenant[b.template]) }

func (f *fanOut) free(wave int) bool {
	return f == nil || f.known && f.Held == "" && wave <= f.OpenWave
}

func (f *fanOut) hasRoom() bool { return f == nil || below(f.running, f.MaxConcurrent) }

func below(running int, limit int32) bool { return limit <= 0 || running < int(limit) }

// overlaps means that its turn is only about whether it starts at all: it takes no slot, so that a limit of its tenant,
// which the run that it overlaps with may fill, does not keep it from being decided.
func (e *entry) overlaps() bool {
	return e.schedule != nil && e.Overlap != v1alpha1.ConcurrencyAllow && len(e.schedule.running) > 0
}
