package fanouts

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
)

// TestWriteLimiter: a burst, then one every two seconds, whatever the clock does.
func TestWriteLimiter(t *testing.T) {
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
			w := newWriteLimiter()
			var got []bool
			var now time.Time
			for _, at := range tc.at {
				now = start.Add(at)
				got = append(got, w.allow(now))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("writes allowed (-want +got):\n%s", diff)
			}
			if next := w.next(now); !next.Equal(start.Add(tc.next)) {
				t.Errorf("the next write is allowed after %v, want %v", next.Sub(start), tc.next)
			}
			if !w.allow(w.next(now)) {
				t.Error("the next write is refused at its time")
			}
		})
	}
}

// TestLacksMany: many unstored children are worth a write at any time, few when no others are left to be created.
func TestLacksMany(t *testing.T) {
	plan := &fanout.Plan{FanOut: "uid"}
	for i := range 2 * maxUnstored {
		plan.Entries = append(plan.Entries, fanout.Entry{Tenant: fmt.Sprint("t", i)})
	}
	seen := func(n int) *fanout.Ledger {
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
		"many":                        {10, fanout.Decision{Ledger: seen(10 + maxUnstored), Create: others}, true},
		"not so many":                 {10, fanout.Decision{Ledger: seen(9 + maxUnstored), Create: others}, false},
		"others are to be announced":  {0, fanout.Decision{Ledger: seen(maxUnstoredWhenDone), Announced: others}, false},
		"the last ones":               {0, fanout.Decision{Ledger: seen(maxUnstoredWhenDone)}, true},
		"few last ones":               {1, fanout.Decision{Ledger: seen(maxUnstoredWhenDone)}, false},
		"none, and nothing to create": {maxUnstored, fanout.Decision{Ledger: seen(maxUnstored)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lacksMany(seen(tc.stored), tc.d); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}
