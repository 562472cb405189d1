package dispatch

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// TestDispatcherNeverExceedsTheLimit starts and ends runs from many sides at once, which the watch tells of before or after
// those who made them do.
func TestDispatcherNeverExceedsTheLimit(t *testing.T) {
	t.Parallel()
	for limit := int32(1); limit <= 3; limit++ {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			d := newSyncedFixture(t)
			d.limitTenant("acme", v1alpha1.TenantJobLimits{MaxConcurrent: &limit})
			var done atomic.Bool
			var looker sync.WaitGroup
			looker.Go(func() {
				for !done.Load() {
					d.clock.Step(WriteTimeout)
					d.releaseGone(t.Context())
					d.admitDue()
				}
			})
			var live, most atomic.Int32
			var all sync.WaitGroup
			for i := range 60 {
				all.Go(func() {
					j := d.run(fmt.Sprintf("acme/%d", i))
					var begun func(StartResult, string)
					for ; begun == nil; runtime.Gosched() {
						begun = d.Ask(j, "").Finish
					}
					made := d.jobOf(j)
					for now := live.Add(1); ; {
						if before := most.Load(); now <= before || most.CompareAndSwap(before, now) {
							break
						}
					}
					switch i % 7 {
					case 0:
						live.Add(-1)
						begun(NotMade, "")
						d.Report(Report{UID: j.UID, Over: true})
						return
					case 1:
						live.Add(-1)
						begun(Uncertain, "")
						d.Report(Report{UID: j.UID, Over: true}) // and there never was a Job
						return
					case 2:
						d.jobChanged(made)
						begun(Made, "")
					case 3:
						d.jobChanged(made)
						live.Add(-1)
						d.jobChanged(ended(made, batchv1.JobComplete))
						begun(Made, "")
						return
					case 4:
						begun(Uncertain, "")
						d.jobChanged(made)
					default:
						begun(Made, "")
						d.jobChanged(made)
					}
					live.Add(-1)
					if d.jobChanged(ended(made, batchv1.JobFailed)); i%2 == 0 {
						d.Report(Report{UID: j.UID, Over: true})
						d.Report(Report{UID: j.UID, Settled: true, OverInCache: true})
					}
				})
			}
			all.Wait()
			done.Store(true)
			looker.Wait()
			if got := most.Load(); got > limit || got == 0 {
				t.Errorf("%d ran at once, and %d may", got, limit)
			}
			d.clock.Step(WriteTimeout)
			d.releaseGone(t.Context())
			d.running(0)
		})
	}
}
