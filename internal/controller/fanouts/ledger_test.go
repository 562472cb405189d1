package fanouts

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
)

// TestPace: a burst, then one every two seconds, whatever the clock does.
func TestPace(t *testing.T) {
	start := time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		at   []time.Duration
		want []bool
		next time.Duration
	}{
		"a burst":                      {[]time.Duration{0, 0, 0, 0, 0, 0}, []bool{true, true, true, true, true, false}, 2 * time.Second},
		"then one every two seconds":   {[]time.Duration{0, 0, 0, 0, 0, 1e9, 2e9, 3e9, 4e9}, []bool{true, true, true, true, true, false, true, false, true}, 6 * time.Second},
		"some again after a pause":     {[]time.Duration{0, 0, 0, 0, 0, 4e9, 4e9, 4e9}, []bool{true, true, true, true, true, true, true, false}, 6 * time.Second},
		"no more after a longer pause": {[]time.Duration{0, 99e9, 99e9, 99e9, 99e9, 99e9, 99e9}, []bool{true, true, true, true, true, true, false}, 101 * time.Second},
		"a clock that is put back":     {[]time.Duration{60e9, 60e9, 60e9, 60e9, 60e9, 0, 2e9}, []bool{true, true, true, true, true, false, true}, 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			var p pace
			var got []bool
			var now time.Time
			for _, at := range tc.at {
				now = start.Add(at)
				got = append(got, p.take(now))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("it may be stored (-want +got):\n%s", diff)
			}
			if next := p.next(now); !next.Equal(start.Add(tc.next)) {
				t.Errorf("the next time is after %v instead of %v", next.Sub(start), tc.next)
			}
			if !p.take(p.next(now)) {
				t.Error("and then it may not")
			}
		})
	}
}

// TestTurnLasts: the first children may start soon, and a large plan is passed over less often, but not seldom.
func TestTurnLasts(t *testing.T) {
	for _, tc := range []struct {
		planned, seen int
		want          time.Duration
	}{
		{planned: 10, want: 500 * time.Millisecond},
		{planned: 10, seen: 1, want: 500500 * time.Microsecond},
		{planned: 10_000, want: 500 * time.Millisecond},
		{planned: 10_000, seen: 1, want: time.Second},
		{planned: 1_000_000, seen: 1, want: 2 * time.Second},
	} {
		if got := turnLasts(tc.planned, tc.seen); got != tc.want {
			t.Errorf("with %d planned and %d seen: %v instead of %v", tc.planned, tc.seen, got, tc.want)
		}
	}
}

// TestWidth: it starts slowly, never does too many at once, and stops after what went wrong or when it is enough.
func TestWidth(t *testing.T) {
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		from, n int
		// fails is the one that fails, enoughAfter how many are enough; none if they are zero.
		fails, enoughAfter int
		// most are done at once, and atMost in all. All are if it is zero.
		most, atMost, want int
		err                error
	}{
		"none":                      {n: 0, want: 0},
		"one":                       {n: 1, most: 1, want: 2},
		"few":                       {n: 7, most: 4, want: 8},
		"as many as there may be":   {n: 1000, most: mostAtOnce, want: 2 * mostAtOnce},
		"all went well before":      {from: mostAtOnce, n: 1000, most: mostAtOnce, want: 2 * mostAtOnce},
		"the first is wrong":        {n: 100, fails: 1, most: 1, atMost: 1, want: 1, err: broken},
		"a later one":               {n: 100, fails: 5, most: 4, atMost: 7, want: 1, err: broken},
		"one of many at once":       {from: mostAtOnce, n: 1000, fails: 100, most: mostAtOnce, atMost: 100 + mostAtOnce, want: 1, err: broken},
		"enough":                    {n: 100, enoughAfter: 7, most: 4, atMost: 7, want: 8},
		"enough while many at once": {from: mostAtOnce, n: 1000, enoughAfter: 500, most: mostAtOnce, atMost: 500 + mostAtOnce, want: 2 * mostAtOnce},
	} {
		t.Run(name, func(t *testing.T) {
			done := make([]atomic.Int32, tc.n)
			var count, now, most atomic.Int32
			w := width{tc.from}
			enough := func() bool { return tc.enoughAfter > 0 && int(count.Load()) >= tc.enoughAfter }
			err := w.do(tc.n, enough, func(i int) error {
				at := now.Add(1)
				for before := most.Load(); at > before && !most.CompareAndSwap(before, at); before = most.Load() {
				}
				defer now.Add(-1)
				runtime.Gosched()
				done[i].Add(1)
				if n := count.Add(1); n == int32(tc.fails) {
					return broken
				}
				return nil
			})
			if !errors.Is(err, tc.err) || w.atOnce != tc.want {
				t.Errorf("it ended with %v and trusts it with %d, want %v and %d", err, w.atOnce, tc.err, tc.want)
			}
			if n := int(most.Load()); n > tc.most {
				t.Errorf("%d were done at once, want %d at most", n, tc.most)
			}
			if n := int(count.Load()); tc.atMost == 0 && n != tc.n || tc.atMost > 0 && n > tc.atMost {
				t.Errorf("%d were done", n)
			}
			for i := range done {
				if n := done[i].Load(); n > 1 {
					t.Errorf("%d was done %d times", i, n)
				}
			}
		})
	}
}

// TestIsWorthAWrite: many that were made are worth a write at any time, few when there are no others to make.
func TestIsWorthAWrite(t *testing.T) {
	plan := &fanout.Plan{FanOut: "uid"}
	for i := range 2 * manyMade {
		plan.Entries = append(plan.Entries, fanout.Entry{Tenant: fmt.Sprint("t", i)})
	}
	made := func(n int) *fanout.Ledger {
		stored := fanout.NewLedger(plan).ConfigMap(&v1alpha1.TenantFanOut{ObjectMeta: metav1.ObjectMeta{UID: "uid"}}, "")
		stored.Data["outcomes"] = strings.Repeat("+", n) + strings.Repeat(".", len(plan.Entries)-n)
		ledger, err := fanout.DecodeLedger(stored, plan)
		if err != nil {
			t.Fatal(err)
		}
		return ledger
	}
	others := []int{0}
	for name, tc := range map[string]struct {
		stored int
		d      fanout.Decision
		want   bool
	}{
		"many":                         {10, fanout.Decision{Ledger: made(10 + manyMade), Create: others}, true},
		"not so many":                  {10, fanout.Decision{Ledger: made(9 + manyMade), Create: others}, false},
		"others are to be announced":   {0, fanout.Decision{Ledger: made(lastMade), Announced: others}, false},
		"the last ones":                {0, fanout.Decision{Ledger: made(lastMade)}, true},
		"few last ones":                {1, fanout.Decision{Ledger: made(lastMade)}, false},
		"none, and nothing to be made": {manyMade, fanout.Decision{Ledger: made(manyMade)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := isWorthAWrite(made(tc.stored), tc.d); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}
