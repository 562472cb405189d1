package fanout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// world is what the API server stores, with what the checks need to know.
type world struct {
	t        testing.TB
	fanOut   *v1alpha1.TenantFanOut
	tenants  map[string]Tenant
	template *v1alpha1.TenantJobTemplate
	now      time.Time
	end      string

	plan          []*corev1.ConfigMap // the parts, then the head
	sealed        *Plan               // as it was first read
	ledger        *corev1.ConfigMap
	ledgerVersion int
	children      map[string]*child

	created, ran map[string]int     // how often, by tenant
	outcomes     map[string]Outcome // as the first stored ledger had them
	removed      map[string]bool    // children that were created, not stored as such, and deleted
	// broken are the tenants for which the API server answers no creation; every other one of these is done all the same.
	broken map[string]bool
	// refuses means that none of them is done.
	refuses  bool
	attempts int
	uids     int // how many TenantJobs there have been
}

// child is a TenantJob.
type child struct {
	uid types.UID
	// foreign means that it has no owner reference to the fan-out, and never had one.
	foreign bool
	// disowned means that a member has removed the owner reference, putOff that one has set its notBeforeTime to a time that
	// never comes, held that it was deleted while a finalizer keeps it.
	disowned, putOff, held bool
	// forged means that a member has created it, with an owner reference to the fan-out.
	forged  bool
	started bool
	outcome Outcome
}

func newWorld(t testing.TB, fanOut *v1alpha1.TenantFanOut, tenants []Tenant) *world {
	return &world{
		t: t, fanOut: fanOut, tenants: index(tenants), template: givenTemplate(), now: testTime,
		children: map[string]*child{}, created: map[string]int{}, ran: map[string]int{},
		outcomes: map[string]Outcome{}, removed: map[string]bool{}, broken: map[string]bool{},
	}
}

// newChild adds a TenantJob.
func (w *world) newChild(name string, c child) {
	w.uids++
	c.uid = types.UID(fmt.Sprint("child-", w.uids))
	w.children[name] = &c
}

// tenantJob is the object.
func (w *world) tenantJob(tenant string, c *child) *v1alpha1.TenantJob {
	tj := &v1alpha1.TenantJob{
		ObjectMeta: metav1.ObjectMeta{Name: w.fanOut.Name, UID: c.uid},
		Spec: v1alpha1.TenantJobSpec{
			TenantRef: v1alpha1.TenantReference{Name: tenant}, TemplateRef: w.fanOut.Spec.TemplateRef, Parameters: w.fanOut.Spec.Parameters,
		},
	}
	if !c.foreign && !c.disowned {
		tj.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(w.fanOut, v1alpha1.GroupVersion.WithKind("TenantFanOut"))}
	}
	if c.held {
		tj.DeletionTimestamp = &metav1.Time{Time: testTime}
	}
	if c.started {
		tj.Status.JobRef = &v1alpha1.LocalReference{Name: tj.Name}
	}
	if o := c.outcome; o.Decided() {
		tj.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionSucceeded, Status: o.Status(), Reason: o.Reason, Message: o.Message}}
	}
	return tj
}

// observe returns what the API server says about a child, to one who has read this ledger.
func (w *world) observe(l *Ledger, tenant string, c *child) Child {
	i, planned := l.plan.Find(tenant)
	if !planned {
		return Child{Presence: Foreign}
	}
	return l.ChildOf(w.fanOut, i, w.tenantJob(tenant, c))
}

// storeLedger stores a ledger, and checks that no outcome changes.
func (w *world) storeLedger(l *Ledger) {
	w.ledger = l.ConfigMap(w.fanOut, testNamespace)
	w.ledgerVersion++
	for i, e := range l.plan.Entries {
		got, seen := l.Outcome(i), w.outcomes[e.Tenant]
		if seen.Decided() && got != seen {
			w.t.Fatalf("the outcome of %s was %+v and is %+v", e.Tenant, seen, got)
		}
		if c := w.children[e.Tenant]; !seen.Decided() && got == deleted() && c != nil && !c.foreign && !c.forged && !c.disowned && !c.held && w.created[e.Tenant] == 1 {
			w.t.Fatalf("%s counts as deleted and exists", e.Tenant)
		}
		if got.Decided() {
			w.outcomes[e.Tenant] = got
		}
	}
}

