package queue

import (
	"fmt"
	"slices"
)

// Kind is what kind of thing holds a TenantJob.
type Kind string

const (
	// HeldByItself: its own Held, see Job.
	HeldByItself Kind = "Itself"
	// HeldByTime: it is not due yet.
	HeldByTime Kind = "NotBefore"
	// HeldByTenant: its tenant's Held, or there is no such tenant.
	HeldByTenant Kind = "Tenant"
	// HeldByReplaced: an earlier run of its schedule is being stopped for it.
	HeldByReplaced Kind = "Replaced"
	// HeldByCaughtUp: a run of its schedule whose tick was caught up on together with its own.
	HeldByCaughtUp Kind = "CaughtUp"
	// HeldByFanOut: its fan-out's Held, or there is no such fan-out.
	HeldByFanOut Kind = "FanOut"
	// HeldByWave: its wave is not open.
	HeldByWave Kind = "Wave"
	// HeldByPolicies: all are held, since the admission policies are not in force.
	HeldByPolicies Kind = "Policies"
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
	// HeldByBackoff: the tenant backs off because a start of it failed.
	HeldByBackoff Kind = "Backoff"
	// HeldByFullQueue: the queue's maxConcurrent.
	HeldByFullQueue Kind = "QueueFull"
	// HeldByRate: the queue's startsPerMinute.
	HeldByRate Kind = "Rate"
)

// Hold is what keeps a TenantJob from starting. The zero value means that nothing does: it starts when it is next.
type Hold struct {
	Kind Kind
	// By is the name of the template, tenant, fan-out or queue.
	By string
	// Limit is the number of jobs or starts that it allows.
	Limit int32
	// message is the caller's, if it passed one with what holds the job.
	message string
}

// CountsAsWait is true if the time counts against maxWaitSeconds.
func (h Hold) CountsAsWait() bool {
	switch h.Kind {
	case HeldByTemplate, HeldByFullTenant, HeldByShare, HeldByBackoff, HeldByFullQueue, HeldByRate, "":
		return true
	}
	return false
}

// Message is the status message for the job's condition. It changes only when what holds the job changes.
func (h Hold) Message() string {
	switch {
	case h.message != "":
		return h.message
	case h.Kind == "":
		return "it is not next yet"
	case h.Kind == HeldByTime:
		return "it is not due (`spec.notBeforeTime`)"
	}
	return fmt.Sprintf(messages[h.Kind], h.By, h.Limit)
}

// messages are formats. The first argument is the name of what holds the job, the second the number that it allows.
var messages = map[Kind]string{
	HeldByTenant:     "there is no tenant %[1]s",
	HeldByReplaced:   "the earlier run of schedule %[1]s is being stopped",
	HeldByCaughtUp:   "another late tick of schedule %[1]s still runs, and they run one after the other",
	HeldByFanOut:     "there is no fan-out %[1]s",
	HeldByWave:       "fan-out %[1]s has not opened its wave",
	HeldByFullFanOut: "fan-out %[1]s is full (`spec.strategy.maxConcurrent`: %[2]d)",
	HeldByNoQueue:    "there is no TenantQueue %[1]s: create it",
	HeldByQueue:      "queue %[1]s is suspended (`spec.suspend`)",
	HeldByTemplate:   "template %[1]s runs at most %[2]d at once for a tenant (`spec.maxConcurrentPerTenant`)",
	HeldByFullTenant: "tenant %[1]s runs at most %[2]d at once (`spec.jobs.maxConcurrent`)",
	HeldByShare:      "queue %[1]s runs at most %[2]d at once for a tenant (`spec.maxConcurrentPerTenant`)",
	HeldByBackoff:    "a start of tenant %[1]s failed, its next one is tried soon",
	HeldByFullQueue:  "queue %[1]s is full (`spec.maxConcurrent`: %[2]d)",
	HeldByRate:       "queue %[1]s starts at most %[2]d a minute (`spec.startsPerMinute`)",
}

// firstHold is the first of what holds a waiting job: what is no limit, then limits from the narrowest to the widest.
func (s *State) firstHold(e *entry) Hold {
	for _, rule := range holdRules {
		if h := rule(s, e); h.Kind != "" {
			return h
		}
	}
	return Hold{}
}

