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

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// world is what would be in etcd, and what it must never see.
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

	made, ran map[string]int     // how often, by tenant
	outcomes  map[string]Outcome // as first seen in a stored ledger
	removed   map[string]bool    // children that were made, not recorded yet, and deleted
}

// child is a TenantJob.
type child struct {
	stranger bool
	started  bool
	outcome  Outcome
}

func newWorld(t testing.TB, fanOut *v1alpha1.TenantFanOut, tenants []Tenant) *world {
	return &world{
		t: t, fanOut: fanOut, tenants: index(tenants), template: givenTemplate(), now: testTime,
		children: map[string]*child{}, made: map[string]int{}, ran: map[string]int{},
		outcomes: map[string]Outcome{}, removed: map[string]bool{},
	}
}

// leader is a controller: all that it has beside the world is lost when it dies.
type leader struct {
	w *world
	// plan never changes once it is read.
	plan *Plan
	// overlay is what the API server has answered since the ledger had this version.
	overlay map[string]Child
	version int
	// cached are the children as its cache has them.
	cached map[string]Child
	// late are the creations that it was about to make when it was held up.
	late []Entry
}

func newLeader(w *world) *leader {
	l := &leader{w: w, overlay: map[string]Child{}}
	l.sync()
	return l
}

// sync brings the cache up to date.
func (l *leader) sync() {
	l.cached = map[string]Child{}
	for name, c := range l.w.children {
		if !c.stranger {
			l.cached[name] = l.w.observe(c)
		}
	}
}

func (w *world) observe(c *child) Child {
	switch {
	case c.stranger:
		return Child{Presence: Stranger}
	case c.outcome.Decided():
		return Child{Presence: Ours, Started: c.started, Status: c.outcome.Status(), Reason: c.outcome.Reason, Message: c.outcome.Message}
	case c.started:
		return Child{Presence: Ours, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonRunning}
	}
	return Child{Presence: Ours, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonQueued}
}

// deaths are where a leader can die.
const (
	neverDies = iota
	diesBeforeSeal
	diesAfterSeal
	diesBeforeStore
	diesAfterStore
	diesBetweenCreates
	heldUpBeforeCreates
)

// pass is a Reconcile. It says whether it lived through it.
func (l *leader) pass(dies int) (Decision, bool) {
	w := l.w
	if len(w.plan) == 0 {
		if dies == diesBeforeSeal || !l.seal() || dies == diesAfterSeal {
			return Decision{}, false
		}
	}
	o, version := l.observed()
	d := Decide(o, w.now)
	w.checkDecision(o, d)
	if dies == diesBeforeStore {
		return d, false
	}
	if d.Changed || w.ledger == nil {
		if version != w.ledgerVersion {
			return d, true // a conflict: another leader was faster
		}
		w.storeLedger(d.Ledger)
		l.observed()
	}
	if dies == diesAfterStore {
		return d, false
	}
	l.look(d.Check)
	for n, i := range slices.Concat(d.Create, d.Announced) {
		e := d.Ledger.plan.Entries[i]
		if dies == heldUpBeforeCreates {
			l.late = append(l.late, e)
			continue
		}
		if dies == diesBetweenCreates && n > 0 {
			return d, false
		}
		l.create(e)
	}
	w.checkStatus(d)
	return d, true
}

func (l *leader) seal() bool {
	w := l.w
	p, err := Seal(Request{FanOut: w.fanOut, Template: w.template, Tenants: slices.Collect(maps.Values(w.tenants))}, w.now)
	if err != nil {
		w.t.Fatalf("sealing: %v", err)
	}
	objects, err := p.ConfigMaps(w.fanOut, testNamespace)
	if err != nil {
		w.t.Fatalf("encoding: %v", err)
	}
	w.plan = objects
	return true
}

// observed reads what is stored.
func (l *leader) observed() (Observed, int) {
	w := l.w
	if l.plan == nil {
		l.plan = w.readPlan()
	}
	ledger := w.readLedger(l.plan)
	if l.version != w.ledgerVersion {
		l.version, l.overlay = w.ledgerVersion, map[string]Child{}
	}
	children := maps.Clone(l.overlay)
	maps.Copy(children, l.cached)
	tenants := maps.Clone(w.tenants)
	for i, e := range l.plan.Entries {
		if ledger.decided(i) {
			delete(children, e.Tenant)
			delete(tenants, e.Tenant)
		} else if children[e.Tenant].Presence == Ours {
			delete(tenants, e.Tenant)
		}
	}
	return Observed{FanOut: w.fanOut, Ledger: ledger, Children: children, Tenants: tenants, End: w.end}, w.ledgerVersion
}

