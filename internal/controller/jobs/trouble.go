package jobs

import (
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
)

// troubles are for how long the children of fan-outs that wait have been in trouble.
type troubles struct {
	mu     sync.Mutex
	clocks map[types.NamespacedName]*troubleClock
	// sweepAt is how many clocks there may be before those of TenantJobs that are gone are looked for.
	sweepAt int
}

// troubleClock is the clock of one TenantJob.
type troubleClock struct {
	job.TroubleClock
	uid  types.UID
	used time.Time
}

// limitTrouble returns what stands of a decision about a TenantJob: its end instead, when trouble has kept a fan-out's child from
// starting for as long as it may. An error is trouble, too.
func (t *troubles) limitTrouble(o job.Observed, d job.Decision, err error, now time.Time) (job.Decision, error) {
	tj := o.TenantJob
	t.mu.Lock()
	defer t.mu.Unlock()
	if o.FanOut == nil || o.Job != nil || o.Started || tj.Status.JobRef != nil || tj.DeletionTimestamp != nil || job.IsOver(tj) {
		delete(t.clocks, kube.KeyOf(tj))
		return d, err
	}
	limited := d
	if err != nil {
		limited = job.Queued(err.Error())
		limited.Trouble = job.UnclearTrouble
	}
	trouble := job.TroubleOf(o, limited)
	if o.FanOut.Paused {
		trouble = job.NoTrouble
	}
	clock := t.clocks[kube.KeyOf(tj)]
	if trouble == job.NoTrouble && clock == nil {
		return d, err
	}
	if clock == nil || clock.uid != tj.UID {
		clock = t.add(kube.KeyOf(tj), tj.UID, now)
	}
	clock.used = now
	limited = clock.Limit(limited, trouble, now)
	if err != nil && !job.Ends(limited) {
		return d, err
	}
	return limited, nil
}

// add starts a clock.
func (t *troubles) add(key types.NamespacedName, uid types.UID, now time.Time) *troubleClock {
	if len(t.clocks) >= t.sweepAt {
		maps.DeleteFunc(t.clocks, func(_ types.NamespacedName, c *troubleClock) bool { return now.Sub(c.used) > job.UnclearAfter })
		t.sweepAt = 2*len(t.clocks) + 100
	}
	if t.clocks == nil {
		t.clocks = map[types.NamespacedName]*troubleClock{}
	}
	t.clocks[key] = &troubleClock{uid: uid, used: now}
	return t.clocks[key]
}