func (w *world) readPlan() *Plan {
	last := len(w.plan) - 1
	p, err := DecodePlan(w.plan[last], w.plan[:last]...)
	if err != nil {
		w.t.Fatalf("decoding the plan: %v", err)
	}
	return p
}

func (w *world) readLedger(p *Plan) *Ledger {
	if w.ledger == nil {
		return NewLedger(p)
	}
	ledger, err := DecodeLedger(w.ledger, p)
	if err != nil {
		w.t.Fatalf("decoding the ledger: %v", err)
	}
	return ledger
}

// stored returns the stored ledger.
func (w *world) stored() *Ledger {
	if w.sealed == nil {
		w.sealed = w.readPlan()
	}
	return w.readLedger(w.sealed)
}

// known returns the ledger that the dispatcher has: the stored one with the outcomes that its children have reported since.
func (w *world) known() *Ledger {
	l := w.stored().Clone()
	for name, c := range w.children {
		if i, planned := l.plan.Find(name); planned && !c.foreign && l.IsChild(i, c.uid) {
			l.Record(i, c.outcome)
		}
	}
	return l
}

func (w *world) gate() Gate { return NewGate(w.fanOut, w.known(), w.stored(), w.end) }

// dispatch starts or ends the children that wait, as far as the gate allows it: all of them, or those with these names. It
// says whether it did so with one of them.
func (w *world) dispatch(names ...string) bool {
	if w.ledger == nil {
		return false
	}
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(w.children))
	}
	moved := false
	for _, name := range names {
		if c := w.children[name]; c != nil && !c.foreign && !c.started && !c.outcome.Decided() {
			moved = w.admit(w.gate(), name, c) || moved
		}
	}
	return moved
}

// admit starts or ends a child that waits. It says whether it did so.
func (w *world) admit(g Gate, name string, c *child) bool {
	i, found := g.ledger.plan.Find(name)
	if !found {
		w.t.Fatalf("%s is not planned", name)
	}
	end, held := admission(g, i, c.uid, w.running())
	switch {
	case !g.ledger.IsChild(i, c.uid), c.disowned && g.ledger.Knows(i, c.uid):
		c.outcome = deleted()
		return true
	case c.disowned, c.held:
		return false
	case c.putOff:
		c.outcome = Outcome{Skipped, v1alpha1.ReasonCancelled, "changed"}
		return true
	case end.Decided():
		c.outcome = end
		return true
	case held != "":
		return false
	case w.tenants[name].State == Suspended:
		c.outcome = Outcome{Skipped, v1alpha1.ReasonTenantSuspended, "suspended"}
		return true
	}
	w.checkStart(name, i)
	if w.ran[name]++; w.ran[name] > 1 {
		w.t.Fatalf("%s ran twice", name)
	}
	c.started = true
	return true
}

// admission applies a gate to the child of the tenant at an index of the plan as production does, while so many children
// run. It returns the outcome with which the child ends, or why the child is held; when both are empty, the child starts.
// Dispatcher.applyFanOut in internal/dispatch applies End and Written; heldByFanOut and heldByFullFanOut in internal/queue
// apply the Allowance.
func admission(g Gate, i int, uid types.UID, running int) (end Outcome, held string) {
	allowance := g.Allowance()
	switch end := g.End(i); {
	case end.Decided():
		return end, ""
	case !g.Written(i, uid):
		return Outcome{}, "the stored ledger does not have it"
	case allowance.Held != "":
		return Outcome{}, allowance.Held
	case g.ledger.plan.Entries[i].Wave > allowance.OpenWave:
		return Outcome{}, "its wave is not open"
	case allowance.MaxConcurrent > 0 && running >= allowance.MaxConcurrent:
		return Outcome{}, "the fan-out is full"
	}
	return Outcome{}, ""
}

