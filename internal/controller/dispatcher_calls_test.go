package controller

import (
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
)

// TestDispatcherCalledBack: those that were called and have not begun do not begin once a limit has changed.
func TestDispatcherCalledBack(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		set  func(*desk)
		left int
	}{
		"queue suspended":  {func(d *desk) { d.limitQueue(v1alpha1.TenantQueueSpec{Suspend: new(true)}) }, 0},
		"queue gone":       {func(d *desk) { d.queueDeleted("q") }, 0},
		"queue smaller":    {func(d *desk) { d.limitQueue(v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(2))}) }, 1},
		"queue slower":     {func(d *desk) { d.limitQueue(v1alpha1.TenantQueueSpec{StartsPerMinute: new(int32(3))}) }, 2},
		"share smaller":    {func(d *desk) { d.limitQueue(v1alpha1.TenantQueueSpec{MaxConcurrentPerTenant: new(int32(1))}) }, 0},
		"tenant smaller":   {func(d *desk) { d.limitTenant("acme", v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(3))}) }, 2},
		"tenant gone":      {func(d *desk) { d.tenantDeleted("acme") }, 0},
		"tenant suspended": {func(d *desk) { d.Close("acme") }, 0},
		"template smaller": {func(d *desk) { d.limitTemplate(new(int32(2))) }, 1},
		"fan-out paused":   {func(d *desk) { d.OpenFanOut(paused("f"), createdLedger("acme"), createdLedger("acme"), "") }, 0},
		"fan-out superseded": {func(d *desk) {
			d.OpenFanOut(aFanOut("f", nil), createdLedger("acme"), createdLedger("acme"), v1alpha1.ReasonSuperseded)
		}, 0},
		"fan-out closed":    {func(d *desk) { d.CloseFanOut("f") }, 0},
		"no longer leading": {func(d *desk) { d.leader = false }, 0},
		"nothing":           {func(*desk) {}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newOpenDesk(t)
			d.OpenFanOut(aFanOut("f", nil), createdLedger("acme"), createdLedger("acme"), "")
			d.starts(d.run("acme/0"))
			d.limitTenant("acme", v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(1))})
			for _, name := range many("acme", 4) {
				d.waits(ofFanOut(d.run(name), "f"))
			}
			d.called = nil
			d.limitTenant("acme", v1alpha1.TenantJobLimits{})
			d.calls(many("acme", 4)...)
			tc.set(d)
			began := 0
			for _, name := range many("acme", 4) {
				if d.Ask(ofFanOut(d.run(name), "f"), "").Begun != nil {
					began++
				}
			}
			if began != tc.left {
				t.Errorf("%d began, want %d", began, tc.left)
			}
			if held := d.Counts()["q"].Running; name != "no longer leading" && held != began+1 {
				t.Errorf("%d hold slots, and %d have begun", held, began+1)
			}
		})
	}
}

// TestDispatcherCallsAtOnce: few are on their way at any time, and none is waited for too long.
func TestDispatcherCallsAtOnce(t *testing.T) {
	t.Parallel()
	d := newOpenDesk(t)
	d.limitQueue(v1alpha1.TenantQueueSpec{Suspend: new(true)})
	all := many("acme", 3*callsAtOnce)
	for _, name := range all {
		d.waits(d.run(name))
	}
	d.limitQueue(v1alpha1.TenantQueueSpec{})
	expect := func(what string, want int) {
		t.Helper()
		if len(d.called) != want {
			t.Errorf("%s: %d were called, want %d", what, len(d.called), want)
		}
	}
	expect("at first", callsAtOnce)
	if left := d.turn(); left != callLasts {
		t.Errorf("it looks again after %s", left)
	}
	first := d.called[0]
	d.starts(d.run(first))
	expect("after one has begun", callsAtOnce+1)
	d.clock.Step(callLasts)
	d.turn()
	expect("after a while", 2*callsAtOnce+1)
	d.jobChanged(d.jobOf(d.run(d.called[1]))) // by somebody else
	if !d.Holding(d.run(d.called[1]).UID) {
		t.Error("a Job that lives holds no slot")
	}
}

