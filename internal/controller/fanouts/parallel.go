package fanouts

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// maxParallel is how many requests for the children of a fan-out are in flight at most. When all cores are busy, many
// requests in parallel cost less, since the machine switches less often between processes: on one control plane, measured
// in alternation, 64 gave a tenth more starts a second than 32, 32 gave a tenth more than 12, and 128 gave hardly more than
// 64. The Job controller has up to 500.
const maxParallel = 64

const (
	// createTimeout is how long the API server may take to create a child. The admission webhooks of a namespace, which it has to
	// wait for, may take up to 30 seconds.
	createTimeout = 5 * time.Second
	// patience is how long a pass waits for a single creation. The request goes on, and a later pass finds what came of it. So
	// the ledger is stored, and others start, while the webhooks of one namespace hang. Within lookAfter there is such a pass.
	patience  = 500 * time.Millisecond
	lookAfter = time.Second
)

// request calls do, which creates a tenant's child, and waits for its return, but no longer than for patience. Of an error that
// do returns later only what do itself has noted is left. When the API server is in trouble, to wait so long is an error.
func (a *activeFanOut) request(ctx context.Context, tenant string, do func() error) error {
	select {
	case a.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	a.setInFlight(tenant, true)
	result := make(chan error, 1)
	go func() {
		err := do()
		a.setInFlight(tenant, false)
		<-a.slots
		result <- err
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-result:
		return err
	case <-timer.C:
		if a.isOverloaded() {
			return fmt.Errorf("creating the TenantJob of tenant %s: no answer yet, and those of others failed before", tenant)
		}
		return nil
	}
}

func (a *activeFanOut) setInFlight(tenant string, isInFlight bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if isInFlight {
		a.inFlight[tenant] = true
	} else {
		delete(a.inFlight, tenant)
	}
}

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