// isHeldBy is true if this is among what holds a waiting job.
func (s *State) isHeldBy(e *entry, by Hold) bool {
	return slices.ContainsFunc(holdRules, func(rule func(*State, *entry) Hold) bool { return rule(s, e) == by })
}

// holdRules return the zero Hold when they do not hold the job.
var holdRules = []func(*State, *entry) Hold{
	heldByItself, heldByTime, heldByTenant, heldByReplaced, heldByCaughtUp, heldByFanOut, heldByQueue,
	heldByPolicies, heldByFullFanOut, heldByTemplate, heldByFullTenant, heldByShare, heldByBackoff, heldByFullQueue, heldByRate,
}

func heldByItself(_ *State, e *entry) Hold {
	if e.Held == "" {
		return Hold{}
	}
	return Hold{Kind: HeldByItself, message: e.Held}
}

func heldByTime(_ *State, e *entry) Hold { return holdIf(!e.isDue, HeldByTime, "", 0) }

func heldByTenant(_ *State, e *entry) Hold {
	h := holdIf(!e.tenant.active(), HeldByTenant, e.tenant.Name, 0)
	h.message = e.tenant.Held
	return h
}

func heldByReplaced(_ *State, e *entry) Hold {
	return holdIf(e.replacing, HeldByReplaced, e.Schedule, 0)
}

func heldByCaughtUp(_ *State, e *entry) Hold {
	return holdIf(e.awaitsCaughtUp(), HeldByCaughtUp, e.Schedule, 0)
}

func heldByFanOut(_ *State, e *entry) Hold {
	f := e.fanOut
	if f.active(e.Wave) {
		return Hold{}
	}
	if !f.exists || f.Held != "" {
		return Hold{Kind: HeldByFanOut, By: f.Name, message: f.Held}
	}
	return Hold{Kind: HeldByWave, By: f.Name}
}

func heldByQueue(_ *State, e *entry) Hold {
	if !e.queue.exists {
		return Hold{Kind: HeldByNoQueue, By: e.queue.Name}
	}
	return holdIf(e.queue.Suspended, HeldByQueue, e.queue.Name, 0)
}

func heldByPolicies(s *State, _ *entry) Hold {
	if s.held == "" {
		return Hold{}
	}
	return Hold{Kind: HeldByPolicies, message: s.held}
}

func heldByFullFanOut(_ *State, e *entry) Hold {
	if e.fanOut.hasRoom() {
		return Hold{}
	}
	return Hold{Kind: HeldByFullFanOut, By: e.fanOut.Name, Limit: e.fanOut.MaxConcurrent}
}

func heldByTemplate(s *State, e *entry) Hold {
	return holdIf(!s.usageHasRoom(e.usage), HeldByTemplate, e.Template, s.templateLimits[e.Template])
}

func heldByFullTenant(_ *State, e *entry) Hold {
	return holdIf(!e.tenant.hasRoom(), HeldByFullTenant, e.tenant.Name, e.tenant.MaxConcurrent)
}

func heldByShare(_ *State, e *entry) Hold {
	limit := e.queue.MaxConcurrentPerTenant
	return holdIf(!below(e.flow.running, limit), HeldByShare, e.queue.Name, limit)
}

func heldByBackoff(s *State, e *entry) Hold {
	if !s.backedOff.has(e.tenant) {
		return Hold{}
	}
	return Hold{Kind: HeldByBackoff, By: e.tenant.Name, message: e.tenant.backoffMessage}
}

func heldByFullQueue(_ *State, e *entry) Hold {
	return holdIf(!e.queue.hasRoom(), HeldByFullQueue, e.queue.Name, e.queue.MaxConcurrent)
}

func heldByRate(s *State, e *entry) Hold {
	q := e.queue
	return holdIf(q.unreserved || q.starts.next(s.now, q.StartsPerMinute).After(s.now), HeldByRate, q.Name, q.StartsPerMinute)
}

func holdIf(held bool, kind Kind, by string, limit int32) Hold {
	if !held {
		return Hold{}
	}
	return Hold{Kind: kind, By: by, Limit: limit}
}
