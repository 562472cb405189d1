package fanouts

import (
	"cmp"
	"context"

	"golang.org/x/sync/errgroup"
)

// maxParallel is how many requests for the children of a fan-out are in flight at most. When all cores are busy, many
// requests in parallel cost less, since the machine switches less often between processes: on one control plane, measured
// in alternation, 64 gave a tenth more starts a second than 32, 32 gave a tenth more than 12, and 128 gave hardly more than
// 64. The Job controller has up to 500.
const maxParallel = 64

// slowStart runs requests in parallel: one at first, then twice as many each time that all of them succeeded, up to
// maxParallel. After an error it starts again with one, so that an API server in trouble gets few requests. It follows
// slowStartBatch of the Job controller.
type slowStart struct{ parallel int }

// run calls do for the numbers below n, in this order as far as they are not done in parallel. It stops after the first
// error, and when stop returns true.
func (s *slowStart) run(ctx context.Context, n int, stop func() bool, do func(i int) error) error {
	for next := 0; next < n && !stop(); {
		s.parallel = min(max(1, s.parallel), maxParallel)
		end := min(n, next+s.parallel)
		if s.parallel == maxParallel {
			end = n
		}
		if err := inParallel(ctx, next, end, s.parallel, stop, do); err != nil {
			s.parallel = 1
			return err
		}
		s.parallel *= 2
		next = end
	}
	return nil
}

// inParallel calls do for the numbers from first to below end. It does not ask stop before the first calls, of which there
// are as many as may run in parallel.
func inParallel(ctx context.Context, first, end, parallel int, stop func() bool, do func(i int) error) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	mayRun := func(i int) bool { return groupCtx.Err() == nil && (i < first+parallel || !stop()) }
	for i := first; i < end && mayRun(i); i++ {
		group.Go(func() error {
			// Go has waited for an earlier call to return.
			if !mayRun(i) {
				return nil
			}
			return do(i)
		})
	}
	return cmp.Or(group.Wait(), ctx.Err())
}
