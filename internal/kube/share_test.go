package kube

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
)

// TestShares: a namespace whose writes are slow has one at a time, with pauses that grow. Others have as many as they want, and so has
// this one after a while in which none was slow.
func TestShares(t *testing.T) {
	t.Parallel()
	c := clocktesting.NewFakeClock(time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC))
	s := newShares(c)
	in := func(namespace, name string) types.NamespacedName {
		return types.NamespacedName{Namespace: namespace, Name: name}
	}
	expect := func(key types.NamespacedName, want time.Duration) {
		t.Helper()
		if got := s.begin(key); got != want {
			t.Errorf("%s waits %v, want %v", key, got, want)
		}
	}
	for i := range 8 {
		expect(in("a", fmt.Sprint(i)), 0)
	}
	c.Step(slowAfter)
	expect(in("a", "next"), firstPause)
	expect(in("b", "x"), 0)
	s.end(in("b", "x"))
	for i := range 8 {
		s.end(in("a", fmt.Sprint(i))) // They began together, and count once.
	}
	pause := firstPause
	for range 7 {
		expect(in("a", "next"), pause)
		c.Step(pause)
		expect(in("a", "next"), 0)
		expect(in("a", "another"), firstPause)
		c.Step(slowAfter)
		s.end(in("a", "next"))
		pause = min(2*pause, lastPause)
	}
	if pause != lastPause {
		t.Errorf("it pauses for %v at most", pause)
	}
	c.Step(pause)
	expect(in("a", "next"), 0)
	expect(in("a", "another"), firstPause)
	s.end(in("a", "next"))
	c.Step(slowFor)
	expect(in("a", "next"), 0)
	expect(in("a", "another"), 0)
	s.end(in("a", "next"))
	s.end(in("a", "another"))
	if len(s.namespaces) > 0 {
		t.Errorf("it remembers %v", s.namespaces)
	}
}

// TestSharesWrite: a write that hangs is given up, and the next one waits.
func TestSharesWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := NewShares()
		key := types.NamespacedName{Namespace: "a", Name: "b"}
		hangs := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		if wait, err := s.Write(t.Context(), key, hangs); wait != 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waits %v, error %v", wait, err)
		}
		if wait, err := s.Write(t.Context(), key, hangs); wait != firstPause || err != nil {
			t.Errorf("waits %v, error %v", wait, err)
		}
		time.Sleep(firstPause)
		if wait, err := s.Write(t.Context(), key, func(context.Context) error { return nil }); wait != 0 || err != nil {
			t.Errorf("waits %v, error %v", wait, err)
		}
	})
}
