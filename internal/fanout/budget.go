package fanout

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// overrun is a failure budget that was exceeded. Nil means that none was.
type overrun struct {
	// wave it is, or -1 for the budget of the whole.
	wave    int
	message string
}

// exceeded returns the first budget that the failures are beyond, those of the waves before that of the whole.
//
// A percentage in a wave is of that wave's tenants, one in the strategy of all that are planned: a twentieth of 300
// tenants may fail in a wave of 300, however many come after it. Failures that a person has accepted spend nothing.
func exceeded(fanOut *v1alpha1.TenantFanOut, l *Ledger) *overrun {
	for w, wave := range wavesOf(fanOut) {
		if w >= len(l.waves) || wave.MaxFailures == nil {
			continue
		}
		tally := l.waves[w]
		if allowed := scaled(wave.MaxFailures, tally.total); tally.failed-l.acceptedIn(w) > allowed {
			return &overrun{w, fmt.Sprintf("more than %d of the %d tenants in wave %s failed", allowed, tally.total, wave.Name)}
		}
	}
	if budget := maxFailures(fanOut); budget != nil {
		total := len(l.plan.Entries)
		if allowed := scaled(budget, total); l.failed()-l.accepted > allowed {
			return &overrun{-1, fmt.Sprintf("more than %d of the %d tenants failed", allowed, total)}
		}
	}
	return nil
}

// uncovered says whether a tenant failed that no budget counts.
func uncovered(fanOut *v1alpha1.TenantFanOut, l *Ledger) bool {
	if maxFailures(fanOut) != nil {
		return false
	}
	waves := wavesOf(fanOut)
	for w, tally := range l.waves {
		if tally.failed > 0 && (w >= len(waves) || waves[w].MaxFailures == nil) {
			return true
		}
	}
	return false
}

// unforgiving is the ledger without what a person has accepted, which resumes a fan-out but does not make it a success.
func (l *Ledger) unforgiving() *Ledger {
	c := *l
	c.accepted = 0
	return &c
}

// acceptedIn is how many of the accepted failures were in a wave. Waves run one after the other, so the first were in the
// first.
func (l *Ledger) acceptedIn(wave int) int {
	left := l.accepted
	for _, tally := range l.waves[:wave] {
		left -= min(left, tally.failed)
	}
	return min(left, l.waves[wave].failed)
}

func maxFailures(fanOut *v1alpha1.TenantFanOut) *intstr.IntOrString {
	if fanOut.Spec.Strategy == nil {
		return nil
	}
	return fanOut.Spec.Strategy.MaxFailures
}

func suspended(fanOut *v1alpha1.TenantFanOut) bool {
	return fanOut.Spec.Suspend != nil && *fanOut.Spec.Suspend
}
