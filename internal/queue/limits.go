package queue

import (
	"time"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Limits take effect with the next decision. Lowering a limit below the number of slots in use stops no running job:
// nothing more starts until there is room again.

// HoldAll holds all jobs that wait, and their status messages say why. With an empty message it holds none.
func (s *State) HoldAll(message string) {
	if message == s.held {
		return
	}
	s.held = message
	for _, q := range s.queues {
		for _, w := range q.waves {
			s.updateClock(w)
		}
	}
}

// Held is the message with which HoldAll holds all jobs. Empty means that it holds none.
func (s *State) Held() string { return s.held }

// SetQueue sets what a TenantQueue allows. It says whether that is something else than before.
func (s *State) SetQueue(to Queue) bool { return s.setQueue(to, true) }

// RemoveQueue notes that there is no such TenantQueue. Its waiting jobs wait until there is one, except in the default
// queue, which needs none.
func (s *State) RemoveQueue(name string) {
	if s.queues[name] != nil {
		s.setQueue(Queue{Name: name}, name == v1alpha1.DefaultQueue)
	}
}

func (s *State) setQueue(to Queue, exists bool) bool {
	q := s.queueOf(to.Name)
	if q.Queue == to && q.exists == exists {
		return false
	}
	q.Queue, q.exists = to, exists
	q.unreserved = false
	if to.StartsPerMinute == 0 {
		q.reserved = 0
	}
	s.rateLimited.set(q, false)
	for _, f := range q.flows {
		s.updateFlow(f)
	}
	s.updateQueue(q)
	s.pruneQueue(q)
	return true
}

// SetTenant sets what a Tenant allows.
func (s *State) SetTenant(to Tenant) { s.setTenant(to, true) }

// RemoveTenant notes that there is no such Tenant. None of its jobs start.
func (s *State) RemoveTenant(name string) {
	if t := s.tenants[name]; t != nil {
		s.setTenant(Tenant{Name: name}, false)
		s.pruneTenant(t)
	}
}

func (s *State) setTenant(to Tenant, exists bool) {
	t := s.tenantOf(to.Name)
	if t.Tenant == to && t.exists == exists {
		return
	}
	oldCost, wasActive := costOf(t.Weight), t.active()
	t.Tenant, t.exists = to, exists
	for f := range t.flows.all() {
		// What is left to wait for the last start changes with the weight.
		if ahead := f.startTag - f.queue.virtualTime; ahead > 0 {
			f.startTag = f.queue.virtualTime + ahead*costOf(t.Weight)/oldCost
		}
		f.queue.idle.set(f, f.waiting+f.running == 0)
		s.updateFlow(f)
	}
	if t.active() != wasActive {
		s.updateStopwatches(t)
	}
}

// BackOff holds all jobs of a tenant until the given time, because a start of it failed. The jobs of other tenants do
// not wait for it, and the time counts against maxWaitSeconds. Why is the status message; empty means the general one.
func (s *State) BackOff(tenant string, until time.Time, why string) {
	t := s.tenantOf(tenant)
	s.backedOff.set(t, false)
	t.backoffUntil, t.backoffMessage = until, why
	s.backedOff.set(t, until.After(s.now))
	s.updateTenant(t)
}

// SetTemplate sets how many jobs of a TenantJobTemplate one tenant may run at once. Zero means no limit.
func (s *State) SetTemplate(name string, perTenant int32) {
	if s.templateLimits[name] == perTenant {
		return
	}
	if s.templateLimits[name] = perTenant; perTenant == 0 {
		delete(s.templateLimits, name)
	}
	for _, t := range s.tenants {
		if u := t.usages.get(name); u != nil {
			s.updateUsage(u)
		}
	}
}

// TemplateLimit is what SetTemplate set last. Zero means no limit.
func (s *State) TemplateLimit(name string) int32 { return s.templateLimits[name] }

// SetFanOut sets what a TenantFanOut allows.
func (s *State) SetFanOut(to FanOut) { s.setFanOut(to, true) }

// RemoveFanOut notes that there is no such TenantFanOut. None of its children start.
func (s *State) RemoveFanOut(name string) {
	if f := s.fanOuts[name]; f != nil {
		s.setFanOut(FanOut{Name: name}, false)
		s.pruneFanOut(f)
	}
}

func (s *State) setFanOut(to FanOut, exists bool) {
	f := s.fanOutOf(to.Name)
	if f.FanOut != to || f.exists != exists {
		f.FanOut, f.exists = to, exists
		s.updateFanOut(f)
	}
}
