package fanout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

const (
	// LeadTime is how long before a tenant's time its child is created.
	LeadTime = time.Minute
	// MaxAnnounced is how many children may be announced and not observed yet. With a ledger that is stored every two
	// seconds it allows a thousand of them to be created in a second.
	MaxAnnounced = 2000
)

// Observed is everything that is known about a planned fan-out when Decide is called.
type Observed struct {
	FanOut *v1alpha1.TenantFanOut
	// Ledger is the stored one, as the API server has it. It must not come from a cache or from an earlier decision.
	Ledger *Ledger
	// Children are the children of tenants without an outcome, by tenant: what the cache has and, where the cache has
	// nothing, what the API server has answered since this Ledger was stored. A child that was just created is Ours. Older
	// answers must be left out, since another leader may have acted since.
	Children map[string]Child
	// Tenants are all Tenants, by name. Those whose child is known to be Ours and is not being deleted, and those with an
	// outcome, may be left out.
	Tenants map[string]Tenant
	// Delayed has the tenants whose child the API server does not accept for now, and the API server's message. The caller
	// tries them again.
	Delayed map[string]string
	// End is ReasonSuperseded when a later tick of the schedule ends the children that still wait, and ReasonCancelled when
	// a person does. It is empty otherwise.
	End string
}

// Decision is what to do about a fan-out. Indexes are those of the plan's entries.
type Decision struct {
	// Ledger is the new ledger. It must be stored before anything else that depends on it: see Announced, and Status.
	Ledger *Ledger
	// Changed says that Ledger differs from the stored one. Urgent says that it should be stored at once.
	Changed, Urgent bool
	// Create are the children to create now, in this order. The stored ledger has them as announced.
	Create []int
	// Announced are the children to create after those, as soon as Ledger is stored.
	Announced []int
	// Check are the tenants whose child must be read from the API server, and the Tenant too when Observed has none.
	Check []int
	// Running is how many children have started and have no outcome.
	Running int
	// Gate says which children may start according to Ledger. Once Ledger is stored, call NewGate with it as the stored one.
	Gate Gate
	// Remove says that the fan-out's ttlSecondsAfterFinished has passed.
	Remove bool
	// RequeueAt is when to decide again, if nothing happens before. Zero means never.
	RequeueAt time.Time

	// delay is the message about the first tenant whose child is delayed. It is empty when there is none.
	delay string
}

// Decide returns what to do about a planned fan-out. It goes over the plan once, and once more for each wave that opens. It
// changes nothing in o.
func Decide(o Observed, now time.Time) Decision {
	p := pass{o: o, now: now, ledger: o.Ledger.Clone()}
	p.recordChildren()
	if o.FanOut.DeletionTimestamp == nil {
		p.endWaiting()
		p.acceptFailures()
		p.openWaves()
		p.complete()
	}
	p.d.Ledger = p.ledger
	p.d.Changed = !p.ledger.equal(o.Ledger)
	p.d.Gate = p.gate()
	p.d.delay = p.delay()
	return p.d
}

// pass is the state of one call of Decide.
type pass struct {
	o      Observed
	now    time.Time
	ledger *Ledger
	d      Decision
	// outstanding is how many children are announced and not observed.
	outstanding int
}

func (p *pass) gate() Gate { return NewGate(p.o.FanOut, p.ledger, p.o.Ledger, p.o.End) }

// recordChildren records in the ledger what is known about the children.
func (p *pass) recordChildren() {
	l := p.ledger
	for i, e := range l.plan.Entries {
		if l.decided(i) {
			continue
		}
		c := p.o.Children[e.Tenant]
		if c.Presence == Ours && !l.IsChild(i, c.UID) {
			c = Child{Presence: Foreign}
		}
		if l.Record(i, p.childOutcome(e, c, l.marks[i])) {
			continue
		}
		switch {
		case c.Presence == Ours:
			l.setCreated(i, c.UID)
			if c.runs() {
				p.d.Running++
			}
		case l.marks[i] == markCreated:
			p.d.Check = append(p.d.Check, i)
		case l.marks[i] == markAnnounced:
			p.outstanding++
		}
	}
}

// childOutcome returns the outcome that follows from what is known about a child. It is the zero value when none does.
func (p *pass) childOutcome(e Entry, c Child, mark byte) Outcome {
	switch {
	case c.Presence == Ours && c.Deleting && c.Status != metav1.ConditionTrue && c.Status != metav1.ConditionFalse:
		return p.missingOutcome(e)
	case c.Presence == Ours:
		return OutcomeOf(c.Status, c.Reason, c.Message)
	case mark == markCreated && (c.Presence == Foreign || c.Presence == NotFound):
		return p.missingOutcome(e)
	case mark == markCreated:
	case c.Presence == Foreign:
		return nameConflict(p.o.FanOut.Name)
	case c.Presence == Refused:
		return refusedFor(c.Reason, c.Message)
	}
	return Outcome{}
}

// missingOutcome returns the outcome of a tenant whose child was created and is missing. Deleting a tenant deletes its
// children; when the tenant is still the same, a person deleted the child.
func (p *pass) missingOutcome(e Entry) Outcome {
	t, exists := p.o.Tenants[e.Tenant]
	switch {
	case !exists:
		return unknownTenant(e.Tenant)
	case t.UID != e.UID:
		return tenantReplaced(e.Tenant)
	case t.State == Deleting:
		return stateOutcome(t)
	}
	return deleted()
}