// look asks the API server.
func (l *leader) look(indexes []int) {
	o, _ := l.observed()
	for _, i := range indexes {
		name := o.Ledger.plan.Entries[i].Tenant
		if c, exists := l.w.children[name]; exists {
			l.overlay[name] = l.w.observe(c)
		} else {
			l.overlay[name] = Child{Presence: Gone}
		}
	}
}

func (l *leader) create(e Entry) {
	w := l.w
	if c, exists := w.children[e.Tenant]; exists {
		l.overlay[e.Tenant] = w.observe(c)
		return
	}
	if t, exists := w.tenants[e.Tenant]; !exists || t.UID != e.UID {
		return // no namespace: the next pass sees why
	}
	if w.made[e.Tenant]++; w.made[e.Tenant] > 1 && !w.removed[e.Tenant] {
		w.t.Fatalf("%s got a second TenantJob", e.Tenant)
	}
	w.removed[e.Tenant] = false
	w.children[e.Tenant] = &child{}
	l.overlay[e.Tenant] = w.observe(w.children[e.Tenant])
}

// wakeUp makes the requests arrive that were under way when the leader was held up, however late it is.
func (l *leader) wakeUp() {
	w := l.w
	stored := w.stored()
	for _, e := range l.late {
		i, _ := stored.plan.Find(e.Tenant)
		if stored.marks[i] == markCreated && w.children[e.Tenant] == nil {
			continue // deleted, and nobody has noticed yet: the one case that is not told apart, see doc.go
		}
		w.removed[e.Tenant] = true
		l.create(e)
	}
	l.late = nil
}

