package dispatch

import (
	"runtime"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/queue"
)

func TestDispatcherStarts(t *testing.T) {
	t.Parallel()
	d := newSyncedFixture(t)
	one := d.run("acme/1")
	d.starts(one)
	d.expectRequests() // it has its answer
	d.running(1)
	if !d.standing(one).Started || !d.Holding(one.UID) {
		t.Error("it does not know what it has started")
	}
	if a := d.waits(one); a.Again == 0 {
		t.Error("one that was started may begin again")
	}
	d.Report(Report{UID: one.UID, Settled: true})
	if d.standing(one).Started || !d.Holding(one.UID) {
		t.Error("what is written down is remembered, or its slot is not")
	}
}

func TestDispatcherLimits(t *testing.T) {
	t.Parallel()
	one := new(int32(1))
	for name, tc := range map[string]struct {
		set, lift func(*fixture)
		message   string
		// another says that another tenant is held, too.
		another bool
	}{
		"tenant": {
			set:     func(d *fixture) { d.limitTenant("acme", v1alpha1.TenantJobLimits{MaxConcurrent: one}) },
			lift:    func(d *fixture) { d.limitTenant("acme", v1alpha1.TenantJobLimits{}) },
			message: "tenant acme runs at most 1 at once (`spec.jobs.maxConcurrent`)",
		},
		"template": {
			set:     func(d *fixture) { d.limitTemplate(one) },
			lift:    func(d *fixture) { d.templateDeleted("report") },
			message: "template report runs at most 1 at once for a tenant (`spec.maxConcurrentPerTenant`)",
		},
		"queue": {
			set:     func(d *fixture) { d.limitQueue(v1alpha1.TenantQueueSpec{MaxConcurrent: one}) },
			lift:    func(d *fixture) { d.limitQueue(v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(3))}) },
			message: "queue q is full (`spec.maxConcurrent`: 1)", another: true,
		},
		"queue, per tenant": {
			set:     func(d *fixture) { d.limitQueue(v1alpha1.TenantQueueSpec{MaxConcurrentPerTenant: one}) },
			lift:    func(d *fixture) { d.limitQueue(v1alpha1.TenantQueueSpec{}) },
			message: "queue q runs at most 1 at once for a tenant (`spec.maxConcurrentPerTenant`)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for way, free := range map[string]func(*fixture, *batchv1.Job){
				"lifted":   func(d *fixture, _ *batchv1.Job) { tc.lift(d) },
				"complete": func(d *fixture, j *batchv1.Job) { d.jobChanged(ended(j, batchv1.JobComplete)) },
				"failed":   func(d *fixture, j *batchv1.Job) { d.jobChanged(ended(j, batchv1.JobFailed)) },
			} {
				t.Run(way, func(t *testing.T) {
					t.Parallel()
					d := newSyncedFixture(t)
					tc.set(d)
					first, second, other := d.run("acme/1"), d.run("acme/2"), d.run("globex/1")
					made := d.starts(first)
					d.waitsFor(second, tc.message)
					if !tc.another {
						d.starts(other)
					}
					d.requested = nil
					free(d, made)
					d.expectRequests("acme/2")
					d.starts(second)
				})
			}
		})
	}
}

