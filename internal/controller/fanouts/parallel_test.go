package fanouts

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
)

// TestSlowStart: it starts slowly, never runs too many in parallel, and stops after an error or when stop says so.
func TestSlowStart(t *testing.T) {
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		// parallel is how many may run in parallel at first, n how many there are.
		parallel, n int
		// fails is which call fails, and stopAfter after how many calls to stop. Zero means none and never.
		fails, stopAfter int
		// maxParallel is how many may run in parallel, and maxCalls how many in all. Zero means all.
		maxParallel, maxCalls int
		// want is how many may run in parallel afterwards.
		want int
		err  error
	}{
		"none":                     {n: 0, want: 0},
		"one":                      {n: 1, maxParallel: 1, want: 2},
		"few":                      {n: 7, maxParallel: 4, want: 8},
		"as many as there may be":  {n: 1000, maxParallel: maxParallel, want: 2 * maxParallel},
		"all succeeded before":     {parallel: maxParallel, n: 1000, maxParallel: maxParallel, want: 2 * maxParallel},
		"the first fails":          {n: 100, fails: 1, maxParallel: 1, maxCalls: 1, want: 1, err: broken},
		"a later one fails":        {n: 100, fails: 5, maxParallel: 4, maxCalls: 7, want: 1, err: broken},
		"one of many in parallel":  {parallel: maxParallel, n: 1000, fails: 100, maxParallel: maxParallel, maxCalls: 100 + maxParallel, want: 1, err: broken},
		"stopped":                  {n: 100, stopAfter: 7, maxParallel: 4, maxCalls: 7, want: 8},
		"stopped in the middle":    {parallel: maxParallel, n: 1000, stopAfter: 500, maxParallel: maxParallel, maxCalls: 500 + maxParallel, want: 2 * maxParallel},
		"stopped before the first": {parallel: maxParallel, n: 10, stopAfter: -1, maxCalls: -1, want: maxParallel},
	} {
		t.Run(name, func(t *testing.T) {
			calls := make([]atomic.Int32, tc.n)
			var count, running, most atomic.Int32
			s := slowStart{tc.parallel}
			stop := func() bool { return tc.stopAfter != 0 && int(count.Load()) >= tc.stopAfter }
			err := s.run(t.Context(), tc.n, stop, func(i int) error {
				at := running.Add(1)
				for before := most.Load(); at > before && !most.CompareAndSwap(before, at); before = most.Load() {
				}
				defer running.Add(-1)
				runtime.Gosched()
				calls[i].Add(1)
				if n := count.Add(1); n == int32(tc.fails) {
					return broken
				}
				return nil
			})
			if !errors.Is(err, tc.err) || s.parallel != tc.want {
				t.Errorf("error %v and %d in parallel afterwards, want %v and %d", err, s.parallel, tc.err, tc.want)
			}
			if n := int(most.Load()); n > tc.maxParallel {
				t.Errorf("%d ran in parallel, want at most %d", n, tc.maxParallel)
			}
			if n := int(count.Load()); tc.maxCalls == 0 && n != tc.n || tc.maxCalls != 0 && n > max(0, tc.maxCalls) {
				t.Errorf("%d calls", n)
			}
			for i := range calls {
				if n := calls[i].Load(); n > 1 {
					t.Errorf("%d was called %d times", i, n)
				}
			}
		})
	}
}

// TestSlowStartCancelled: a cancelled context is an error, and nothing more is called.
func TestSlowStartCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var s slowStart
	last := 0
	err := s.run(ctx, 100, func() bool { return false }, func(i int) error {
		if last = i; i == 0 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || last != 0 || s.parallel != 1 {
		t.Errorf("error %v after call %d, then %d in parallel", err, last, s.parallel)
	}
}
