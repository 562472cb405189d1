package fanout

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// exceededBudget is a failure budget that was exceeded.
type exceededBudget struct {
	// wave is the index of the wave that has the budget, or -1 for the budget of the whole fan-out.
	wave    int
	message string
}

// exceeded returns the first failure budget that has more failures than it allows, nil when there is none. The budgets of
// waves come before that of the whole fan-out.
//
// A percentage in a wave is of the tenants of that wave; one in the strategy is of all planned tenants. So 5% of a wave of
// 300 tenants is 15, however many tenants the other waves have. Failures that a person has accepted do not count.
func exceeded(fanOut *v1alpha1.TenantFanOut, l *Ledger) *exceededBudget {
	for w, wave := range wavesOf(fanOut) {
		if w >= len(l.waves) || wave.MaxFailures == nil {
			continue
		}
		total := l.waves[w].total
		if allowed := scaled(wave.MaxFailures, total); l.waves[w].failed-l.acceptedIn(w) > allowed {
			return &exceededBudget{w, tooManyFailed(allowed, total, "in wave "+wave.Name+" ")}
		}
	}
	if budget := maxFailures(fanOut); budget != nil {
		total := len(l.plan.Entries)
		if allowed := scaled(budget, total); l.failed()-l.accepted > allowed {
			return &exceededBudget{-1, tooManyFailed(allowed, total, "")}
		}
	}
	return nil
}

// tooManyFailed says that more tenants failed than a budget allows. Where is empty, or names the wave and ends with a
// space.
func tooManyFailed(allowed, total int, where string) string {
	if total == 1 {
		return fmt.Sprintf("the only tenant %sfailed", where)
	}
	return fmt.Sprintf("more than %d of the %d tenants %sfailed", allowed, total, where)
}

// failedWithoutBudget says whether a tenant failed whose failure no budget counts.
func failedWithoutBudget(fanOut *v1alpha1.TenantFanOut, l *Ledger) bool {
	if maxFailures(fanOut) != nil {
		return false
	}
	waves := wavesOf(fanOut)
	for w, counts := range l.waves {
		if counts.failed > 0 && (w >= len(waves) || waves[w].MaxFailures == nil) {
			return true
		}
	}
	return false
}

// withNoneAccepted returns the ledger as if no person had accepted failures. Accepting them resumes a fan-out; it does not
// make the fan-out succeed.
func (l *Ledger) withNoneAccepted() *Ledger {
	c := *l
	c.accepted = 0
	return &c
}

// acceptedIn is how many of the accepted failures are those of a wave. Waves run one after the other, so the accepted
// failures are those of the first waves.
func (l *Ledger) acceptedIn(wave int) int {
	left := l.accepted
	for _, counts := range l.waves[:wave] {
		left -= min(left, counts.failed)
	}
	return min(left, l.waves[wave].failed)
}

// maxFailures is the failure budget of the whole fan-out, nil when it has none.
func maxFailures(fanOut *v1alpha1.TenantFanOut) *intstr.IntOrString {
	return strategyOf(fanOut).MaxFailures
}

// strategyOf returns the fan-out's strategy, the zero value when it has none.
func strategyOf(fanOut *v1alpha1.TenantFanOut) v1alpha1.FanOutStrategy {
	return ptr.Deref(fanOut.Spec.Strategy, v1alpha1.FanOutStrategy{})
}

func wavesOf(fanOut *v1alpha1.TenantFanOut) []v1alpha1.Wave { return strategyOf(fanOut).Waves }

func suspended(fanOut *v1alpha1.TenantFanOut) bool { return ptr.Deref(fanOut.Spec.Suspend, false) }
