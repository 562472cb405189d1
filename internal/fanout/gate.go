package fanout

import (
	"fmt"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Gate says which children of a fan-out may start. It costs next to nothing to make, so it can be made anew with every
// outcome that is recorded, before the slot of that run is given away.
type Gate struct {
	fanOut *v1alpha1.TenantFanOut
	// ledger is what is known, stored what is written down of it.
	ledger, stored *Ledger
	end            string
	pause          pause
	// wave that is open.
	wave          int
	maxConcurrent int
}

// pause is why nothing new starts. The zero value means that it may.
type pause struct{ reason, message string }

// Hold is what keeps a child from starting. The zero value lets it. The time that it is held does not count against its
// maxWaitSeconds.
type Hold struct {
	// Limit holds it for now, in words for its condition.
	Limit string
	// End is the outcome that it ends with instead of starting.
	End Outcome
}

// NewGate is the gate for what is known, the ledger, and what of it is stored. The end is ReasonSuperseded or
// ReasonCancelled when those that have not started are to start no more, and empty otherwise.
func NewGate(fanOut *v1alpha1.TenantFanOut, ledger, stored *Ledger, end string) Gate {
	g := Gate{fanOut: fanOut, ledger: ledger, stored: stored, end: end}
	over := exceeded(fanOut, ledger)
	g.wave = ledger.openWave(over)
	g.pause = pauseOf(fanOut, ledger, over)
	if s := fanOut.Spec.Strategy; s != nil && s.MaxConcurrent != nil {
		g.maxConcurrent = max(1, scaled(s.MaxConcurrent, len(ledger.plan.Entries)))
	}
	return g
}

// Hold says what keeps the child of the tenant at an index of the plan from starting, when so many of the fan-out's
// children run: those with a live Job, and those whose Job is being made.
func (g Gate) Hold(i, running int) Hold {
	name := g.fanOut.Name
	switch {
	case g.ledger.decided(i):
		return Hold{End: g.ledger.Outcome(i)}
	case g.end != "":
		return Hold{End: endOf(g.end)}
	case g.fanOut.DeletionTimestamp != nil:
		return Hold{Limit: fmt.Sprintf("fan-out %s is being deleted", name)}
	case g.pause.reason != "":
		return Hold{Limit: fmt.Sprintf("fan-out %s is paused", name)}
	case g.ledger.plan.Entries[i].Wave > g.wave:
		return Hold{Limit: fmt.Sprintf("fan-out %s has not come to its wave", name)}
	case g.stored.marks[i] != markCreated:
		return Hold{Limit: fmt.Sprintf("fan-out %s is writing down that it was made", name)}
	case g.maxConcurrent > 0 && running >= g.maxConcurrent:
		return Hold{Limit: fmt.Sprintf("fan-out %s is full", name)}
	}
	return Hold{}
}

// Allowance is what a fan-out allows its children as a whole.
type Allowance struct {
	// MaxConcurrent is how many of them may run at once. Zero means no limit.
	MaxConcurrent int
	// OpenWave is the last wave whose children may start.
	OpenWave int
	// Held is what keeps all of them from starting, in words. Empty means nothing.
	Held string
}

// Allowance is what Hold goes by, for whoever counts what runs.
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

// End is the outcome with which the child of the tenant at an index of the plan ends instead of starting. The zero value
// means that it may start, now or later.
func (g Gate) End(i int) Outcome { return g.Hold(i, 0).End }

// Written says whether the stored ledger has it that the child was made, without which it does not start.
func (g Gate) Written(i int) bool { return g.stored.marks[i] == markCreated }

// open says whether children are still to be made, and may be.
func (g Gate) open() bool {
	return g.pause.reason == "" && g.end == "" && g.fanOut.DeletionTimestamp == nil && !g.ledger.Complete()
}

// endOf is the outcome of those that were waiting when the fan-out came to an early end.
func endOf(end string) Outcome {
	if end == v1alpha1.ReasonCancelled {
		return cancelled()
	}
	return superseded()
}

// pauseOf says why a fan-out is paused. One that is complete is not.
func pauseOf(fanOut *v1alpha1.TenantFanOut, l *Ledger, over *overrun) pause {
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
