package dispatch

import (
	"runtime"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

func TestDispatcherRefused(t *testing.T) {
	t.Parallel()
	d := newSyncedFixture(t)
	one, two := d.run("acme/1"), d.run("acme/2")
	ends := []func(StartResult){d.begins(one), d.begins(two)}
	ends[0](Refused)
	ends[1](Refused) // They began together, and count once.
	d.clock.Step(firstBackoff)
	d.admitDue()
	wait := 2 * firstBackoff
	for range 10 {
		end := d.begins(one)
		d.waits(two) // until it is known what comes of the first
		end(Refused)
		if a := d.waits(one); a.Hold.Kind != "" && a.Hold.Message() != "the API server refuses the Job: quota" {
			t.Errorf("it waits for %q", a.Hold.Message())
		}
		d.jobChanged(ended(d.starts(d.run("globex/1")), batchv1.JobComplete))
		d.clock.Step(wait - 1)
		d.waits(one)
		d.requested = nil
		d.clock.Step(1)
		d.admitDue()
		d.expectRequests("acme/1")
		wait = min(2*wait, lastBackoff)
	}
	if wait != lastBackoff {
		t.Errorf("it waits for %s at most", wait)
	}
	// A success is a new beginning.
	d.jobChanged(ended(d.starts(one), batchv1.JobComplete))
	d.begins(two)(Refused)
	d.waits(two)
	d.clock.Step(firstBackoff)
	d.starts(two)
}

// TestDispatcherBrokenTenant: starts of one tenant that get no answer keep no slot for good, hold none of another tenant's, and are
// tried one at a time.
func TestDispatcherBrokenTenant(t *testing.T) {
	t.Parallel()
	d := newSyncedFixture(t)
	d.limitQueue(v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(4))})
	var ends []func(StartResult)
	for _, name := range many("acme", 4) {
		ends = append(ends, d.begins(d.run(name)))
	}
	other := d.run("globex/1")
	d.waitsFor(other, "queue q is full (`spec.maxConcurrent`: 4)")
	for _, end := range ends {
		end(Uncertain)
	}
	for range 5 {
		d.clock.Step(WriteTimeout)
		d.settleUncertain(t.Context())
		d.jobChanged(ended(d.starts(other), batchv1.JobComplete)) // and so it does the next time
		other.UID += "'"
		trials := 0
		for _, name := range many("acme", 4) {
			if a := d.Ask(d.run(name), ""); a.Finish != nil {
				trials++
				ends = append(ends[:0], func(r StartResult) { a.Finish(r, "no answer") })
			}
		}
		if trials != 1 {
			t.Fatalf("%d are tried at once", trials)
		}
		ends[0](Uncertain)
		d.clock.Step(lastBackoff - WriteTimeout)
	}
}

// TestDispatcherServerInTrouble: when the starts of all tenants get no answer, none of them waits for long after the first answer.
func TestDispatcherServerInTrouble(t *testing.T) {
	t.Parallel()
	d := newSyncedFixture(t)
	tenants := []string{"acme", "globex", "hooli", "initech"}
	for _, name := range tenants {
		d.limitTenant(name, v1alpha1.TenantJobLimits{})
	}
	for range 8 {
		for _, name := range tenants {
			d.begins(d.run(name + "/1"))(Uncertain)
		}
		if !d.serverInTrouble() {
			t.Error("it takes this for the tenant's fault")
		}
		d.clock.Step(WriteTimeout)
		d.settleUncertain(t.Context())
		d.clock.Step(firstBackoff)
		d.admitDue()
	}
	for _, name := range tenants {
		d.starts(d.run(name + "/1"))
	}
	// One that goes on to fail, while others don't, is in trouble itself.
	for range 3 {
		d.begins(d.run("acme/2"))(Uncertain)
		d.clock.Step(WriteTimeout)
		d.settleUncertain(t.Context())
	}
	d.waitsFor(d.run("acme/2"), "the API server refuses the Job: quota")
	if d.waits(d.run("acme/2")).ServerInTrouble {
		t.Error("it does not take this for the tenant's fault")
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

// TestDispatcherRetries: a tenant whose start was refused tries again at once when there may be room.
func TestDispatcherRetries(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		room func(d *fixture, other *batchv1.Job)
		want bool
	}{
		"another of its Jobs ends":        {func(d *fixture, j *batchv1.Job) { d.jobChanged(ended(j, batchv1.JobComplete)) }, true},
		"a Job that has ended is deleted": {func(d *fixture, j *batchv1.Job) { d.jobDeleted(ended(j, batchv1.JobFailed)) }, true},
		"its spec is in force": {func(d *fixture, _ *batchv1.Job) {
			d.tenantChanged(&v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "acme"}, Status: v1alpha1.TenantStatus{ObservedGeneration: 2}})
		}, true},
		"its status changes": {func(d *fixture, _ *batchv1.Job) { d.limitTenant("acme", v1alpha1.TenantJobLimits{}) }, false},
		"another tenant's Job ends": {func(d *fixture, _ *batchv1.Job) {
			d.jobChanged(ended(d.starts(d.run("globex/1")), batchv1.JobComplete))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newSyncedFixture(t)
			other, refused := d.starts(d.run("acme/other")), d.run("acme/1")
			for range 5 {
				d.begins(refused)(Refused)
				d.clock.Step(lastBackoff)
				d.admitDue()
			}
			d.begins(refused)(Refused)
			d.waits(refused)
			d.requested = nil
			tc.room(d, other)
			if got := slices.Contains(d.requested, "acme/1"); got != tc.want {
				t.Errorf("tried again: %v, want %v", got, tc.want)
			}
			if !tc.want {
				return
			}
			// And if there is no room yet, soon again.
			d.begins(refused)(Refused)
			d.clock.Step(firstBackoff)
			d.starts(refused)
		})
	}
}
