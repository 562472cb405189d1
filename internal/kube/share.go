package kube

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

const (
	// shareTimeout is how long a write may take. The admission webhooks of a namespace may take up to 30 seconds.
	shareTimeout = 5 * time.Second
	// slowAfter is how long a write takes that waits for something: for such a webhook, say.
	slowAfter = 3 * time.Second
	// slowFor is for how long after a slow write and its pause a namespace has one write at a time.
	slowFor = time.Minute
	// firstPause and lastPause are between a slow write and the next write in the namespace: after the first slow one, and at most.
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// Shares has the namespaces share the workers of a controller. One in which writes are not answered soon has one write at a time, and
// pauses after each slow one. Otherwise it would take all workers. Use NewShares.
type Shares struct {
	clock clock.PassiveClock

	mu         sync.Mutex
	namespaces map[string]*share
}

// share is what is known of a namespace in which a write is under way, or was slow.
type share struct {
	// begun are the writes under way.
	begun map[types.NamespacedName]time.Time
	// slowUntil is until when there is one write at a time, pauseUntil until when there is none, and pause how long that was.
	slowUntil, pauseUntil time.Time
	pause                 time.Duration
}

// NewShares returns Shares in which no namespace is slow.
func NewShares() *Shares { return newShares(clock.RealClock{}) }

func newShares(c clock.PassiveClock) *Shares {
	return &Shares{clock: c, namespaces: map[string]*share{}}
}

// Write calls write, which writes an object and gives up when its context ends. If it is not the turn of the object's namespace, Write
// does not call it, and returns after how long to try again.
func (s *Shares) Write(ctx context.Context, key types.NamespacedName, write func(context.Context) error) (wait time.Duration, err error) {
	if wait = s.begin(key); wait > 0 {
		return wait, nil
	}
	defer s.end(key)
	limited, cancel := context.WithTimeout(ctx, shareTimeout)
	defer cancel()
	return 0, write(limited)
}

// begin begins a write, or returns for how long it has to wait.
func (s *Shares) begin(key types.NamespacedName) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	n := s.namespaces[key.Namespace]
	if n == nil {
		n = &share{begun: map[types.NamespacedName]time.Time{}}
		s.namespaces[key.Namespace] = n
	}
	wait := n.wait(now)
	if wait == 0 {
		n.begun[key] = now
	}
	return wait
}

// wait is for how long the next write has to wait.
func (n *share) wait(now time.Time) time.Duration {
	if now.Before(n.pauseUntil) {
		return n.pauseUntil.Sub(now)
	}
	if now.Before(n.slowUntil) && len(n.begun) > 0 {
		return firstPause
	}
	for _, at := range n.begun {
		if now.Sub(at) >= slowAfter {
			return firstPause
		}
	}
	return 0
}

func (s *Shares) end(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	n := s.namespaces[key.Namespace]
	began := n.begun[key]
	delete(n.begun, key)
	switch isSlow := now.Before(n.slowUntil); {
	case now.Sub(began) >= slowAfter:
		switch {
		case !isSlow:
			n.pause = firstPause
		case !began.Before(n.pauseUntil): // It has not begun together with one that was slow.
			n.pause = min(2*n.pause, lastPause)
		}
		n.pauseUntil = now.Add(n.pause)
		n.slowUntil = n.pauseUntil.Add(slowFor)
	case !isSlow && len(n.begun) == 0:
		delete(s.namespaces, key.Namespace)
	}
}
