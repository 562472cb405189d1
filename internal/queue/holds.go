package queue

import (
	"fmt"

	"k8s.io/apimachinery/pkg/types"
)

// Kind of what holds a TenantJob.
type Kind string

const (
	// HeldByItself: what it was put with as Held.
	HeldByItself Kind = "Itself"
	// HeldByTime: it is not due yet.
	HeldByTime Kind = "NotBefore"
	// HeldByTenant: what its tenant was set with as Held, or there is no such tenant.
	HeldByTenant Kind = "Tenant"
	// HeldByReplaced: an earlier run of its schedule is being stopped for it.
	HeldByReplaced Kind = "Replaced"
	// HeldByFanOut: what its fan-out was set with as Held, or there is no such fan-out.
	HeldByFanOut Kind = "FanOut"
	// HeldByWave: its wave is not open.
	HeldByWave Kind = "Wave"
	// HeldByFullFanOut: the fan-out's maxConcurrent.
	HeldByFullFanOut Kind = "FanOutFull"
	// HeldByNoQueue: there is no such TenantQueue.
	HeldByNoQueue Kind = "NoQueue"
	// HeldByQueue: the queue is suspended.
	HeldByQueue Kind = "QueueSuspended"
	// HeldByTemplate: the template's maxConcurrentPerTenant.
	HeldByTemplate Kind = "Template"
	// HeldByFullTenant: the tenant's maxConcurrent.
	HeldByFullTenant Kind = "TenantFull"
	// HeldByShare: the queue's maxConcurrentPerTenant.
	HeldByShare Kind = "QueuePerTenant"
	// HeldByBackoff: a start of the tenant failed a moment ago.
	HeldByBackoff Kind = "Backoff"
	// HeldByFullQueue: the queue's maxConcurrent.
	HeldByFullQueue Kind = "QueueFull"
	// HeldByRate: the queue's startsPerMinute.
	HeldByRate Kind = "Rate"
)

// Hold is what keeps a TenantJob from starting. The zero value means nothing: Next will come to it.
type Hold struct {
	Kind Kind
	// By is the name of the template, tenant, fan-out or queue.
	By string
	// Limit is the number that it allows.
	Limit int32
	// fact is what it was fed with, in words.
	fact string
}

// Counts says whether the time counts against maxWaitSeconds.
func (h Hold) Counts() bool {
	switch h.Kind {
	case HeldByTemplate, HeldByFullTenant, HeldByShare, HeldByBackoff, HeldByFullQueue, HeldByRate, "":
		return true
	}
	return false
}

// Words are those for its condition. They change only when what holds it does.
func (h Hold) Words() string {
	switch {
	case h.fact != "":
		return h.fact
	case h.Kind == "":
		return "its turn has not come"
	case h.Kind == HeldByTime:
		return "it is not due (`spec.notBeforeTime`)"
	}
	return fmt.Sprintf(words[h.Kind], h.By, h.Limit)
}

// words say what holds a job: the first argument is its name, the second the number that it allows.
var words = map[Kind]string{
	HeldByTenant:     "there is no tenant %[1]s",
	HeldByReplaced:   "the earlier run of schedule %[1]s is being stopped",
	HeldByFanOut:     "there is no fan-out %[1]s",
	HeldByWave:       "fan-out %[1]s has not come to its wave",
	HeldByFullFanOut: "fan-out %[1]s is full (`spec.strategy.maxConcurrent`: %[2]d)",
	HeldByNoQueue:    "there is no TenantQueue %[1]s: create it",
	HeldByQueue:      "queue %[1]s is suspended (`spec.suspend`)",
	HeldByTemplate:   "template %[1]s runs at most %[2]d at once for a tenant (`spec.maxConcurrentPerTenant`)",
	HeldByFullTenant: "tenant %[1]s runs at most %[2]d jobs at once (`spec.jobs.maxConcurrent`)",
	HeldByShare:      "queue %[1]s runs at most %[2]d at once for a tenant (`spec.maxConcurrentPerTenant`)",
	HeldByBackoff:    "a start of tenant %[1]s failed, its next one is tried soon",
	HeldByFullQueue:  "queue %[1]s is full (`spec.maxConcurrent`: %[2]d)",
	HeldByRate:       "queue %[1]s starts at most %[2]d a minute (`spec.startsPerMinute`)",
}

