package controller

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// Starts is the door through which every run goes: it decides whether a TenantJob may start now. It knows what the
// caches can't know yet, the starts in flight, and keeps a tenant's door shut while the tenant is suspended.
//
// Nothing in it needs to survive a restart: a start that was in flight is in the cache after the next sync, and a
// suspended tenant's namespace says so.
type Starts struct {
	mu       sync.Mutex
	cond     *sync.Cond
	closed   map[string]bool
	inFlight map[string]int
	// unseen are the Jobs that were made and have not come back through the watch, by the UID of their TenantJob.
	unseen map[types.UID]start
}

type start struct{ tenant, template string }

// NewStarts returns a door that is open for all.
func NewStarts() *Starts {
	s := &Starts{closed: map[string]bool{}, inFlight: map[string]int{}, unseen: map[types.UID]start{}}
	s.cond = sync.NewCond(&s.mu)
	return s
}

// Close shuts a tenant's door and waits for its starts in flight: when it returns, whoever lists the tenant's Jobs finds
// all there will be until Open.
func (s *Starts) Close(tenant string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed[tenant] = true
	for s.inFlight[tenant] > 0 {
		s.cond.Wait()
	}
}

// Open opens a tenant's door.
func (s *Starts) Open(tenant string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.closed, tenant)
}
