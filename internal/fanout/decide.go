package fanout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

const (
	// Lead is how long before its time a child is made.
	Lead = time.Minute
	// Window is how many children are announced and not seen yet, at most. With a ledger that is written every two
	// seconds it lets a thousand of them be made in a second.
	Window = 2000
)

// Presence says what is known of the object that has a child's name.
type Presence int

const (
	// Absent: the cache does not have it, which may be news to come.
	Absent Presence = iota
	// Ours: the fan-out's child is there.
	Ours
	// Stranger: something else has its name, as the API server says.
	Stranger
	// Gone: the API server has neither the child nor, where the Tenants have none either, its tenant.
	Gone
	// Refused: the API server does not accept the child for this tenant, for the reason that is the message. An
	// overloaded API server refuses nothing.
	Refused
)

// Child is what is known of one tenant's child. The zero value is one that the cache does not have.
type Child struct {
	Presence Presence
	// Started says that its Job was made, which its condition may not say yet.
	Started bool
	// Status, Reason and Message of its condition Succeeded.
	Status          metav1.ConditionStatus
	Reason, Message string
}

// ChildOf is what is known of a child from the object that has its name.
func ChildOf(tj *v1alpha1.TenantJob, fanOut types.UID) Child {
	if owner := metav1.GetControllerOfNoCopy(tj); owner == nil || owner.UID != fanOut {
		return Child{Presence: Stranger}
	}
	c := Child{Presence: Ours, Status: metav1.ConditionUnknown, Started: tj.Status.JobRef != nil}
	if condition := meta.FindStatusCondition(tj.Status.Conditions, v1alpha1.ConditionSucceeded); condition != nil {
		c.Status, c.Reason, c.Message = condition.Status, condition.Reason, condition.Message
	}
	return c
}

// runs says whether it has started and has no outcome.
func (c Child) runs() bool {
	return c.Started || c.Reason == v1alpha1.ReasonStarting || c.Reason == v1alpha1.ReasonRunning
}

// Observed is everything that is known about a fan-out with a plan when it is decided about.
type Observed struct {
	FanOut *v1alpha1.TenantFanOut
	// Ledger as it is stored: read from the API server, not from a cache or an earlier decision.
	Ledger *Ledger
	// Children by tenant, of those that have no outcome: what the cache has of them and, where it has nothing, what the API
	// server has answered since this very Ledger was stored; a child that was just made is Ours. Older answers may be to
	// what another leader has done since.
	Children map[string]Child
	// Tenants by name, all there are, but for those whose child is known to be Ours or which have their outcome.
	Tenants map[string]Tenant
	// PutOff is what the API server said of children that it would not take for now, by tenant. It is asked again.
	PutOff map[string]string
	// End is ReasonSuperseded when a later tick of the schedule ends what still waits, ReasonCancelled when a person
	// does. Empty otherwise.
	End string
}

// Decision is what follows from what was observed. Indexes are those of the plan's entries.
type Decision struct {
	// Ledger is the new one. It has to be stored before anything that follows from it: see Announced, and Status.
	Ledger *Ledger
	// Changed says that it differs from the stored one. Urgent, that it should be stored at once.
	Changed, Urgent bool
	// Create are the children to make now, in this order. The stored ledger has announced them.
	Create []int
	// Announced are those to make as soon as Ledger is stored, after the others.
	Announced []int
	// Check are those whose child, and whose tenant if there is none, have to be looked for on the API server.
	Check []int
	// Running is how many children have started and have no outcome.
	Running int
	// PutOff says of one tenant why it has no child yet, when there are such. Empty otherwise.
	PutOff string
	// Gate for the children, by what is known now. When Ledger is stored, NewGate makes the one that knows that too.
	Gate Gate
	// Remove says that the fan-out has outlived its ttlSecondsAfterFinished.
	Remove bool
	// Wake is when to decide again, if nothing happens before. Zero means never.
	Wake time.Time
}

// Decide says what to do about a fan-out with a plan. It is one pass over the plan, and changes nothing in o.
func Decide(o Observed, now time.Time) Decision {
	p := pass{o: o, now: now, ledger: o.Ledger.Clone()}
	p.fold()
	if o.FanOut.DeletionTimestamp == nil {
		p.endEarly()
		p.accept()
		p.open()
		p.finish()
	}
	p.d.Ledger = p.ledger
	p.d.Changed = !p.ledger.equal(o.Ledger)
	p.d.Gate = p.gate()
	p.d.PutOff = p.putOff()
	return p.d
}

// pass is a decision in the making.
type pass struct {
	o      Observed
	now    time.Time
	ledger *Ledger
	d      Decision
	// outstanding are the children that are announced and not seen.
	outstanding int
}

func (p *pass) gate() Gate { return NewGate(p.o.FanOut, p.ledger, p.o.Ledger, p.o.End) }

