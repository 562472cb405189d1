package dispatch

import (
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
)

// TestDispatcherRevokesAdmissions: those that are admitted and have not begun do not begin once a limit has changed.
func TestDispatcherRevokesAdmissions(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		set  func(*fixture)
		left int
	}{
		"queue suspended":  {func(d *fixture) { d.limitQueue(v1alpha1.TenantQueueSpec{Suspend: new(true)}) }, 0},
		"queue gone":       {func(d *fixture) { d.queueDeleted("q") }, 0},
		"queue smaller":    {func(d *fixture) { d.limitQueue(v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(2))}) }, 1},
		"queue slower":     {func(d *fixture) { d.limitQueue(v1alpha1.TenantQueueSpec{StartsPerMinute: new(int32(3))}) }, 2},
		"share smaller":    {func(d *fixture) { d.limitQueue(v1alpha1.TenantQueueSpec{MaxConcurrentPerTenant: new(int32(1))}) }, 0},
		"tenant smaller":   {func(d *fixture) { d.limitTenant("acme", v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(3))}) }, 2},
		"tenant gone":      {func(d *fixture) { d.tenantDeleted("acme") }, 0},
		"tenant suspended": {func(d *fixture) { d.LockTenant("acme") }, 0},
		"template smaller": {func(d *fixture) { d.limitTemplate(new(int32(2))) }, 1},
		"fan-out paused":   {func(d *fixture) { d.SetFanOut(paused("f"), createdLedger("acme"), createdLedger("acme"), "") }, 0},
		"fan-out superseded": {func(d *fixture) {
			d.SetFanOut(aFanOut("f", nil), createdLedger("acme"), createdLedger("acme"), v1alpha1.ReasonSuperseded)
		}, 0},
		"fan-out closed":         {func(d *fixture) { d.RemoveFanOut("f") }, 0},
		"no longer leading":      {func(d *fixture) { d.leader = false }, 0},
		"all held":               {func(d *fixture) { d.HoldAll("a policy is not in force") }, 0},
		"nothing":                {func(*fixture) {}, 4},
		"queue's status written": {func(d *fixture) { d.limitQueue(v1alpha1.TenantQueueSpec{}) }, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newSyncedFixture(t)
			d.SetFanOut(aFanOut("f", nil), createdLedger("acme"), createdLedger("acme"), "")
			d.starts(d.run("acme/0"))
			d.limitTenant("acme", v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(1))})
			for _, name := range many("acme", 4) {
				d.waits(ofFanOut(d.run(name), "f"))
			}
			d.requested = nil
			d.limitTenant("acme", v1alpha1.TenantJobLimits{})
			d.expectRequests(many("acme", 4)...)
			tc.set(d)
			began := 0
			for _, name := range many("acme", 4) {
				if d.Ask(ofFanOut(d.run(name), "f"), "").Finish != nil {
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

// TestDispatcherAdmitsFew: few are admitted and not begun at any time, and none is waited for too long.
func TestDispatcherAdmitsFew(t *testing.T) {
	t.Parallel()
	d := newSyncedFixture(t)
	d.limitQueue(v1alpha1.TenantQueueSpec{Suspend: new(true)})
	all := many("acme", 3*maxAdmitted)
	for _, name := range all {
		d.waits(d.run(name))
	}
	d.limitQueue(v1alpha1.TenantQueueSpec{})
	expect := func(what string, want int) {
		t.Helper()
		if len(d.requested) != want {
			t.Errorf("%s: %d were admitted, want %d", what, len(d.requested), want)
		}
	}
	expect("at first", maxAdmitted)
	if left := d.admitDue(); left != admissionLasts {
		t.Errorf("it looks again after %s", left)
	}
	first := d.requested[0]
	d.starts(d.run(first))
	expect("after one has begun", maxAdmitted+1)
	d.clock.Step(admissionLasts)
	d.admitDue()
	expect("after a while", 2*maxAdmitted+1)
	d.jobChanged(d.jobOf(d.run(d.requested[1]))) // by somebody else
	if !d.Holding(d.run(d.requested[1]).UID) {
		t.Error("a Job that lives holds no slot")
	}
}

// TestDispatcherRests: it does not look again and again while there is nothing to do.
func TestDispatcherRests(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]func(*fixture){
		"nothing waits":     func(*fixture) {},
		"not leading":       func(d *fixture) { d.leader = false; d.waits(d.run("acme/1")) },
		"many are admitted": func(d *fixture) { d.waitMany(2 * maxAdmitted) },
		"starts per minute": func(d *fixture) {
			d.limitQueue(v1alpha1.TenantQueueSpec{StartsPerMinute: new(int32(1))})
			d.starts(d.run("acme/1"))
			d.waits(d.run("acme/2"))
		},
		"not all have reported": func(d *fixture) {
			d.unreported["x"] = struct{}{}
			d.reportsUntil = d.clock.Now().Add(time.Second)
			d.waits(d.run("acme/1"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newSyncedFixture(t)
			given(d)
			passes := 0
			for again := true; again && passes < 100; passes++ {
				select {
				case <-d.signal:
					d.clock.Step(time.Microsecond)
					again = d.admitDue() >= 0
				default:
					again = false
				}
			}
			if passes > 3 {
				t.Errorf("it looked %d times while nothing happened", passes)
			}
			if left := d.admitDue(); left <= 0 {
				t.Errorf("it looks again after %s", left)
			}
		})
	}
}

// waitMany has a number of runs admitted that do not begin.
func (d *fixture) waitMany(n int) {
	d.limitQueue(v1alpha1.TenantQueueSpec{Suspend: new(true)})
	for _, name := range many("acme", n) {
		d.waits(d.run(name))
	}
	d.limitQueue(v1alpha1.TenantQueueSpec{})
}

func TestDispatcherExpire(t *testing.T) {
	t.Parallel()
	d := newSyncedFixture(t)
	d.limitQueue(v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(1))})
	d.starts(d.run("acme/1"))
	waits := d.run("acme/2")
	waits.MaxWait, waits.Waited = 10*time.Second, 4*time.Second
	d.waits(waits)
	d.requested = nil
	if left := d.admitDue(); left != 6*time.Second {
		t.Errorf("it looks again after %s", left)
	}
	d.clock.Step(6 * time.Second)
	d.admitDue()
	d.expectRequests("acme/2")
	for range 2 { // until it is written
		d.expectEnd(waits, v1alpha1.ReasonExpired, "did not start within 10 seconds: queue q is full")
	}
	d.Report(Report{UID: waits.UID, Over: true})
	d.Report(Report{UID: waits.UID, Settled: true, OverInCache: true})
	if len(d.ends) != 0 {
		t.Errorf("ends: %v", d.ends)
	}
}

