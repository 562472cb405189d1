package queue

import (
	"time"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Limits take effect with the next decision. Lowering one below what holds slots stops nothing: no more start until
// there is room again.

// SetQueue says what a TenantQueue allows.
func (s *State) SetQueue(to Queue) { s.setQueue(to, true) }

// RemoveQueue says that there is no such TenantQueue. What waits in it waits on, but in the queue that needs no object.
func (s *State) RemoveQueue(name string) {
	if s.queues[name] != nil {
		s.setQueue(Queue{Name: name}, name == v1alpha1.DefaultQueue)
	}
}

func (s *State) setQueue(to Queue, known bool) {
	q := s.queueOf(to.Name)
	if q.Queue == to && q.known == known {
		return
	}
	q.Queue, q.known = to, known
	s.exhausted.set(q, false)
	for _, l := range q.lines {
		s.showLine(l)
	}
	s.showQueue(q)
	s.tidyLines(q)
}

// SetTenant says what a Tenant allows.
func (s *State) SetTenant(to Tenant) { s.setTenant(to, true) }

// RemoveTenant says that there is no such Tenant. Nothing of it starts.
func (s *State) RemoveTenant(name string) {
	if t := s.tenants[name]; t != nil {
		s.setTenant(Tenant{Name: name}, false)
		s.tidyTenant(t)
	}
}

func (s *State) setTenant(to Tenant, known bool) {
	t := s.tenantOf(to.Name)
	if t.Tenant == to && t.known == known {
		return
	}
	was, held := costOf(t.Weight), !t.known || t.Held != ""
	t.Tenant, t.known = to, known
	for l := range t.lines.all() {
		// What it still has to wait for its last start shrinks or grows as its share does.
		if ahead := l.tag - l.queue.virtual; ahead > 0 {
			l.tag = l.queue.virtual + ahead*costOf(t.Weight)/was
		}
		l.queue.idle.set(l, l.waiting+l.running == 0)
		s.showLine(l)
	}
	if held != (!t.known || t.Held != "") {
		s.runClocks(t)
	}
}

// runClocks starts or stops those of all of a tenant's jobs.
func (s *State) runClocks(t *tenant) {
	for l := range t.lines.all() {
		for _, st := range l.stalls {
			for _, lane := range st.lanes {
				for _, e := range lane.jobs.items {
					s.runClock(e)
				}
			}
		}
	}
}

// HoldBack keeps all of a tenant's jobs from starting until then, after a start of it that failed, for the reason that is
// said of those that wait; empty means none in particular. Nobody else's wait for it, and their maxWaitSeconds goes on.
func (s *State) HoldBack(name string, until time.Time, why string) {
	t := s.tenantOf(name)
	s.backedOff.set(t, false)
	t.backoff, t.refusal = until, why
	s.backedOff.set(t, until.After(s.now))
	s.showTenant(t)
}

// SetTemplate says how many jobs of a TenantJobTemplate one tenant may run at once. Zero means no limit.
func (s *State) SetTemplate(name string, perTenant int32) {
	if s.perTenant[name] == perTenant {
		return
	}
	if s.perTenant[name] = perTenant; perTenant == 0 {
		delete(s.perTenant, name)
	}
	for _, t := range s.tenants {
		if b := t.bins.get(name); b != nil {
			s.showBin(b)
		}
	}
}

// TemplateLimit is what SetTemplate said last. Zero means no limit.
func (s *State) TemplateLimit(name string) int32 { return s.perTenant[name] }

// SetFanOut says what a TenantFanOut allows.
func (s *State) SetFanOut(to FanOut) { s.setFanOut(to, true) }

// RemoveFanOut says that there is no such TenantFanOut. None of its children start.
func (s *State) RemoveFanOut(name string) {
	if f := s.fanOuts[name]; f != nil {
		s.setFanOut(FanOut{Name: name}, false)
		if f.running+len(f.groups) == 0 {
			delete(s.fanOuts, name)
		}
	}
}

func (s *State) setFanOut(to FanOut, known bool) {
	f := s.fanOutOf(to.Name)
	if f.FanOut != to || f.known != known {
		f.FanOut, f.known = to, known
		s.showFanOut(f)
	}
}