// TestDispatcherRests: it does not look again and again while there is nothing to do.
func TestDispatcherRests(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]func(*desk){
		"nothing waits":   func(*desk) {},
		"not leading":     func(d *desk) { d.leader = false; d.waits(d.run("acme/1")) },
		"many are called": func(d *desk) { d.waitMany(2 * callsAtOnce) },
		"starts per minute": func(d *desk) {
			d.limitQueue(v1alpha1.TenantQueueSpec{StartsPerMinute: new(int32(1))})
			d.starts(d.run("acme/1"))
			d.waits(d.run("acme/2"))
		},
		"not all are heard": func(d *desk) {
			d.unheard["x"] = struct{}{}
			d.unheardUntil = d.clock.Now().Add(time.Second)
			d.waits(d.run("acme/1"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newOpenDesk(t)
			given(d)
			turns := 0
			for again := true; again && turns < 100; turns++ {
				select {
				case <-d.wake:
					d.clock.Step(time.Microsecond)
					again = d.turn() >= 0
				default:
					again = false
				}
			}
			if turns > 3 {
				t.Errorf("it looked %d times while nothing happened", turns)
			}
			if left := d.turn(); left <= 0 {
				t.Errorf("it looks again after %s", left)
			}
		})
	}
}

// waitMany has a number of runs called that do not begin.
func (d *desk) waitMany(n int) {
	d.limitQueue(v1alpha1.TenantQueueSpec{Suspend: new(true)})
	for _, name := range many("acme", n) {
		d.waits(d.run(name))
	}
	d.limitQueue(v1alpha1.TenantQueueSpec{})
}

func TestDispatcherExpire(t *testing.T) {
	t.Parallel()
	d := newOpenDesk(t)
	d.limitQueue(v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(1))})
	d.starts(d.run("acme/1"))
	waits := d.run("acme/2")
	waits.MaxWait, waits.Waited = 10*time.Second, 4*time.Second
	d.waits(waits)
	d.called = nil
	if left := d.turn(); left != 6*time.Second {
		t.Errorf("it looks again after %s", left)
	}
	d.clock.Step(6 * time.Second)
	d.turn()
	d.calls("acme/2")
	for range 2 { // until it is written
		d.ends(waits, v1alpha1.ReasonExpired, "did not start within 10 seconds: queue q is full")
	}
	d.Over(waits.UID, nil)
	d.Forget(waits.UID, true)
	if len(d.verdicts) != 0 {
		t.Errorf("verdicts: %v", d.verdicts)
	}
}

func TestDispatcherOverlap(t *testing.T) {
	t.Parallel()
	t.Run("Allow", func(t *testing.T) {
		t.Parallel()
		d := newOpenDesk(t)
		d.starts(ofSchedule(d.run("acme/1"), v1alpha1.ConcurrencyAllow))
		d.starts(ofSchedule(d.run("acme/2"), v1alpha1.ConcurrencyAllow))
	})
	t.Run("Forbid", func(t *testing.T) {
		t.Parallel()
		d := newOpenDesk(t)
		first := d.starts(ofSchedule(d.run("acme/1"), v1alpha1.ConcurrencyForbid))
		second := ofSchedule(d.run("acme/2"), v1alpha1.ConcurrencyForbid)
		d.ends(second, v1alpha1.ReasonOverlapped, "an earlier run of schedule nightly still runs for tenant acme")
		d.starts(ofSchedule(d.run("globex/2"), v1alpha1.ConcurrencyForbid))
		// What was said stays, whatever happens until it is written.
		d.jobChanged(ended(first, batchv1.JobComplete))
		d.ends(second, v1alpha1.ReasonOverlapped, "")
		d.running(1)
		d.Over(second.UID, nil)
		d.Forget(second.UID, true)
		d.starts(ofSchedule(d.run("acme/3"), v1alpha1.ConcurrencyForbid))
	})
	t.Run("Replace", func(t *testing.T) {
		t.Parallel()
		d := newOpenDesk(t)
		first, second := ofSchedule(d.run("acme/1"), v1alpha1.ConcurrencyReplace), ofSchedule(d.run("acme/2"), v1alpha1.ConcurrencyReplace)
		made := d.starts(first)
		d.called = nil
		d.waitsFor(second, "the earlier run of schedule nightly is being stopped")
		d.calls("acme/1")
		if v := d.Replaced(first.UID); v == nil || v.Reason != v1alpha1.ReasonReplaced || v.Message != "TenantJob 2, a later run of schedule nightly, takes its place" {
			t.Fatalf("the earlier run is not to be stopped: %v", v)
		}
		if v := d.Replaced(second.UID); v != nil {
			t.Errorf("the later run is to be stopped: %v", v)
		}
		d.Over(first.UID, nil)
		if d.Replaced(first.UID) == nil {
			t.Error("the verdict is gone before it is written")
		}
		d.Forget(first.UID, true)
		d.waits(second)
		d.put(d.there, podOf(made))
		d.jobDeleted(made)
		d.lookForLost(t.Context())
		d.waits(second)
		_ = d.there.Delete(t.Context(), podOf(made))
		d.called = nil
		d.lookForLost(t.Context())
		d.calls("acme/2")
		d.starts(second)
	})
}