func TestDispatcherOverlap(t *testing.T) {
	t.Parallel()
	t.Run("Allow", func(t *testing.T) {
		t.Parallel()
		d := newSyncedFixture(t)
		d.starts(ofSchedule(d.run("acme/1"), v1alpha1.ConcurrencyAllow))
		d.starts(ofSchedule(d.run("acme/2"), v1alpha1.ConcurrencyAllow))
	})
	t.Run("Forbid", func(t *testing.T) {
		t.Parallel()
		d := newSyncedFixture(t)
		first := d.starts(ofSchedule(d.run("acme/1"), v1alpha1.ConcurrencyForbid))
		second := ofSchedule(d.run("acme/2"), v1alpha1.ConcurrencyForbid)
		d.expectEnd(second, v1alpha1.ReasonOverlapped, "TenantJob 1, an earlier run of schedule nightly for tenant acme, still runs")
		d.starts(ofSchedule(d.run("globex/2"), v1alpha1.ConcurrencyForbid))
		// The end that was decided stays, whatever happens until it is written.
		d.jobChanged(ended(first, batchv1.JobComplete))
		d.expectEnd(second, v1alpha1.ReasonOverlapped, "")
		d.running(1)
		d.Report(Report{UID: second.UID, Over: true})
		d.Report(Report{UID: second.UID, Settled: true, OverInCache: true})
		d.starts(ofSchedule(d.run("acme/3"), v1alpha1.ConcurrencyForbid))
	})
	t.Run("Replace", func(t *testing.T) {
		t.Parallel()
		d := newSyncedFixture(t)
		first, second := ofSchedule(d.run("acme/1"), v1alpha1.ConcurrencyReplace), ofSchedule(d.run("acme/2"), v1alpha1.ConcurrencyReplace)
		made := d.starts(first)
		d.requested = nil
		d.waitsFor(second, "the earlier run of schedule nightly is being stopped")
		d.expectRequests("acme/1")
		if v := d.standing(first).Replaced; v == nil || v.Reason != v1alpha1.ReasonReplaced || v.Message != "TenantJob 2, a later run of schedule nightly, takes its place" {
			t.Fatalf("the earlier run is not to be stopped: %v", v)
		}
		if v := d.standing(second).Replaced; v != nil {
			t.Errorf("the later run is to be stopped: %v", v)
		}
		d.Report(Report{UID: first.UID, Over: true})
		if d.standing(first).Replaced == nil {
			t.Error("the end is forgotten before it is written")
		}
		d.Report(Report{UID: first.UID, Settled: true, OverInCache: true})
		d.waits(second)
		d.put(d.there, podOf(made))
		d.jobDeleted(made)
		d.releaseGone(t.Context())
		d.waits(second)
		_ = d.there.Delete(t.Context(), podOf(made))
		d.requested = nil
		d.releaseGone(t.Context())
		d.expectRequests("acme/2")
		d.starts(second)
	})
}