// TestDispatcherSlot: a slot goes to the next when nothing of the run is left, and not before.
func TestDispatcherSlot(t *testing.T) {
	t.Parallel()
	terminating := func(j *batchv1.Job, n int32) *batchv1.Job {
		j = j.DeepCopy()
		j.Status.Terminating = &n
		return j
	}
	for name, tc := range map[string]struct {
		// keeps are steps after which the slot is still taken, frees the one with which it is given away.
		keeps []func(*fixture, queue.Job, *batchv1.Job)
		frees func(*fixture, queue.Job, *batchv1.Job)
	}{
		"its pods are being deleted": {
			keeps: []func(*fixture, queue.Job, *batchv1.Job){
				func(d *fixture, _ queue.Job, j *batchv1.Job) {
					d.jobChanged(ended(terminating(j, 1), batchv1.JobFailed))
				},
				func(d *fixture, j queue.Job, _ *batchv1.Job) {
					d.Report(Report{UID: j.UID, Over: true})
					d.Report(Report{UID: j.UID, Settled: true, OverInCache: true})
				},
			},
			frees: func(d *fixture, _ queue.Job, j *batchv1.Job) {
				d.jobChanged(ended(terminating(j, 0), batchv1.JobFailed))
			},
		},
		"its Job is deleted, its pod lives": {
			keeps: []func(*fixture, queue.Job, *batchv1.Job){
				func(d *fixture, _ queue.Job, j *batchv1.Job) { d.put(d.there, podOf(j)); d.jobDeleted(j) },
			},
			frees: func(d *fixture, _ queue.Job, j *batchv1.Job) { _ = d.there.Delete(d.t.Context(), podOf(j)) },
		},
		"its TenantJob is deleted": {
			keeps: []func(*fixture, queue.Job, *batchv1.Job){
				func(d *fixture, j queue.Job, made *batchv1.Job) {
					d.put(d.there, made, podOf(made))
					d.tenantJobDeleted(tenantJobOf(j))
				},
				func(d *fixture, _ queue.Job, made *batchv1.Job) {
					_ = d.there.Delete(d.t.Context(), made)
					d.jobDeleted(made)
				},
			},
			frees: func(d *fixture, _ queue.Job, j *batchv1.Job) { _ = d.there.Delete(d.t.Context(), podOf(j)) },
		},
		"its TenantJob is over": {
			keeps: []func(*fixture, queue.Job, *batchv1.Job){
				func(d *fixture, j queue.Job, _ *batchv1.Job) {
					d.Report(Report{UID: j.UID, Over: true})
					d.Report(Report{UID: j.UID, Settled: true, OverInCache: true})
				},
			},
			frees: func(d *fixture, _ queue.Job, j *batchv1.Job) { d.jobChanged(ended(j, batchv1.JobComplete)) },
		},
		"its status is written": {
			keeps: []func(*fixture, queue.Job, *batchv1.Job){
				func(d *fixture, j queue.Job, _ *batchv1.Job) {
					d.Report(Report{UID: j.UID, Running: true})
					d.Report(Report{UID: j.UID, Settled: true})
				},
				func(d *fixture, j queue.Job, _ *batchv1.Job) { d.Wait(j) },
			},
			frees: func(d *fixture, _ queue.Job, j *batchv1.Job) { d.jobChanged(ended(j, batchv1.JobComplete)) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newSyncedFixture(t)
			d.limitTenant("acme", v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(1))})
			first, second := d.run("acme/1"), d.run("acme/2")
			made := d.starts(first)
			for _, keep := range tc.keeps {
				keep(d, first, made)
				d.releaseGone(t.Context())
				d.waits(second)
			}
			d.requested = nil
			tc.frees(d, first, made)
			d.releaseGone(t.Context())
			d.expectRequests("acme/2")
			d.starts(second)
			d.running(1)
		})
	}
}

