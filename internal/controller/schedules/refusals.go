package schedules

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
)

// firstRetry and lastRetry are after how long the deletion of a fan-out is tried again that has failed: the first time, and at most.
const (
	firstRetry = 5 * time.Second
	lastRetry  = time.Hour
)

// refusedDeletions are the fan-outs that could not be deleted. A schedule goes on without them, so the back-off is not that of the
// schedule's reconciles.
type refusedDeletions struct {
	once    sync.Once
	backoff *flowcontrol.Backoff
}

func (d *refusedDeletions) get() *flowcontrol.Backoff {
	d.once.Do(func() { d.backoff = flowcontrol.NewBackOff(firstRetry, lastRetry) })
	return d.backoff
}

// isRefused says whether it is too early to try a deletion again.
func (d *refusedDeletions) isRefused(fanOut types.UID, now time.Time) bool {
	return d.get().IsInBackOffSinceUpdate(string(fanOut), now)
}

// addRefused notes that a deletion has failed. It forgets those of long ago.
func (d *refusedDeletions) addRefused(fanOut types.UID, now time.Time) {
	d.get().Next(string(fanOut), now)
	d.get().GC()
}