// TestDispatcherReview: one that waits is requested when its status message is out of date.
func TestDispatcherReview(t *testing.T) {
	t.Parallel()
	d := newSyncedFixture(t)
	d.limitQueue(v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(1))})
	d.starts(d.run("globex/1"))
	d.waits(d.run("acme/1"))
	d.requested = nil
	d.review()
	d.expectRequests()
	d.clock.Step(job.SettleAfter)
	d.review()
	d.expectRequests("acme/1")
	message := d.waits(d.run("acme/1")).Hold.Message()
	d.review()
	d.expectRequests()
	d.limitQueue(v1alpha1.TenantQueueSpec{Suspend: new(true)})
	d.review()
	d.expectRequests("acme/1")
	if a := d.Ask(d.run("acme/1"), message); a.Hold.Message() != "queue q is suspended (`spec.suspend`)" {
		t.Errorf("it still says %q", a.Hold.Message())
	}
}

// TestDispatcherRush: the status of those that have started is deferred while many start, through the pauses between
// bursts. It is requested as soon as that is over, and after a while if it goes on.
func TestDispatcherRush(t *testing.T) {
	t.Parallel()
	d := newSyncedFixture(t)
	bursts := 0
	burst := func() {
		bursts++
		for i := range RushStarts {
			d.starts(d.run(fmt.Sprintf("acme/%d-%d", bursts, i)))
			d.clock.Step(time.Millisecond)
		}
		d.requested = nil
	}
	deferred := func(want bool, names ...string) {
		t.Helper()
		for _, name := range names {
			j := d.run(name)
			s := d.standing(j)
			if got := s.Started && s.Deferred; got != want {
				t.Errorf("the status of %s is deferred: %v, want %v", name, got, want)
			} else if got {
				d.Report(Report{UID: j.UID, Running: true, Deferred: true})
			}
		}
	}
	d.starts(d.run("globex/1"))
	deferred(false, "globex/1")
	burst()
	deferred(true, "acme/1-0", "acme/1-1", "acme/1-2", "acme/1-3")
	deferred(false, "acme/of another process")
	d.clock.Step(RushLasts - time.Second)
	burst()
	d.clock.Step(RushLasts - time.Second)
	deferred(true, "acme/2-0")
	d.review()
	d.expectRequests()

	d.Report(Report{UID: "acme/1-0", Settled: true})
	d.tenantJobDeleted(tenantJobOf(d.run("acme/1-1")))
	d.requested = nil
	d.clock.Step(time.Second)
	d.review()
	d.expectRequests("acme/1-2", "acme/1-3", "acme/2-0")
	deferred(false, "acme/1-2", "acme/2-0")
	d.review()
	d.expectRequests()

	// While it goes on for long, a few are looked at each time, the first to start first: one for every ten that start.
	const most = RushStarts / 2 / startsPerStatus
	burst()
	began := d.clock.Now()
	old := []string{}
	for i := range most {
		old = append(old, fmt.Sprintf("acme/%d-%d", bursts, i))
	}
	deferred(true, old...)
	d.clock.Step(time.Second)
	burst()
	for i := range RushStarts {
		old = append(old, fmt.Sprintf("acme/%d-%d", bursts, i))
	}
	deferred(true, old[most:]...)
	for d.clock.Since(began) < deferFor {
		d.review()
		d.expectRequests()
		d.clock.Step(RushLasts / 2)
		burst()
	}
	d.clock.Step(RushLasts / 2)
	burst()
	for len(old) > 0 {
		due := old[:most]
		d.review()
		d.expectRequests(due...)
		deferred(false, due...)
		old = old[most:]
	}
	d.review()
	d.expectRequests()
}

// TestDispatcherKeepsAdmissions: an event that changes no limit takes no admission back, which would cost a tenant its place.
func TestDispatcherKeepsAdmissions(t *testing.T) {
	t.Parallel()
	d := newSyncedFixture(t)
	d.waitMany(2)
	d.requested = nil
	d.queueChanged(&v1alpha1.TenantQueue{
		ObjectMeta: metav1.ObjectMeta{Name: "q"}, Status: v1alpha1.TenantQueueStatus{Running: new(int32(7))},
	})
	d.limitTenant("acme", v1alpha1.TenantJobLimits{})
	d.expectRequests()
}