// TestDispatcherOutcomes: what becomes of the slot when a start ends.
func TestDispatcherOutcomes(t *testing.T) {
	t.Parallel()
	setUp := func(t *testing.T) (d *fixture, first, second queue.Job) {
		d = newSyncedFixture(t)
		d.limitTenant("acme", v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(1))})
		return d, d.run("acme/1"), d.run("acme/2")
	}
	t.Run("in flight", func(t *testing.T) {
		t.Parallel()
		d, first, second := setUp(t)
		d.begins(first)
		d.waits(first)
		d.waits(second)
	})
	t.Run("made and never seen", func(t *testing.T) {
		t.Parallel()
		d, first, second := setUp(t)
		d.begins(first)(Made)
		d.waits(second)
		d.releaseGone(t.Context())
		d.waits(second)
		// It is over, and nobody ever saw its Job: the API server is asked.
		d.put(d.there, d.jobOf(first))
		d.Report(Report{UID: first.UID, Over: true})
		d.releaseGone(t.Context())
		d.waits(second)
		_ = d.there.Delete(t.Context(), d.jobOf(first))
		d.releaseGone(t.Context())
		d.starts(second)
	})
	t.Run("seen before it ended", func(t *testing.T) {
		t.Parallel()
		d, first, second := setUp(t)
		end := d.begins(first)
		d.jobChanged(d.jobOf(first))
		d.jobChanged(ended(d.jobOf(first), batchv1.JobComplete))
		d.waits(second)
		end(Made)
		d.starts(second)
	})
	t.Run("uncertain, and repeated", func(t *testing.T) {
		t.Parallel()
		d, first, second := setUp(t)
		d.begins(first)(Uncertain)
		d.releaseGone(t.Context())
		d.waits(first)
		d.clock.Step(firstBackoff)
		d.waits(second)
		d.starts(first)
		d.waits(second)
	})
	t.Run("uncertain, and repeated in vain", func(t *testing.T) {
		t.Parallel()
		d, first, second := setUp(t)
		d.begins(first)(Uncertain)
		d.clock.Step(WriteTimeout - 1)
		d.begins(first)(Uncertain)
		d.clock.Step(WriteTimeout - 1) // The second may still be made.
		d.settleUncertain(t.Context())
		d.waits(first)
		d.waits(second)
		d.clock.Step(firstBackoff)
		d.waits(first)
		d.settleUncertain(t.Context())
		d.waits(second)
		d.starts(first)
	})
	t.Run("uncertain, and never made", func(t *testing.T) {
		t.Parallel()
		d, first, second := setUp(t)
		d.begins(first)(Uncertain)
		d.clock.Step(WriteTimeout - 1)
		d.settleUncertain(t.Context())
		d.running(1)
		d.clock.Step(1)
		d.waits(first)
		d.settleUncertain(t.Context())
		d.waits(second)
		d.starts(first)
	})
	t.Run("uncertain, and made after all", func(t *testing.T) {
		t.Parallel()
		d, first, second := setUp(t)
		d.begins(first)(Uncertain)
		d.put(d.there, d.jobOf(first))
		d.clock.Step(WriteTimeout)
		d.settleUncertain(t.Context())
		d.waits(second)
		d.jobChanged(d.jobOf(first))
		d.jobChanged(ended(d.jobOf(first), batchv1.JobComplete))
		d.starts(second)
	})
	t.Run("uncertain, and its tenant is locked", func(t *testing.T) {
		t.Parallel()
		d, first, _ := setUp(t)
		d.begins(first)(Uncertain)
		d.clock.Step(firstBackoff)
		d.LockTenant("acme")
		d.waits(first)
		d.UnlockTenant("acme")
		d.starts(first)
	})
	t.Run("uncertain, and seen", func(t *testing.T) {
		t.Parallel()
		d, first, second := setUp(t)
		d.begins(first)(Uncertain)
		d.jobChanged(d.jobOf(first))
		d.waits(first)
		d.waits(second)
	})
	t.Run("uncertain, and over", func(t *testing.T) {
		t.Parallel()
		d, first, second := setUp(t)
		d.begins(first)(Uncertain)
		d.Report(Report{UID: first.UID, Over: true})
		d.releaseGone(t.Context())
		d.waits(second)
		d.clock.Step(WriteTimeout)
		d.releaseGone(t.Context())
		d.starts(second)
	})
	t.Run("not made, and over", func(t *testing.T) {
		t.Parallel()
		d, first, second := setUp(t)
		end := d.begins(first)
		d.waits(second)
		end(NotMade)
		d.Report(Report{UID: first.UID, Over: true})
		d.starts(second)
	})
	t.Run("not made, and waits", func(t *testing.T) {
		t.Parallel()
		d, first, second := setUp(t)
		d.begins(first)(NotMade)
		d.starts(second)
		d.waits(first)
	})
	for _, o := range []StartResult{NotMade, Refused, Made, Uncertain} {
		t.Run("deleted meanwhile", func(t *testing.T) {
			t.Parallel()
			d, first, second := setUp(t)
			first.FanOut = "f"
			d.SetFanOut(aFanOut("f", nil), createdLedger("acme"), createdLedger("acme"), "")
			end := d.begins(first)
			d.waits(second)
			d.tenantJobDeleted(tenantJobOf(first))
			end(o)
			if d.standing(first).Started {
				t.Error("it remembers one that is gone")
			}
			d.clock.Step(max(firstBackoff, WriteTimeout))
			d.releaseGone(t.Context())
			d.starts(second)
			if len(d.waiting) != 0 {
				t.Errorf("children that wait: %v", d.waiting)
			}
		})
	}
}

