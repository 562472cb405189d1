package queue

import (
	"cmp"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// link sets a job's pointers to what it belongs to, and makes what is missing.
func (s *State) link(e *entry) {
	e.queue = s.queueOf(e.Queue)
	e.tenant = s.tenantOf(e.Tenant)
	e.fanOut = s.fanOutOf(e.FanOut)
	e.usage = e.tenant.usages.get(e.Template)
	if e.usage == nil {
		e.usage = &templateUsage{template: e.Template}
		e.tenant.usages.add(e.Template, e.usage)
	}
	e.flow = e.queue.flows[e.tenant.Name]
	if e.flow == nil {
		e.flow = &flow{queue: e.queue, tenant: e.tenant}
		e.queue.flows[e.tenant.Name] = e.flow
		e.tenant.flows.add(e.queue.Name, e.flow)
	}
	e.schedule = e.tenant.scheduleOf(e.Schedule)
}

// prune deletes what nothing belongs to any more after a job has left. A flow stays until virtual time reaches its
// start tag: otherwise a tenant that brings one job at a time would get a new flow for each.
func (s *State) prune(e *entry) {
	if r := e.schedule; r != nil && len(r.running)+len(r.waiting) == 0 {
		delete(e.tenant.schedules, e.Schedule)
	}
	if e.usage.running+len(e.usage.queues) == 0 {
		e.tenant.usages.remove(e.Template)
	}
	e.queue.idle.set(e.flow, e.flow.waiting+e.flow.running == 0)
	s.pruneQueue(e.queue)
	s.pruneFanOut(e.fanOut)
}

// pruneQueue deletes the idle flows that virtual time has reached, and the queue if nothing of it is left.
func (s *State) pruneQueue(q *queue) {
	for !q.idle.empty() && q.idle.top().startTag <= q.virtualTime {
		f := q.idle.top()
		q.idle.set(f, false)
		delete(q.flows, f.tenant.Name)
		f.tenant.flows.remove(q.Name)
		s.pruneTenant(f.tenant)
	}
	if !q.exists && len(q.flows) == 0 && !s.rateLimited.has(q) {
		delete(s.queues, q.Name)
	}
}

func (s *State) pruneTenant(t *tenant) {
	if !t.exists && t.flows.len()+t.usages.len()+len(t.schedules) == 0 && !s.backedOff.has(t) {
		delete(s.tenants, t.Name)
	}
}

func (s *State) pruneFanOut(f *fanOut) {
	if f != nil && !f.exists && f.running+len(f.waves) == 0 {
		delete(s.fanOuts, f.Name)
	}
}

func (s *State) queueOf(name string) *queue {
	q := s.queues[name]
	if q == nil {
		q = &queue{
			Queue: Queue{Name: name}, exists: name == v1alpha1.DefaultQueue,
			flows: map[string]*flow{}, waves: map[waveKey]*waveQueue{},
		}
		q.startable = heap[*waveQueue]{
			less:  func(a, b *waveQueue) bool { return a.head.before(b.head) },
			index: func(w *waveQueue) *int { return &w.startableIndex },
		}
		q.byAge = heap[*entry]{
			less: func(a, b *entry) bool {
				return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.UID, b.UID)) < 0
			},
			index: func(e *entry) *int { return &e.ageIndex },
		}
		q.idle = heap[*flow]{
			less: func(a, b *flow) bool {
				return cmp.Or(cmp.Compare(a.startTag, b.startTag), cmp.Compare(a.tenant.Name, b.tenant.Name)) < 0
			},
			index: func(f *flow) *int { return &f.idleIndex },
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

// fanOutOf returns nil for a job without a fan-out.
func (s *State) fanOutOf(name string) *fanOut {
	if name == "" {
		return nil
	}
	f := s.fanOuts[name]
	if f == nil {
		f = &fanOut{FanOut: FanOut{Name: name}, waves: map[*waveQueue]struct{}{}}
		s.fanOuts[name] = f
	}
	return f
}

// scheduleOf returns nil for a job without a schedule.
func (t *tenant) scheduleOf(name string) *scheduleRuns {
	if name == "" {
		return nil
	}
	r := t.schedules[name]
	if r == nil {
		r = &scheduleRuns{running: map[types.UID]*entry{}, waiting: map[*entry]struct{}{}}
		if t.schedules == nil {
			t.schedules = map[string]*scheduleRuns{}
		}
		t.schedules[name] = r
	}
	return r
}

func (s *State) waveQueueOf(e *entry) *waveQueue {
	key := waveKey{e.FanOut, e.Wave}
	w := e.queue.waves[key]
	if w == nil {
		w = &waveQueue{queue: e.queue, key: key, fanOut: e.fanOut}
		w.startable = heap[*flowQueue]{
			less:  func(a, b *flowQueue) bool { return a.flow.before(b.flow) },
			index: func(fq *flowQueue) *int { return &fq.startableIndex },
		}
		w.expiring = heap[*entry]{
			less: func(a, b *entry) bool {
				return cmp.Or(cmp.Compare(a.expiresAt, b.expiresAt), cmp.Compare(a.UID, b.UID)) < 0
			},
			index: func(e *entry) *int { return &e.expiringIndex },
		}
		e.queue.waves[key] = w
		if e.fanOut != nil {
			e.fanOut.waves[w] = struct{}{}
		}
	}
	return w
}

func (s *State) flowQueueOf(e *entry) *flowQueue {
	key := waveKey{e.FanOut, e.Wave}
	fq := e.flow.queues[key]
	if fq == nil {
		fq = &flowQueue{flow: e.flow, wave: s.waveQueueOf(e), templates: map[string]*templateQueue{}}
		fq.startable = heap[*templateQueue]{
			less:  func(a, b *templateQueue) bool { return a.ready.top().before(b.ready.top()) },
			index: func(tq *templateQueue) *int { return &tq.startableIndex },
		}
		if e.flow.queues == nil {
			e.flow.queues = map[waveKey]*flowQueue{}
		}
		e.flow.queues[key] = fq
	}
	return fq
}

func (s *State) templateQueueOf(fq *flowQueue, u *templateUsage) *templateQueue {
	tq := fq.templates[u.template]
	if tq == nil {
		tq = &templateQueue{flow: fq, usage: u}
		tq.ready = heap[*entry]{
			less:  func(a, b *entry) bool { return a.before(b) },
			index: func(e *entry) *int { return &e.readyIndex },
		}
		fq.templates[u.template] = tq
		if u.queues == nil {
			u.queues = map[*templateQueue]struct{}{}
		}
		u.queues[tq] = struct{}{}
	}
	return tq
}