// fold takes what is known of the children into the ledger.
func (p *pass) fold() {
	l := p.ledger
	for i, e := range l.plan.Entries {
		if l.decided(i) {
			continue
		}
		c := p.o.Children[e.Tenant]
		if l.Record(i, p.outcome(e, c, l.marks[i])) {
			continue
		}
		switch {
		case c.Presence == Ours:
			l.setMark(i, markCreated)
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

// outcome is what a child's state comes to, if it is an outcome.
func (p *pass) outcome(e Entry, c Child, mark byte) Outcome {
	switch {
	case c.Presence == Ours:
		return OutcomeOf(c.Status, c.Reason, c.Message)
	case mark == markCreated && (c.Presence == Stranger || c.Presence == Gone):
		return p.vanished(e)
	case mark == markCreated:
	case c.Presence == Stranger:
		return nameConflict(p.o.FanOut.Name)
	case c.Presence == Refused:
		return refused(c.Message)
	}
	return Outcome{}
}

// vanished is the outcome of a child that was there and is not. Deleting a tenant takes it along; else a person did it.
func (p *pass) vanished(e Entry) Outcome {
	t, exists := p.o.Tenants[e.Tenant]
	switch {
	case !exists:
		return unknownTenant(e.Tenant)
	case t.UID != e.UID:
		return tenantReplaced(e.Tenant)
	case t.State == Deleting:
		return obstacle(t)
	}
	return deleted()
}

// endEarly gives an outcome to those that have no child. A child that waits is ended by whoever asks the gate.
func (p *pass) endEarly() {
	if p.o.End == "" {
		return
	}
	for i := range p.ledger.marks {
		if p.ledger.awaitsChild(i) {
			p.ledger.Record(i, endOf(p.o.End))
		}
	}
}

// accept takes the failures so far out of the budget while a fan-out that went beyond it is suspended, so that it goes on
// when it is resumed.
func (p *pass) accept() {
	l := p.ledger
	if !suspended(p.o.FanOut) || l.Complete() || exceeded(p.o.FanOut, l.unforgiving()) == nil || l.accepted == l.failed() {
		return
	}
	l.accepted = l.failed()
	p.d.Urgent = true
}

// open goes through the wave that is open, and on to the next when that leaves nobody in it.
func (p *pass) open() {
	for {
		g := p.gate()
		if !g.open() {
			return
		}
		p.openWave(g.wave)
		if p.ledger.waves[g.wave].undecided > 0 {
			return
		}
	}
}

// openWave makes the children of a wave whose time has come. When the last of them is there, none waits for others to be
// written down with it: that is once a wave.
func (p *pass) openWave(wave int) {
	l := p.ledger
	var ready []int
	allMade := true
	for i, e := range l.plan.Entries {
		if e.Wave != wave || !l.awaitsChild(i) {
			continue
		}
		allMade = false
		if e.NotBefore.After(p.now.Add(Lead)) {
			p.wakeAt(e.NotBefore.Add(-Lead))
			continue
		}
		outcome, check := p.hindrance(e)
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
	if allMade && l.Seen() > p.o.Ledger.Seen() {
		p.d.Urgent = true
	}
	p.inOrder(p.d.Create)
	p.announce(ready)
}

// hindrance is the outcome of a tenant for which no child can be made any more, or whether it has to be checked first.
func (p *pass) hindrance(e Entry) (outcome Outcome, check bool) {
	t, exists := p.o.Tenants[e.Tenant]
	switch {
	case exists && t.UID != e.UID:
		return tenantReplaced(e.Tenant), false
	case exists:
		return obstacle(t), false
	case p.o.Children[e.Tenant].Presence == Gone:
		return unknownTenant(e.Tenant), false
	}
	return Outcome{}, true
}

// announce writes down which children will be made next.
func (p *pass) announce(ready []int) {
	p.inOrder(ready)
	for _, i := range ready[:min(len(ready), max(0, Window-p.outstanding))] {
		p.ledger.setMark(i, markAnnounced)
		p.d.Announced = append(p.d.Announced, i)
		p.outstanding++
	}
}

// inOrder sorts by time, then as the plan does.
func (p *pass) inOrder(indexes []int) {
	entries := p.ledger.plan.Entries
	slices.SortFunc(indexes, func(a, b int) int {
		return cmp.Or(entries[a].NotBefore.Compare(entries[b].NotBefore), a-b)
	})
}

// putOff speaks of the first tenant in the plan whose child the API server would not take.
func (p *pass) putOff() string {
	first := -1
	for tenant := range p.o.PutOff {
		i, planned := p.ledger.plan.Find(tenant)
		if planned && p.ledger.awaitsChild(i) && (first < 0 || i < first) {
			first = i
		}
	}
	if first < 0 {
		return ""
	}
	tenant := p.ledger.plan.Entries[first].Tenant
	return fmt.Sprintf("the TenantJob of tenant %s can't be made yet: %s", tenant, p.o.PutOff[tenant])
}

// finish notes the end, and when the fan-out has outlived it.
func (p *pass) finish() {
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
		p.wakeAt(expiry)
	default:
		p.d.Remove = !p.o.Ledger.completionTime.IsZero()
	}
}

// Expiry is when a fan-out that was complete at a time has outlived its ttlSecondsAfterFinished. Zero means never.
func Expiry(fanOut *v1alpha1.TenantFanOut, completed time.Time) time.Time {
	ttl := fanOut.Spec.TTLSecondsAfterFinished
	if ttl == nil {
		return time.Time{}
	}
	return completed.Add(time.Duration(*ttl) * time.Second)
}

func (p *pass) wakeAt(at time.Time) {
	if p.d.Wake.IsZero() || at.Before(p.d.Wake) {
		p.d.Wake = at
	}
}