// endWaiting gives an outcome to the tenants without a child when the fan-out was superseded or cancelled. The caller of
// Gate.End ends the children that wait.
func (p *pass) endWaiting() {
	if p.o.End == "" {
		return
	}
	for i := range p.ledger.marks {
		if p.ledger.needsChild(i) {
			p.ledger.Record(i, endOf(p.o.End))
		}
	}
}

// acceptFailures accepts all failures while a fan-out that has exceeded its failure budget is suspended, so that it goes on
// when a person resumes it.
func (p *pass) acceptFailures() {
	l := p.ledger
	if !suspended(p.o.FanOut) || l.Complete() || exceeded(p.o.FanOut, l.withNoneAccepted()) == nil || l.accepted == l.failed() {
		return
	}
	l.accepted = l.failed()
	p.d.Urgent = true
}

// openWaves plans the children of the open wave. When that gives an outcome to all of its tenants, the next wave opens.
func (p *pass) openWaves() {
	for {
		g := p.gate()
		if !g.mayCreate() {
			return
		}
		p.createInWave(g.wave)
		if p.ledger.waves[g.wave].undecided > 0 {
			return
		}
	}
}

// createInWave finds the children of a wave that are to be created now. When the last child of the wave was observed, the
// ledger is stored at once: no further child of the wave could be stored in the same write. That happens once in a wave.
func (p *pass) createInWave(wave int) {
	l := p.ledger
	var ready []int
	allCreated := true
	for i, e := range l.plan.Entries {
		if e.Wave != wave || !l.needsChild(i) {
			continue
		}
		allCreated = false
		if e.NotBefore.After(p.now.Add(LeadTime)) {
			p.requeueAt(e.NotBefore.Add(-LeadTime))
			continue
		}
		outcome, check := p.outcomeWithoutChild(e)
		switch {
		case check:
			p.d.Check = append(p.d.Check, i)
		case outcome.Decided():
			if l.marks[i] == markAnnounced {
				p.outstanding--
			}
			l.Record(i, outcome)
		case l.marks[i] == markAnnounced:
			p.d.Create = append(p.d.Create, i)
		default:
			ready = append(ready, i)
		}
	}
	if allCreated && l.Seen() > p.o.Ledger.Seen() {
		p.d.Urgent = true
	}
	p.sortByTime(p.d.Create)
	p.announce(ready)
}

// outcomeWithoutChild returns the outcome of a tenant for which no child can be created any more, the zero value when one
// can. Check is true when the API server must be asked first.
func (p *pass) outcomeWithoutChild(e Entry) (outcome Outcome, check bool) {
	t, exists := p.o.Tenants[e.Tenant]
	switch {
	case exists && t.UID != e.UID:
		return tenantReplaced(e.Tenant), false
	case exists:
		return stateOutcome(t), false
	case p.o.Children[e.Tenant].Presence == NotFound:
		return unknownTenant(e.Tenant), false
	}
	return Outcome{}, true
}

// announce marks the children that are created next, as many as MaxAnnounced allows.
func (p *pass) announce(ready []int) {
	p.sortByTime(ready)
	for _, i := range ready[:min(len(ready), max(0, MaxAnnounced-p.outstanding))] {
		p.ledger.setMark(i, markAnnounced)
		p.d.Announced = append(p.d.Announced, i)
		p.outstanding++
	}
}

// sortByTime sorts indexes by the time of their entries, and then in the order of the plan.
func (p *pass) sortByTime(indexes []int) {
	entries := p.ledger.plan.Entries
	slices.SortFunc(indexes, func(a, b int) int {
		return cmp.Or(entries[a].NotBefore.Compare(entries[b].NotBefore), a-b)
	})
}

// delay returns the message about the first tenant in the plan that needs a child and whose child is delayed.
func (p *pass) delay() string {
	first := -1
	for tenant := range p.o.Delayed {
		i, planned := p.ledger.plan.Find(tenant)
		if planned && p.ledger.needsChild(i) && (first < 0 || i < first) {
			first = i
		}
	}
	if first < 0 {
		return ""
	}
	tenant := p.ledger.plan.Entries[first].Tenant
	return fmt.Sprintf("the TenantJob of tenant %s can't be made yet: %s", tenant, p.o.Delayed[tenant])
}

// complete records when the fan-out was completed, and finds out whether its ttlSecondsAfterFinished has passed.
func (p *pass) complete() {
	l := p.ledger
	if !l.Complete() {
		return
	}
	if l.completionTime.IsZero() {
		l.completionTime = p.now.UTC().Truncate(time.Second)
		p.d.Urgent = true
	}
	expiry := Expiry(p.o.FanOut, l.completionTime)
	switch {
	case expiry.IsZero():
	case p.now.Before(expiry):
		p.requeueAt(expiry)
	default:
		p.d.Remove = !p.o.Ledger.completionTime.IsZero()
	}
}

// Expiry returns when the ttlSecondsAfterFinished of a fan-out has passed that was completed at a time. Zero means never.
func Expiry(fanOut *v1alpha1.TenantFanOut, completed time.Time) time.Time {
	ttl := fanOut.Spec.TTLSecondsAfterFinished
	if ttl == nil {
		return time.Time{}
	}
	return completed.Add(time.Duration(*ttl) * time.Second)
}

// requeueAt has Decide called again at a time, if it would not be called before.
func (p *pass) requeueAt(at time.Time) {
	if p.d.RequeueAt.IsZero() || at.Before(p.d.RequeueAt) {
		p.d.RequeueAt = at
	}
}
