package dispatch

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/queue"
)

// TestDispatcherKeepsTheRate: no minute has more starts than startsPerMinute, however often the operator dies, and whether or not
// the Jobs of these starts are left. A restart costs no more than what was reserved.
func TestDispatcherKeepsTheRate(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 9))
			limit := int32(1 + r.IntN(20))
			stored := &v1alpha1.TenantQueue{ObjectMeta: metav1.ObjectMeta{Name: "q"}, Spec: v1alpha1.TenantQueueSpec{StartsPerMinute: &limit}}
			now := time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)
			var starts []time.Time
			var left []*batchv1.Job
			next := 0
			for range 12 {
				d := newFixture(t)
				d.clock.SetTime(now)
				d.put(d.there, stored)
				d.queueChanged(stored)
				for _, j := range left {
					d.caches(j)
				}
				d.syncs()
				for range 1 + r.IntN(60) {
					d.clock.Step(time.Duration(r.IntN(4000)) * time.Millisecond)
					d.admitDue()
					for range r.IntN(4) {
						j := d.run(fmt.Sprintf("acme/%d", next))
						a := d.Dispatcher.Ask(j, "")
						if len(d.unreserved) > 0 {
							if r.IntN(8) == 0 {
								break // It dies before that is stored, or right after.
							}
							record := d.StartRecord("q")
							if record == nil {
								t.Fatal("there is nothing to store")
							}
							stored.Status.Starts = record
							d.unreserved = nil
							d.StartsRecorded("q", record)
							a = d.Dispatcher.Ask(j, "")
						}
						if a.Finish == nil {
							break
						}
						next++
						if r.IntN(6) == 0 {
							a.Finish(NotMade, "")
							d.Report(Report{UID: j.UID, Over: true})
							continue
						}
						a.Finish(Made, "")
						starts = append(starts, d.clock.Now())
						made := d.jobOf(j)
						made.CreationTimestamp = metav1.NewTime(d.clock.Now().Truncate(time.Second))
						d.jobChanged(made)
						d.jobChanged(ended(made, batchv1.JobComplete))
						if r.IntN(2) == 0 {
							left = append(left, ended(made, batchv1.JobComplete))
						}
					}
				}
				now = d.clock.Now().Add(time.Duration(r.IntN(3000)) * time.Millisecond)
			}
			for i := range starts {
				if n := i + int(limit); n < len(starts) && starts[n].Sub(starts[i]) < time.Minute {
					t.Fatalf("%d starts from %v until %v, and %d may", limit+1, starts[i], starts[n], limit)
				}
			}
			if len(starts) == 0 {
				t.Error("nothing started")
			}
		})
	}
}

// TestDispatcherRestartAssumesReservedStarts: what was reserved counts as started just now, unless its Job is there.
func TestDispatcherRestartAssumesReservedStarts(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		reserved int32
		recent   int32
		jobs     int
		// want is how many of ten may start at once, with 6 starts a minute.
		want int
	}{
		"nothing was started":             {0, 0, 0, 6},
		"some were started":               {0, 2, 0, 4},
		"some were reserved":              {3, 2, 0, 1},
		"some of those are there":         {3, 2, 2, 1},
		"all that may":                    {4, 2, 0, 0},
		"more are there than were stored": {1, 0, 3, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newFixture(t)
			q := &v1alpha1.TenantQueue{ObjectMeta: metav1.ObjectMeta{Name: "q"}, Spec: v1alpha1.TenantQueueSpec{StartsPerMinute: new(int32(6))}}
			q.Status.Starts = &v1alpha1.RecordedStarts{Time: metav1.NewMicroTime(d.clock.Now()), Reserved: &tc.reserved}
			if tc.recent > 0 {
				q.Status.Starts.Recent = []v1alpha1.RecordedStart{{Time: metav1.NewTime(d.clock.Now()), Count: tc.recent}}
			}
			d.put(d.there, q)
			d.queueChanged(q)
			if before := d.jobOf(d.run("globex/before")); tc.recent > 0 {
				before.CreationTimestamp = metav1.NewTime(d.clock.Now().Add(-time.Second))
				d.caches(ended(before, batchv1.JobComplete))
			}
			d.clock.Step(2 * time.Second)
			for i := range tc.jobs {
				d.caches(ended(d.jobOf(d.run(fmt.Sprintf("globex/%d", i))), batchv1.JobComplete))
			}
			d.syncs()
			started := 0
			for _, name := range many("acme", 10) {
				if d.Ask(d.run(name), "").Finish != nil {
					started++
				}
			}
			if started != tc.want {
				t.Errorf("%d start, want %d", started, tc.want)
			}
		})
	}
}