// Hold says what keeps a TenantJob from starting, the first of those that do: what is not a limit, then limits from the
// narrowest to the widest. False means that it does not wait.
func (s *State) Hold(uid types.UID) (Hold, bool) {
	e := s.jobs[uid]
	if e == nil || e.lane == nil {
		return Hold{}, false
	}
	return s.hold(e), true
}

func (s *State) hold(e *entry) Hold {
	for _, rule := range holds {
		if h := rule(s, e); h.Kind != "" {
			return h
		}
	}
	return Hold{}
}

// holds says whether one thing is among what keeps a job from starting.
func (s *State) holds(e *entry, by Hold) bool {
	for _, rule := range holds {
		if rule(s, e) == by {
			return true
		}
	}
	return false
}

var holds = []func(*State, *entry) Hold{
	heldByItself, heldByTime, heldByTenant, heldByReplaced, heldByFanOut, heldByQueue,
	heldByFullFanOut, heldByTemplate, heldByFullTenant, heldByShare, heldByBackoff, heldByFullQueue, heldByRate,
}

func heldByItself(_ *State, e *entry) Hold {
	if e.Held == "" {
		return Hold{}
	}
	return Hold{Kind: HeldByItself, fact: e.Held}
}

func heldByTime(_ *State, e *entry) Hold { return holdIf(!e.isDue, HeldByTime, "", 0) }

func heldByTenant(_ *State, e *entry) Hold {
	h := holdIf(!e.tenant.known || e.tenant.Held != "", HeldByTenant, e.tenant.Name, 0)
	h.fact = e.tenant.Held
	return h
}

func heldByReplaced(_ *State, e *entry) Hold {
	return holdIf(e.replacing, HeldByReplaced, e.Schedule, 0)
}

func heldByFanOut(_ *State, e *entry) Hold {
	f := e.fanOut
	if f.free(e.Wave) {
		return Hold{}
	}
	if !f.known || f.Held != "" {
		return Hold{Kind: HeldByFanOut, By: f.Name, fact: f.Held}
	}
	return Hold{Kind: HeldByWave, By: f.Name}
}

func heldByQueue(_ *State, e *entry) Hold {
	if !e.queue.known {
		return Hold{Kind: HeldByNoQueue, By: e.queue.Name}
	}
	return holdIf(e.queue.Suspended, HeldByQueue, e.queue.Name, 0)
}

func heldByFullFanOut(_ *State, e *entry) Hold {
	if e.fanOut.hasRoom() {
		return Hold{}
	}
	return Hold{Kind: HeldByFullFanOut, By: e.fanOut.Name, Limit: e.fanOut.MaxConcurrent}
}

func heldByTemplate(s *State, e *entry) Hold {
	return holdIf(!s.binHasRoom(e.bin), HeldByTemplate, e.Template, s.perTenant[e.Template])
}

func heldByFullTenant(_ *State, e *entry) Hold {
	return holdIf(!e.tenant.hasRoom(), HeldByFullTenant, e.tenant.Name, e.tenant.MaxConcurrent)
}

func heldByShare(_ *State, e *entry) Hold {
	limit := e.queue.MaxConcurrentPerTenant
	return holdIf(!below(e.line.running, limit), HeldByShare, e.queue.Name, limit)
}

func heldByBackoff(_ *State, e *entry) Hold {
	h := holdIf(e.tenant.backedOffAt != 0, HeldByBackoff, e.tenant.Name, 0)
	if h.Kind != "" {
		h.fact = e.tenant.refusal
	}
	return h
}

func heldByFullQueue(_ *State, e *entry) Hold {
	return holdIf(!e.queue.hasRoom(), HeldByFullQueue, e.queue.Name, e.queue.MaxConcurrent)
}

func heldByRate(s *State, e *entry) Hold {
	q := e.queue
	return holdIf(q.starts.next(s.now, q.StartsPerMinute).After(s.now), HeldByRate, q.Name, q.StartsPerMinute)
}

func holdIf(held bool, kind Kind, by string, limit int32) Hold {
	if !held {
		return Hold{}
	}
	return Hold{Kind: kind, By: by, Limit: limit}
}