// TestDispatcherWithdraws: one that is gone or over leaves its admission to the next.
func TestDispatcherWithdraws(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*fixture, queue.Job){
		"deleted":         func(d *fixture, j queue.Job) { d.tenantJobDeleted(tenantJobOf(j)) },
		"over":            func(d *fixture, j queue.Job) { d.Report(Report{UID: j.UID, Over: true}) },
		"held":            func(d *fixture, j queue.Job) { j.Held = "there is no TenantJobTemplate report"; d.Wait(j) },
		"has no template": func(d *fixture, j queue.Job) { j.Queue, j.Held = "", "it is being looked at"; d.Wait(j) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newSyncedFixture(t)
			d.limitTenant("acme", v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(1))})
			running := d.starts(d.run("acme/0"))
			d.waits(d.run("acme/1"))
			d.clock.Step(time.Second)
			d.waits(d.run("acme/2"))
			d.jobChanged(ended(running, batchv1.JobComplete))
			d.expectRequests("acme/1") // and it has not begun
			leave(d, d.run("acme/1"))
			d.expectRequests("acme/2")
			d.starts(d.run("acme/2"))
			d.running(1)
		})
	}
}

// TestDispatcherLockTenant: whoever lists a tenant's Jobs after LockTenant finds all that there will be until UnlockTenant.
func TestDispatcherLockTenant(t *testing.T) {
	t.Parallel()
	d := newSyncedFixture(t)
	ends := []func(StartResult){d.begins(d.run("acme/1")), d.begins(d.run("acme/2"))}
	locked := make(chan struct{})
	go func() {
		d.LockTenant("acme")
		close(locked)
	}()
	for shut := false; !shut; runtime.Gosched() {
		a := d.Ask(d.run("acme/late"), "")
		if shut = a.Finish == nil; !shut {
			a.Finish(NotMade, "")
		}
	}
	for left := len(ends); left > 0; left-- {
		for range 1000 {
			select {
			case <-locked:
				t.Fatalf("LockTenant returned before %d of %d starts", left, len(ends))
			default:
				runtime.Gosched()
			}
		}
		ends[left-1](Made)
	}
	<-locked
	d.LockTenant("acme") // nothing is in flight
	d.starts(d.run("globex/1"))
	d.waitsFor(d.run("acme/late"), "tenant acme is suspended")
	d.limitTenant("acme", v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(5))})
	d.waits(d.run("acme/late"))
	d.requested = nil
	d.UnlockTenant("acme")
	d.expectRequests("acme/late")
	d.starts(d.run("acme/late"))

	// A tenant of which nobody knew then.
	d.LockTenant("new")
	d.limitTenant("new", v1alpha1.TenantJobLimits{})
	d.waitsFor(d.run("new/1"), "tenant new is suspended")
	d.UnlockTenant("new")
	d.starts(d.run("new/1"))
}