func TestDispatcherStartsPerMinute(t *testing.T) {
	t.Parallel()
	d := newSyncedFixture(t)
	d.limitQueue(v1alpha1.TenantQueueSpec{StartsPerMinute: new(int32(2))})
	d.jobChanged(ended(d.starts(d.run("acme/1")), batchv1.JobComplete))
	d.starts(d.run("globex/1"))
	d.waitsFor(d.run("acme/2"), "queue q starts at most 2 a minute (`spec.startsPerMinute`)")
	d.requested = nil
	if left := d.admitDue(); left <= 0 || left > time.Minute {
		t.Errorf("it looks again after %s", left)
	}
	d.clock.Step(time.Minute + time.Second)
	d.admitDue()
	d.recordStarts()
	d.expectRequests("acme/2")
	d.starts(d.run("acme/2"))
}

// TestDispatcherCountsStartsWhenMade: a start counts for startsPerMinute from when its Job is made. It may have been admitted, and
// its request may have been on its way, for a while.
func TestDispatcherCountsStartsWhenMade(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ untilBegun, untilMade time.Duration }{
		"begun late": {untilBegun: 20 * time.Second},
		"made late":  {untilMade: WriteTimeout - time.Second},
		"both":       {untilBegun: 20 * time.Second, untilMade: WriteTimeout - time.Second},
	} {
		for answer, finish := range map[string]func(*fixture, queue.Job, func(StartResult)){
			"answered":            func(_ *fixture, _ queue.Job, end func(StartResult)) { end(Made) },
			"seen by its event":   func(d *fixture, j queue.Job, end func(StartResult)) { d.jobChanged(d.jobOf(j)); end(Uncertain) },
			"seen without answer": func(d *fixture, j queue.Job, end func(StartResult)) { end(Uncertain); d.jobChanged(d.jobOf(j)) },
		} {
			t.Run(name+", "+answer, func(t *testing.T) {
				t.Parallel()
				d := newSyncedFixture(t)
				d.limitQueue(v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(1)), StartsPerMinute: new(int32(1))})
				blocker := d.run("globex/1")
				d.jobChanged(d.jobOf(blocker))
				first, second := d.run("acme/1"), d.run("acme/2")
				d.waits(first)
				d.clock.Step(time.Minute + time.Second)
				d.jobChanged(ended(d.jobOf(blocker), batchv1.JobComplete)) // first is admitted.
				d.recordStarts()
				d.clock.Step(tc.untilBegun)
				end := d.begins(first)
				d.clock.Step(tc.untilMade)
				finish(d, first, end)
				d.jobChanged(ended(d.jobOf(first), batchv1.JobComplete))
				d.clock.Step(time.Minute - time.Millisecond)
				d.waits(second)
				d.clock.Step(time.Millisecond)
				d.starts(second)
			})
		}
	}
}

// TestDispatcherRestartKeepsTheRate: what was started in the last minute counts, also when it has ended.
func TestDispatcherRestartKeepsTheRate(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	d.limitQueue(v1alpha1.TenantQueueSpec{StartsPerMinute: new(int32(2))})
	d.caches(ended(d.jobOf(d.run("acme/1")), batchv1.JobComplete))
	d.caches(d.jobOf(d.run("globex/1")))
	d.syncs()
	d.waitsFor(d.run("acme/2"), "queue q starts at most 2 a minute (`spec.startsPerMinute`)")
}