// TestDispatcherReview: one that waits is looked at when something else is to be said of it than was.
func TestDispatcherReview(t *testing.T) {
	t.Parallel()
	d := newOpenDesk(t)
	d.limitQueue(v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(1))})
	d.starts(d.run("globex/1"))
	d.waits(d.run("acme/1"))
	d.called = nil
	d.review()
	d.calls()
	d.clock.Step(job.SettleAfter)
	d.review()
	d.calls("acme/1")
	said := d.waits(d.run("acme/1")).Hold.Message()
	d.review()
	d.calls()
	d.limitQueue(v1alpha1.TenantQueueSpec{Suspend: new(true)})
	d.review()
	d.calls("acme/1")
	if a := d.Ask(d.run("acme/1"), said); a.Hold.Message() != "queue q is suspended (`spec.suspend`)" {
		t.Errorf("it still says %q", a.Hold.Message())
	}
}

// TestDispatcherRush: words about those that have started wait while many start, through the pauses between bursts. They
// are asked for as soon as that is over, and after a while if it goes on.
func TestDispatcherRush(t *testing.T) {
	t.Parallel()
	d := newOpenDesk(t)
	bursts := 0
	burst := func() {
		bursts++
		for i := range startsOfRush {
			d.starts(d.run(fmt.Sprintf("acme/%d-%d", bursts, i)))
			d.clock.Step(time.Millisecond)
		}
		d.called = nil
	}
	hush := func(want bool, names ...string) {
		t.Helper()
		for _, name := range names {
			if d.Hush(types.UID(name)) != want {
				t.Errorf("%s is hushed: %v, want %v", name, !want, want)
			}
		}
	}
	d.starts(d.run("globex/1"))
	hush(false, "globex/1")
	burst()
	hush(true, "acme/1-0", "acme/1-1", "acme/1-2", "acme/1-3")
	hush(false, "acme/of another process")
	d.clock.Step(rushLasts - time.Second)
	burst()
	d.clock.Step(rushLasts - time.Second)
	hush(true, "acme/2-0")
	d.review()
	d.calls()

	d.Forget("acme/1-0", false)
	d.tenantJobDeleted(tenantJobOf(d.run("acme/1-1")))
	d.called = nil
	d.clock.Step(time.Second)
	d.review()
	d.calls("acme/1-2", "acme/1-3", "acme/2-0")
	hush(false, "acme/1-2", "acme/2-0")
	d.review()
	d.calls()

	// While it goes on for long, a few are looked at each time, the first to start first: one for every ten that start.
	const most = startsOfRush / 2 / startsPerWord
	burst()
	began := d.clock.Now()
	old := []string{}
	for i := range most {
		old = append(old, fmt.Sprintf("acme/%d-%d", bursts, i))
	}
	hush(true, old...)
	d.clock.Step(time.Second)
	burst()
	for i := range startsOfRush {
		old = append(old, fmt.Sprintf("acme/%d-%d", bursts, i))
	}
	hush(true, old[most:]...)
	for d.clock.Since(began) < hushFor {
		d.review()
		d.calls()
		d.clock.Step(rushLasts / 2)
		burst()
	}
	d.clock.Step(rushLasts / 2)
	burst()
	for len(old) > 0 {
		due := old[:most]
		d.review()
		d.calls(due...)
		hush(false, due...)
		old = old[most:]
	}
	d.review()
	d.calls()
}
