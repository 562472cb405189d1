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

// Cases 5 and 6: leaders die anywhere, old ones come back with a stale cache, and the rest of the world does what it
// does. The world checks itself; here it only has to end.
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

// happen lets one thing happen.
func happen(rnd *rand.Rand, w *world, leaders *[]*leader) {
	name := fmt.Sprintf("tenant-%05d", rnd.IntN(25))
	switch rnd.IntN(20) {
	case 0:
		if l := (*leaders)[rnd.IntN(len(*leaders))]; len(l.late) > 0 {
			l.wakeUp()
		}
	case 1, 2, 3: // somebody who believes to be the leader goes through a pass
		l := (*leaders)[rnd.IntN(len(*leaders))]
		l.pass(neverDies)
	case 4, 5, 6: // the newest one, with its cache up to date
		l := (*leaders)[len(*leaders)-1]
		l.sync()
		l.pass(neverDies)
	case 7, 8: // it dies somewhere, and another one comes
		l := (*leaders)[len(*leaders)-1]
		l.pass(1 + rnd.IntN(diesBetweenCreates))
		*leaders = append((*leaders)[:len(*leaders)-1], newLeader(w))
	case 9: // one comes, and the one before it does not know
		(*leaders)[len(*leaders)-1].pass(heldUpBeforeCreates)
		*leaders = append(*leaders, newLeader(w))
	case 10, 11, 12:
		for _, name := range slices.Sorted(maps.Keys(w.children)) {
			w.start(name)
		}
	case 13, 14:
		w.finish(name, randomOutcome(rnd))
	case 15:
		w.now = w.now.Add(time.Duration(rnd.IntN(120)) * time.Second)
	default:
		disturb(rnd, w, name)
	}
}

// disturb is what people do.
func disturb(rnd *rand.Rand, w *world, name string) {
	tn, exists := w.tenants[name]
	switch rnd.IntN(9) {
	case 0, 1:
		w.delete(name)
	case 2:
		if w.children[name] == nil && len(w.plan) > 0 {
			w.children[name] = &child{stranger: true}
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
	}
}

func randomOutcome(rnd *rand.Rand) Outcome {
	reasons := []string{
		v1alpha1.ReasonJobFailed, v1alpha1.ReasonExpired, v1alpha1.ReasonCancelled, v1alpha1.ReasonTenantDeleted, v1alpha1.ReasonReplaced,
	}
	if rnd.IntN(2) == 0 {
		return completed("")
	}
	return OutcomeOf("False", reasons[rnd.IntN(len(reasons))], "as it goes")
}

// settle lets the fan-out come to its end, a person resuming it as often as it takes, or superseding it.
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
			t.Fatalf("seed %d: it stands still with %s", seed, describe(status.Counts))
		}
		w.suspend(true)
		w.run(completed)
	}
	t.Fatalf("seed %d: it never ends: %s", seed, describe(w.fanOut.Status.Counts))
}

// A kill at every single point of a small fan-out, over and over until it is through.
func TestKilledEverywhere(t *testing.T) {
	for dies := diesBeforeSeal; dies <= diesBetweenCreates; dies++ {
		for after := range 8 {
			w := newWorld(t, givenFanOut(withWaves(sizeWave("canary", 2, 0)), withMaxConcurrent(2)), givenTenants(7))
			l := newLeader(w)
			for range after {
				l.pass(neverDies)
				l.sync()
				for _, name := range slices.Sorted(maps.Keys(w.children)) {
					w.start(name)
					w.finish(name, completed(name))
				}
			}
			l.pass(dies)
			status := w.run(completed)
			if got := describe(status.Counts); got != "0 waiting, 0 running, 7 succeeded, 0 failed, 0 skipped of 7" {
				t.Errorf("killed at %d after %d: %s", dies, after, got)
			}
			for name, n := range w.made {
				if n != 1 {
					t.Errorf("killed at %d after %d: %s got %d TenantJobs", dies, after, name, n)
				}
			}
		}
	}
}
