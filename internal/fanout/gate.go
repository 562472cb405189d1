package fanout

import (
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Gate says which children of a fan-out may start. NewGate is cheap, so that a caller makes a new Gate after each outcome
// that it records, before it gives the slot of that run to another child.
type Gate struct {
	fanOut *v1alpha1.TenantFanOut
	// ledger has all outcomes that are known, stored only those that are stored.
	ledger, stored *Ledger
	// end is why children that wait are not to start, see NewGate.
	end   string
	pause pause
	// wave is the index of the open wave.
	wave int
	// maxConcurrent is how many children may run at once. Zero means no limit.
	maxConcurrent int
}

// pause is why no child starts for now. The zero value means that the fan-out is not paused.
type pause struct{ reason, message string }

// NewGate returns the gate of a fan-out. The ledger has all outcomes that are known, stored is the ledger that is stored.
// The end is ReasonSuperseded or ReasonCancelled when children that have not started are not to start any more, and empty
// otherwise.
func NewGate(fanOut *v1alpha1.TenantFanOut, ledger, stored *Ledger, end string) Gate {
	g := Gate{fanOut: fanOut, ledger: ledger, stored: stored, end: end}
	over := exceeded(fanOut, ledger)
	g.wave = ledger.openWave(over)
	g.pause = pauseOf(fanOut, ledger, over)
	if limit := strategyOf(fanOut).MaxConcurrent; limit != nil {
		g.maxConcurrent = max(1, scaled(limit, len(ledger.plan.Entries)))
	}
	return g
}

// Allowance is what a fan-out allows its children as a whole.
type Allowance struct {
	// MaxConcurrent is how many of them may run at once. Zero means no limit.
	MaxConcurrent int
	// OpenWave is the index of the last wave whose children may start.
	OpenWave int
	// Held is the message why none of them may start. Empty means that they may.
	Held string
}

// Allowance returns what the fan-out allows its children as a whole. The caller counts those that run: the children with a
// live Job, and those whose Job is being created.
func (g Gate) Allowance() Allowance {
	a := Allowance{MaxConcurrent: g.maxConcurrent, OpenWave: g.wave}
	switch {
	case g.end != "":
		a.Held = fmt.Sprintf("fan-out %s has come to its end", g.fanOut.Name)
	case g.fanOut.DeletionTimestamp != nil:
		a.Held = fmt.Sprintf("fan-out %s is being deleted", g.fanOut.Name)
	case g.pause.reason != "":
		a.Held = fmt.Sprintf("fan-out %s is paused", g.fanOut.Name)
	}
	return a
}

// End returns the outcome with which the child of the tenant at an index of the plan ends instead of starting. The zero
// value means that the child may start, now or later.
func (g Gate) End(i int) Outcome {
	switch {
	case g.ledger.decided(i):
		return g.ledger.Outcome(i)
	case g.end != "":
		return endOf(g.end)
	}
	return Outcome{}
}

// Written says whether the stored ledger has a TenantJob as the child of the tenant at an index of the plan. A child starts
// only then.
func (g Gate) Written(i int, uid types.UID) bool {
	return g.stored.marks[i] == markCreated && g.stored.IsChild(i, uid)
}

// mayCreate says whether more children may be created.
func (g Gate) mayCreate() bool {
	return g.pause.reason == "" && g.end == "" && g.fanOut.DeletionTimestamp == nil && !g.ledger.Complete()
}

// endOf returns the outcome of children that waited when their fan-out was superseded or cancelled.
func endOf(end string) Outcome {
	if end == v1alpha1.ReasonCancelled {
		return cancelled()
	}
	return superseded()
}

// pauseOf returns why a fan-out is paused. A complete fan-out is not paused.
func pauseOf(fanOut *v1alpha1.TenantFanOut, l *Ledger, over *exceededBudget) pause {
	switch {
	case l.Complete():
		return pause{}
	case suspended(fanOut) && l.accepted > 0:
		return pause{v1alpha1.ReasonSuspended, fmt.Sprintf("`spec.suspend` is true: take it back to go on; "+
			"accepted and no longer spending the failure budget: %d", l.accepted)}
	case suspended(fanOut):
		return pause{v1alpha1.ReasonSuspended, "`spec.suspend` is true: take it back to go on"}
	case over != nil && over.wave < 0:
		return pause{v1alpha1.ReasonFailureBudgetExceeded, over.message + ": raise `spec.strategy.maxFailures`, or set " +
			"`spec.suspend` to true and back to accept the failures so far"}
	case over != nil:
		return pause{v1alpha1.ReasonFailureBudgetExceeded, over.message +
			": set `spec.suspend` to true and back to accept the failures so far"}
	}
	return pause{}
}
