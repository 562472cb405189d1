package fanouts

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestRequest: a pass does not wait for a creation that hangs, its tenant is not tried again meanwhile, and the number of those that
// hang is limited.
func TestRequest(t *testing.T) {
	a := newTestFanOut("acme", "globex")
	broken := errors.New("broken")
	if err := a.request(t.Context(), "acme", func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	release, done := make(chan struct{}), make(chan struct{})
	for range maxParallel {
		go func() {
			_ = a.request(t.Context(), "acme", func() error { <-release; done <- struct{}{}; return nil })
			done <- struct{}{}
		}()
	}
	for range maxParallel {
		<-done // none of them has returned
	}
	if got := a.withoutDelayed([]int{0, 1}, time.Now()); len(got) != 1 || got[0] != 1 {
		t.Errorf("%v are tried while one hangs", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.request(ctx, "globex", func() error { t.Error("more than may be in flight"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(release)
	for range maxParallel {
		<-done
	}
	for range cap(a.slots) {
		a.slots <- struct{}{} // all have been given back
	}
	if got := a.withoutDelayed([]int{0, 1}, time.Now()); len(got) != 2 {
		t.Errorf("%v are tried when none hangs", got)
	}
	for range cap(a.slots) {
		<-a.slots
	}
	for _, tenant := range []string{"acme", "globex", "initech"} {
		a.failed(tenant)
	}
	release = make(chan struct{})
	defer close(release)
	if err := a.request(t.Context(), "globex", func() error { <-release; return nil }); err == nil {
		t.Error("the batch goes on while the API server is in trouble")
	}
}