// finish ends a run with an outcome.
func (w *world) finish(name string, o Outcome) {
	if c := w.children[name]; c != nil && c.started && !c.outcome.Decided() {
		c.outcome = o
	}
}

// delete deletes a child, as a person, the garbage collector or the TTL does.
func (w *world) delete(name string) {
	if c, exists := w.children[name]; exists && !c.foreign {
		if i, _ := w.stored().plan.Find(name); w.ledger == nil || w.stored().marks[i] == markAnnounced || w.stored().marks[i] == markNone {
			w.removed[name] = true
		}
		delete(w.children, name)
	}
}

// forge creates the child that a tenant never had, as a person can who writes the owner reference by hand.
func (w *world) forge(name string) {
	if len(w.plan) == 0 || w.created[name] > 0 || w.ran[name] > 0 || w.children[name] != nil {
		return
	}
	p := w.stored().plan
	if i, planned := p.Find(name); planned && p.Entries[i].UID == w.tenants[name].UID {
		w.newChild(name, child{forged: true})
	}
}

// replace deletes a child and creates another one of its name and owner, as a member can.
func (w *world) replace(name string) {
	if c := w.children[name]; c != nil && !c.foreign {
		w.delete(name)
		w.newChild(name, child{forged: true})
	}
}

// stopDisowned stops the runs of children that a member has taken from the fan-out, and those that were deleted and are held.
func (w *world) stopDisowned() (stopped bool) {
	if len(w.plan) == 0 || w.ledger == nil {
		return false
	}
	l := w.stored()
	for _, name := range slices.Sorted(maps.Keys(w.children)) {
		c := w.children[name]
		if i, planned := l.plan.Find(name); planned && c.disowned && l.Knows(i, c.uid) && !c.outcome.Decided() {
			c.outcome, stopped = deleted(), true
		}
	}
	return stopped
}

func (w *world) running() int {
	n := 0
	for _, c := range w.children {
		if c.started && !c.outcome.Decided() {
			n++
		}
	}
	return n
}

// suspend sets spec.suspend.
func (w *world) suspend(suspend bool) {
	w.fanOut = w.fanOut.DeepCopy()
	w.fanOut.Spec.Suspend = &suspend
	w.fanOut.Generation++
}

// checkDecision checks what must hold of every decision.
func (w *world) checkDecision(o Observed, d Decision) {
	again := Decide(o, w.now)
	if !d.Ledger.equal(again.Ledger) || !slices.Equal(d.Create, again.Create) || !slices.Equal(d.Announced, again.Announced) {
		w.t.Fatal("Decide returned two results for the same input, or changed the input")
	}
	entries := d.Ledger.plan.Entries
	creations := slices.Concat(d.Create, d.Announced)
	if (d.Gate.pause.reason != "" || w.end != "") && len(creations) > 0 {
		w.t.Fatalf("%d are created while the fan-out is paused (%s) or ended (%s)", len(creations), d.Gate.pause.reason, w.end)
	}
	for _, i := range creations {
		e := entries[i]
		switch {
		case e.Wave != d.Gate.wave:
			w.t.Fatalf("%s of wave %d is created in wave %d", e.Tenant, e.Wave, d.Gate.wave)
		case e.NotBefore.After(w.now.Add(LeadTime)):
			w.t.Fatalf("%s is created too early", e.Tenant)
		case d.Ledger.marks[i] != markAnnounced:
			w.t.Fatalf("%s is created and not announced", e.Tenant)
		}
	}
	for _, i := range d.Create {
		if o.Ledger.marks[i] != markAnnounced {
			w.t.Fatalf("%s is created and was not announced", entries[i].Tenant)
		}
	}
	total := 0
	for _, wave := range d.Ledger.waves {
		total += wave.total
	}
	if total != len(entries) {
		w.t.Fatalf("the waves have %d tenants of %d", total, len(entries))
	}
}