func (w *world) storeLedger(l *Ledger) {
	w.ledger = l.ConfigMap(w.fanOut, testNamespace)
	w.ledgerVersion++
	for i, e := range l.plan.Entries {
		got, seen := l.Outcome(i), w.outcomes[e.Tenant]
		if seen.Decided() && got != seen {
			w.t.Fatalf("the outcome of %s was %+v and is %+v", e.Tenant, seen, got)
		}
		if c := w.children[e.Tenant]; !seen.Decided() && got == deleted() && c != nil && !c.stranger && w.made[e.Tenant] == 1 {
			w.t.Fatalf("%s counts as deleted and is there", e.Tenant)
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

// stored is the stored ledger.
func (w *world) stored() *Ledger {
	if w.sealed == nil {
		w.sealed = w.readPlan()
	}
	return w.readLedger(w.sealed)
}

func (w *world) gate() Gate {
	l := w.stored()
	return NewGate(w.fanOut, l, l, w.end)
}

// start starts a child if the gate lets it, or ends it if the gate says so. It says whether it did one of them.
func (w *world) start(name string) bool {
	c := w.children[name]
	if c == nil || c.stranger || c.started || c.outcome.Decided() || w.ledger == nil {
		return false
	}
	g := w.gate()
	i, found := g.ledger.plan.Find(name)
	if !found {
		w.t.Fatalf("%s is not planned", name)
	}
	hold := g.Hold(i, w.running())
	switch {
	case hold.End.Decided():
		c.outcome = hold.End
		return true
	case hold.Limit != "":
		return false
	case w.tenants[name].State == Suspended:
		c.outcome = Outcome{Skipped, v1alpha1.ReasonTenantSuspended, "suspended"}
		return true
	}
	w.checkStart(g, i)
	if w.ran[name]++; w.ran[name] > 1 {
		w.t.Fatalf("%s ran twice", name)
	}
	c.started = true
	return true
}

func (w *world) finish(name string, o Outcome) {
	if c := w.children[name]; c != nil && c.started && !c.outcome.Decided() {
		c.outcome = o
	}
}

// delete is a person deleting a child, the garbage collector, or a TTL that has waited for the ledger.
func (w *world) delete(name string) {
	if c, exists := w.children[name]; exists && !c.stranger {
		if i, _ := w.stored().plan.Find(name); w.ledger == nil || w.stored().marks[i] == markAnnounced || w.stored().marks[i] == markNone {
			w.removed[name] = true
		}
		delete(w.children, name)
	}
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

func (w *world) suspend(suspend bool) {
	w.fanOut = w.fanOut.DeepCopy()
	w.fanOut.Spec.Suspend = &suspend
	w.fanOut.Generation++
}

// checkDecision checks what must hold of every decision.
func (w *world) checkDecision(o Observed, d Decision) {
	again := Decide(o, w.now)
	if !d.Ledger.equal(again.Ledger) || !slices.Equal(d.Create, again.Create) || !slices.Equal(d.Announced, again.Announced) {
		w.t.Fatal("the same was decided otherwise, or what was observed has changed")
	}
	entries := d.Ledger.plan.Entries
	makes := slices.Concat(d.Create, d.Announced)
	if (d.Gate.pause.reason != "" || w.end != "") && len(makes) > 0 {
		w.t.Fatalf("%d are made while it is paused (%s) or over (%s)", len(makes), d.Gate.pause.reason, w.end)
	}
	for _, i := range makes {
		e := entries[i]
		switch {
		case e.Wave != d.Gate.wave:
			w.t.Fatalf("%s of wave %d is made in wave %d", e.Tenant, e.Wave, d.Gate.wave)
		case e.NotBefore.After(w.now.Add(Lead)):
			w.t.Fatalf("%s is made too early", e.Tenant)
		case d.Ledger.marks[i] != markAnnounced:
			w.t.Fatalf("%s is made and not announced", e.Tenant)
		}
	}
	for _, i := range d.Create {
		if o.Ledger.marks[i] != markAnnounced {
			w.t.Fatalf("%s is made and was not announced", entries[i].Tenant)
		}
	}
	total := 0
	for _, tally := range d.Ledger.waves {
		total += tally.total
	}
	if total != len(entries) {
		w.t.Fatalf("the waves have %d tenants of %d", total, len(entries))
	}
}

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
	if over := !strings.HasPrefix(condition(status.Conditions, v1alpha1.ConditionSucceeded), "Unknown"); over != complete {
		w.t.Fatalf("it is over: %t, with %+v", over, c)
	}
	if (status.CompletionTime != nil) != complete {
		w.t.Fatalf("completed at %v with %+v", status.CompletionTime, c)
	}
	w.fanOut = w.fanOut.DeepCopy()
	w.fanOut.Status = status
	return status
}

// checkStart checks that nothing starts before its turn.
func (w *world) checkStart(g Gate, i int) {
	entries := g.ledger.plan.Entries
	for j, e := range entries {
		if e.Wave < entries[i].Wave && !g.ledger.decided(j) {
			w.t.Fatalf("%s starts before %s of wave %d has an outcome", entries[i].Tenant, e.Tenant, e.Wave)
		}
	}
	if suspended(w.fanOut) || g.maxConcurrent > 0 && w.running() >= g.maxConcurrent {
		w.t.Fatalf("%s starts, suspended or with %d running", entries[i].Tenant, w.running())
	}
}

// run goes on with living leaders until nothing moves, every run ending as outcome says.
func (w *world) run(outcome func(name string) Outcome) v1alpha1.TenantFanOutStatus {
	l := newLeader(w)
	for range 1000 {
		l.sync()
		d, _ := l.pass(neverDies)
		moved := d.Changed || len(d.Check)+len(d.Create) > 0
		for _, name := range slices.Sorted(maps.Keys(w.children)) {
			moved = w.start(name) || moved
		}
		for _, name := range slices.Sorted(maps.Keys(w.children)) {
			if c := w.children[name]; c.started && !c.outcome.Decided() {
				w.finish(name, outcome(name))
				moved = true
			}
		}
		if !d.Wake.IsZero() && !moved {
			w.now = d.Wake
			moved = true
		}
		if !moved {
			return w.fanOut.Status
		}
	}
	w.t.Fatalf("it never comes to rest: %+v", w.fanOut.Status.Counts)
	return v1alpha1.TenantFanOutStatus{}
}

func completed(string) Outcome { return Outcome{Counter: Succeeded, Reason: v1alpha1.ReasonCompleted} }

func describe(counts *v1alpha1.FanOutCounts) string {
	return fmt.Sprintf("%d waiting, %d running, %d succeeded, %d failed, %d skipped of %d",
		counts.Waiting, counts.Running, counts.Succeeded, counts.Failed, counts.Skipped, counts.Total)
}
