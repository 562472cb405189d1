package schedules

import (
	"sync"
	"time"
)

const (
	// maxClockSkew is how far the operator's clock may differ from the API server's time, which is in whole seconds.
	maxClockSkew = 2 * time.Second
	// askAgainAfter is when the API server is asked for its time again, if no tick has made the operator ask before.
	askAgainAfter = 10 * time.Minute
)

// serverTime is the API server's time, as far as the operator knows it: what the API server has last said, and what has passed
// on the operator's clock since. A clock that is set does not change what has passed, since it counts that on its own.
type serverTime struct {
	mu sync.Mutex
	// server is what the API server has last said, and local what the operator's clock showed then.
	server, local time.Time
}

// at returns the API server's time when the operator's clock shows a time. Known is false when the API server has to be asked.
func (s *serverTime) at(local time.Time) (server time.Time, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.local.IsZero() {
		return local, false
	}
	passed := local.Sub(s.local)
	return s.server.Add(passed), passed >= 0 && passed < askAgainAfter
}

// set takes in that the API server has said its time when the operator's clock showed local. It returns the time that counts:
// the operator's, which is more exact, unless the two differ.
func (s *serverTime) set(server, local time.Time) time.Time {
	if skew := local.Sub(server); skew >= -maxClockSkew && skew <= maxClockSkew {
		server = local
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server, s.local = server, local
	return server
}