// checkStatus checks what must hold of every status, and stores it.
func (w *world) checkStatus(d Decision) v1alpha1.TenantFanOutStatus {
	status := d.Status(w.now)
	c := status.Counts
	sum := c.Waiting + c.Running + c.Succeeded + c.Failed + c.Skipped
	if sum != c.Total || int(c.Total) != len(d.Ledger.plan.Entries) || min(c.Waiting, c.Running) < 0 {
		w.t.Fatalf("the counters don't sum up: %+v", c)
	}
	if before := w.fanOut.Status.Counts; before != nil &&
		(c.Succeeded < before.Succeeded || c.Failed < before.Failed || c.Skipped < before.Skipped || c.Total != before.Total) {
		w.t.Fatalf("the counters went from %+v to %+v", before, c)
	}
	complete := c.Waiting+c.Running == 0
	if ended := !strings.HasPrefix(condition(status.Conditions, v1alpha1.ConditionSucceeded), "Unknown"); ended != complete {
		w.t.Fatalf("the fan-out has ended: %t, with %+v", ended, c)
	}
	if (status.CompletionTime != nil) != complete {
		w.t.Fatalf("completed at %v with %+v", status.CompletionTime, c)
	}
	w.fanOut = w.fanOut.DeepCopy()
	w.fanOut.Status = status
	return status
}

// checkStart checks that the child of the tenant at an index of the plan may start. It takes the rules from the spec and
// from what is stored, not from the gate.
func (w *world) checkStart(name string, i int) {
	stored, known := w.stored(), w.known()
	entries := stored.plan.Entries
	for j, e := range entries {
		if e.Wave < entries[i].Wave && !known.decided(j) {
			w.t.Fatalf("%s starts before %s of wave %d has an outcome", name, e.Tenant, e.Wave)
		}
	}
	switch over := exceeded(w.fanOut, known); {
	case stored.marks[i] != markCreated:
		w.t.Fatalf("%s starts, and the stored ledger has %q for it", name, stored.marks[i])
	case w.outcomes[name].Decided():
		w.t.Fatalf("%s starts, and has the outcome %+v", name, w.outcomes[name])
	case w.end != "":
		w.t.Fatalf("%s starts, and the fan-out is %s", name, w.end)
	case suspended(w.fanOut):
		w.t.Fatalf("%s starts while the fan-out is suspended", name)
	case over != nil:
		w.t.Fatalf("%s starts, and %s", name, over.message)
	}
	if limit := w.fanOut.Spec.Strategy.MaxConcurrent; limit != nil && w.running() >= max(1, scaled(limit, len(entries))) {
		w.t.Fatalf("%s starts with %d running", name, w.running())
	}
}

// run lets one leader and the dispatcher work until nothing changes. Every run ends with the outcome that the function
// returns.
func (w *world) run(outcome func(name string) Outcome) v1alpha1.TenantFanOutStatus {
	l := newLeader(w)
	for range 1000 {
		l.sync()
		d, _ := l.pass(neverDies)
		moved := d.Changed || len(d.Check)+len(d.Create) > 0
		moved = w.dispatch() || moved
		moved = w.stopDisowned() || moved
		for _, name := range slices.Sorted(maps.Keys(w.children)) {
			if c := w.children[name]; c.started && !c.outcome.Decided() {
				w.finish(name, outcome(name))
				moved = true
			}
		}
		if !d.RequeueAt.IsZero() && !moved {
			w.now = d.RequeueAt
			moved = true
		}
		if len(l.delays) > 0 && len(d.Create) > 0 {
			w.now = w.now.Add(10 * time.Second)
		}
		if !moved {
			return w.fanOut.Status
		}
	}
	w.t.Fatalf("the fan-out never stops changing: %+v", w.fanOut.Status.Counts)
	return v1alpha1.TenantFanOutStatus{}
}

func completed(string) Outcome { return Outcome{Counter: Succeeded, Reason: v1alpha1.ReasonCompleted} }

func describe(counts *v1alpha1.FanOutCounts) string {
	return fmt.Sprintf("%d waiting, %d running, %d succeeded, %d failed, %d skipped of %d",
		counts.Waiting, counts.Running, counts.Succeeded, counts.Failed, counts.Skipped, counts.Total)
}
