package fanout

import (
	"maps"
	"slices"
	"time"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
)

// leader is a controller. When it dies, everything is lost that is not in the world.
type leader struct {
	w *world
	// plan never changes once it was read.
	plan *Plan
	// answers are what the API server has answered since the ledger had this version.
	answers map[string]Child
	version int
	// cached are the children as its cache has them.
	cached map[string]child
	// delays is since when the creations of the children of tenants have failed.
	delays map[string]time.Time
	// late are the tenants whose children it was about to create when it was paused.
	late []Entry
}

func newLeader(w *world) *leader {
	l := &leader{w: w, answers: map[string]Child{}, delays: map[string]time.Time{}}
	l.sync()
	return l
}

// sync brings the cache up to date.
func (l *leader) sync() {
	l.cached = map[string]child{}
	for name, c := range l.w.children {
		l.cached[name] = *c
	}
}

// The points of a pass at which a leader dies, or is paused.
const (
	neverDies = iota
	diesBeforeSeal
	diesAfterSeal
	diesBeforeStore
	diesAfterStore
	diesBetweenCreates
	pausedBeforeCreates
)

// pass is one Reconcile. It returns false when the leader died in it.
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
			return d, true // a conflict: another leader has stored a ledger
		}
		w.storeLedger(d.Ledger)
		l.observed()
	}
	if dies == diesAfterStore {
		return d, false
	}
	l.check(d.Check)
	for n, i := range slices.Concat(d.Create, d.Announced) {
		e := d.Ledger.plan.Entries[i]
		if dies == pausedBeforeCreates {
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

// seal stores the plan.
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

// observed returns what the leader knows, and the version of the ledger.
func (l *leader) observed() (Observed, int) {
	w := l.w
	if l.plan == nil {
		l.plan = w.readPlan()
	}
	ledger := w.readLedger(l.plan)
	if l.version != w.ledgerVersion {
		l.version, l.answers = w.ledgerVersion, map[string]Child{}
	}
	children := maps.Clone(l.answers)
	for name, cached := range l.cached {
		if c := w.observe(ledger, name, &cached); c.Presence == Ours {
			children[name] = c
			delete(l.delays, name)
		}
	}
	tenants := maps.Clone(w.tenants)
	for i, e := range l.plan.Entries {
		if ledger.decided(i) {
			delete(children, e.Tenant)
			delete(tenants, e.Tenant)
			delete(l.delays, e.Tenant)
		} else if c := children[e.Tenant]; c.Presence == Ours && !c.Deleting {
			delete(tenants, e.Tenant)
		}
	}
	return Observed{FanOut: w.fanOut, Ledger: ledger, Children: children, Tenants: tenants, End: w.end}, w.ledgerVersion
}

// check reads children from the API server.
func (l *leader) check(indexes []int) {
	o, _ := l.observed()
	for _, i := range indexes {
		name := o.Ledger.plan.Entries[i].Tenant
		if c, exists := l.w.children[name]; exists {
			l.answers[name] = l.w.observe(o.Ledger, name, c)
		} else {
			l.answers[name] = Child{Presence: NotFound}
		}
	}
}

// create creates the child of a tenant.
func (l *leader) create(e Entry) {
	w := l.w
	stored := w.stored()
	if c, exists := w.children[e.Tenant]; exists {
		l.answers[e.Tenant] = w.observe(stored, e.Tenant, c)
		return
	}
	if t, exists := w.tenants[e.Tenant]; !exists || t.UID != e.UID {
		return // There is no namespace. The next pass finds out why.
	}
	if w.broken[e.Tenant] && l.fails(e.Tenant) {
		return
	}
	if w.created[e.Tenant]++; w.created[e.Tenant] > 1 && !w.removed[e.Tenant] {
		w.t.Fatalf("%s got a second TenantJob", e.Tenant)
	}
	w.removed[e.Tenant] = false
	w.newChild(e.Tenant, child{})
	if !w.broken[e.Tenant] {
		l.answers[e.Tenant] = w.observe(stored, e.Tenant, w.children[e.Tenant])
	}
}

// fails notes that a creation was not answered. It says whether it was not done, either.
func (l *leader) fails(tenant string) bool {
	w := l.w
	if l.delays[tenant].IsZero() {
		l.delays[tenant] = w.now
	}
	if w.now.Sub(l.delays[tenant]) >= job.TroubleAfter {
		l.answers[tenant] = Child{Presence: Refused, Reason: v1alpha1.ReasonPodsRefused, Message: "no answer"}
	}
	w.attempts++
	return w.refuses || w.attempts%2 == 0
}

// resume sends the requests that the leader was about to send when it was paused, however late that is.
func (l *leader) resume() {
	w := l.w
	stored := w.stored()
	for _, e := range l.late {
		i, _ := stored.plan.Find(e.Tenant)
		if stored.marks[i] == markCreated && w.children[e.Tenant] == nil {
			continue // It was deleted, and that was not observed yet. This is the one case that is left, see doc.go.
		}
		w.removed[e.Tenant] = true
		l.create(e)
	}
	l.late = nil
}
