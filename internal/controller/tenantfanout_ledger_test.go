package controller

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPace: a burst, then one every two seconds, whatever the clock does.
func TestPace(t *testing.T) {
	start := time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		at   []time.Duration
		want []bool
		next time.Duration
	}{
		"a burst":                      {[]time.Duration{0, 0, 0, 0}, []bool{true, true, true, false}, 2 * time.Second},
		"then one every two seconds":   {[]time.Duration{0, 0, 0, 1e9, 2e9, 3e9, 4e9}, []bool{true, true, true, false, true, false, true}, 6 * time.Second},
		"a burst again after a pause":  {[]time.Duration{0, 0, 0, 6e9, 6e9, 6e9, 6e9}, []bool{true, true, true, true, true, true, false}, 8 * time.Second},
		"no more after a longer pause": {[]time.Duration{0, 9e9, 9e9, 9e9, 9e9}, []bool{true, true, true, true, false}, 11 * time.Second},
		"a clock that is put back":     {[]time.Duration{60e9, 60e9, 60e9, 0, 2e9}, []bool{true, true, true, false, true}, 4 * time.Second},
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

// TestInParallel: it starts slowly, never does too many at once, and stops after what went wrong or when it is enough.
func TestInParallel(t *testing.T) {
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		n int
		// fails is the one that fails, enoughAfter how many are enough; none if they are zero.
		fails, enoughAfter int
		want               []int
		err                error
	}{
		"none":               {n: 0},
		"all of them":        {n: 100, want: []int{1, 2, 4, 8, 16, 32, 32, 5}},
		"the first is wrong": {n: 100, fails: 1, want: []int{1}, err: broken},
		"a later one":        {n: 100, fails: 5, want: []int{1, 2, 4}, err: broken},
		"enough":             {n: 100, enoughAfter: 7, want: []int{1, 2, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			done := make([]atomic.Int32, tc.n)
			var count atomic.Int32
			var batches []int
			before := 0
			batch := func() bool {
				if after := int(count.Load()); after > before {
					batches, before = append(batches, after-before), after
				}
				return tc.enoughAfter > 0 && before >= tc.enoughAfter
			}
			err := inParallel(tc.n, batch, func(i int) error {
				done[i].Add(1)
				if n := count.Add(1); n == int32(tc.fails) {
					return broken
				}
				return nil
			})
			batch()
			if !errors.Is(err, tc.err) {
				t.Errorf("it ended with %v", err)
			}
			if diff := cmp.Diff(tc.want, batches); diff != "" {
				t.Errorf("at once (-want +got):\n%s", diff)
			}
			for i := range done {
				if n := done[i].Load(); n > 1 {
					t.Errorf("%d was done %d times", i, n)
				}
			}
		})
	}
}
