package fanout

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Cases 5 and 6 of the design: leaders die at any point, former ones come back with a stale cache, and people and tenants
// do anything. The world checks every step; this test checks that the fan-out ends.
func TestAnythingHappens(t *testing.T) {
	seeds := uint64(100)
	if testing.Short() {
		seeds = 30
	}
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 3))
		w := newWorld(t, randomFanOut(rnd), givenTenants(1+rnd.IntN(25)))
		leaders := []*leader{newLeader(w)}
		for range 150 {
			happen(rnd, w, &leaders)
		}
		settle(t, rnd, w, seed)
	}
}

func randomFanOut(rnd *rand.Rand) *v1alpha1.TenantFanOut {
	f := givenFanOut()
	amounts := []any{nil, nil, 0, 1, 3, "10%", "0%", "50%"}
	for i := range rnd.IntN(4) {
		f.Spec.Strategy.Waves = append(f.Spec.Strategy.Waves,
			sizeWave(fmt.Sprint("w", i), []any{1, 2, "10%", "30%"}[rnd.IntN(4)], amounts[rnd.IntN(len(amounts))]))
	}
	withMaxFailures(amounts[rnd.IntN(len(amounts))])(f)
	withMaxConcurrent([]any{nil, 1, 3, "20%"}[rnd.IntN(4)])(f)
	withSpread([]int32{0, 0, 300}[rnd.IntN(3)])(f)
	return f
}

// happen lets one random event happen.
func happen(rnd *rand.Rand, w *world, leaders *[]*leader) {
	name := fmt.Sprintf("tenant-%05d", rnd.IntN(25))
	switch rnd.IntN(20) {
	case 0:
		if l := (*leaders)[rnd.IntN(len(*leaders))]; len(l.late) > 0 {
			l.resume()
		}
	case 1, 2, 3: // any leader, which may be a former one
		l := (*leaders)[rnd.IntN(len(*leaders))]
		l.pass(neverDies)
	case 4, 5, 6: // the newest leader, with its cache up to date
		l := (*leaders)[len(*leaders)-1]
		l.sync()
		l.pass(neverDies)
	case 7, 8: // the newest leader dies, and another one starts
		l := (*leaders)[len(*leaders)-1]
		l.pass(1 + rnd.IntN(diesBetweenCreates))
		*leaders = append((*leaders)[:len(*leaders)-1], newLeader(w))
	case 9: // the newest leader is paused, and another one starts
		(*leaders)[len(*leaders)-1].pass(pausedBeforeCreates)
		*leaders = append(*leaders, newLeader(w))
	case 10, 11, 12:
		w.dispatch()
	case 13, 14:
		w.finish(name, randomOutcome(rnd))
	case 15:
		w.now = w.now.Add(time.Duration(rnd.IntN(120)) * time.Second)
	default:
		disturb(rnd, w, name)
	}
}

// disturb lets one random event happen that no controller causes.
func disturb(rnd *rand.Rand, w *world, name string) {
	tn, exists := w.tenants[name]
	switch rnd.IntN(15) {
	case 10:
		w.replace(name)
	case 11:
		if c := w.children[name]; c != nil && !c.foreign {
			c.disowned = true
		}
	case 12:
		if c := w.children[name]; c != nil {
			c.putOff = true
		}
	case 13:
		if c := w.children[name]; c != nil && !c.outcome.Decided() {
			c.held = true
		}
	case 14:
		w.broken[name] = !w.broken[name]
	case 0, 1:
		w.delete(name)
	case 2:
		if w.children[name] == nil && len(w.plan) > 0 {
			w.newChild(name, child{foreign: true})
		}
	case 3:
		if exists {
			w.tenants[name] = in(State(rnd.IntN(4)), tn)
		}
	case 4:
		if len(w.plan) > 0 {
			delete(w.tenants, name)
			w.delete(name)
		}
	case 5:
		if !exists {
			w.tenants[name] = Tenant{Name: name, UID: types.UID(fmt.Sprint("uid-", rnd.Uint64()))}
		}
	case 6, 7:
		w.suspend(rnd.IntN(2) == 0)
	case 8:
		if len(w.plan) > 0 {
			w.fanOut = w.fanOut.DeepCopy()
			withMaxFailures(rnd.IntN(10))(w.fanOut)
		}
	case 9:
		w.forge(name)
	}
}

func randomOutcome(rnd *rand.Rand) Outcome {
	reasons := []string{
		v1alpha1.ReasonJobFailed, v1alpha1.ReasonExpired, v1alpha1.ReasonCancelled, v1alpha1.ReasonTenantDeleted, v1alpha1.ReasonReplaced,
	}
	if rnd.IntN(2) == 0 {
		return completed("")
	}
	return OutcomeOf("False", reasons[rnd.IntN(len(reasons))], "a message")
}

// settle lets the fan-out end. A person resumes it as often as necessary, or the next tick supersedes it.
func settle(t *testing.T, rnd *rand.Rand, w *world, seed uint64) {
	if seed%5 == 0 {
		w.end = v1alpha1.ReasonSuperseded
	}
	for range 100 {
		w.suspend(false)
		status := w.run(func(string) Outcome { return randomOutcome(rnd) })
		if status.CompletionTime != nil {
			return
		}
		if status.Wave == "" && condition(status.Conditions, v1alpha1.ConditionPaused) != "True FailureBudgetExceeded" {
			t.Fatalf("seed %d: it makes no progress with %s", seed, describe(status.Counts))
		}
		w.suspend(true)
		w.run(completed)
	}
	t.Fatalf("seed %d: it never ends: %s", seed, describe(w.fanOut.Status.Counts))
}

// The leader is killed at each point of a small fan-out.
func TestKilledEverywhere(t *testing.T) {
	for dies := diesBeforeSeal; dies <= diesBetweenCreates; dies++ {
		for after := range 8 {
			w := newWorld(t, givenFanOut(withWaves(sizeWave("canary", 2, 0)), withMaxConcurrent(2)), givenTenants(7))
			l := newLeader(w)
			for range after {
				l.pass(neverDies)
				l.sync()
				for _, name := range slices.Sorted(maps.Keys(w.children)) {
					w.dispatch(name)
					w.finish(name, completed(name))
				}
			}
			l.pass(dies)
			status := w.run(completed)
			if got := describe(status.Counts); got != "0 waiting, 0 running, 7 succeeded, 0 failed, 0 skipped of 7" {
				t.Errorf("killed at %d after %d: %s", dies, after, got)
			}
			for name, n := range w.created {
				if n != 1 {
					t.Errorf("killed at %d after %d: %d TenantJobs for %s", dies, after, n, name)
				}
			}
		}
	}
}
