package controller

import (
	"context"
	"errors"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/queue"
)

// TestDispatcherRebuild: after a restart the slots are known of all that runs, whatever the cache has heard of.
func TestDispatcherRebuild(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		// there is what is before the restart: it returns what ends it.
		given func(d *desk, j *batchv1.Job)
		free  bool
		// ends tells of its end.
		ends func(d *desk, j *batchv1.Job)
	}{
		"a Job that the watch has told of": {
			given: func(d *desk, j *batchv1.Job) { d.put(d.there, j); d.caches(j); d.jobChanged(j) },
			ends:  func(d *desk, j *batchv1.Job) { d.jobChanged(ended(j, batchv1.JobComplete)) },
		},
		"a Job that the watch is about to tell of": {
			given: func(d *desk, j *batchv1.Job) { d.put(d.there, j); d.caches(j) },
			ends:  func(d *desk, j *batchv1.Job) { d.jobChanged(j); d.jobChanged(ended(j, batchv1.JobComplete)) },
		},
		"a Job that the cache does not know": {
			given: func(d *desk, j *batchv1.Job) { d.put(d.there, j) },
			ends:  func(d *desk, j *batchv1.Job) { d.jobChanged(j); d.jobChanged(ended(j, batchv1.JobComplete)) },
		},
		"a Job that the cache does not know, and never will": {
			given: func(d *desk, j *batchv1.Job) { d.put(d.there, j) },
			ends:  func(d *desk, j *batchv1.Job) { _ = d.there.Delete(d.t.Context(), j) },
		},
		"the pods of a Job that is gone": {
			given: func(d *desk, j *batchv1.Job) { d.put(d.there, podOf(j)) },
			ends:  func(d *desk, j *batchv1.Job) { _ = d.there.Delete(d.t.Context(), podOf(j)) },
		},
		"a Job that the cache does not know, with its pod": {
			given: func(d *desk, j *batchv1.Job) { d.put(d.there, j, podOf(j)) },
			ends: func(d *desk, j *batchv1.Job) {
				d.jobChanged(j)
				d.jobChanged(ended(j, batchv1.JobComplete))
				_ = d.there.Delete(d.t.Context(), podOf(j))
			},
		},
		"a Job that has ended": {
			given: func(d *desk, j *batchv1.Job) {
				j = ended(j, batchv1.JobComplete)
				d.put(d.there, j)
				d.caches(j)
				d.jobChanged(j)
			},
			free: true,
		},
		"a stranger's Job": {
			given: func(d *desk, j *batchv1.Job) { j.OwnerReferences = nil; d.put(d.there, j) },
			free:  true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			d.limitTenant("acme", v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(1))})
			first, second := d.run("acme/1"), d.run("acme/2")
			made := d.jobOf(first)
			tc.given(d, made)
			d.waits(second) // nobody starts before it is known what runs
			d.opens()
			if !tc.free {
				d.waits(second)
				d.running(1)
				d.lookForLost(t.Context())
				d.waits(second)
				tc.ends(d, made)
				d.lookForLost(t.Context())
			}
			d.starts(second)
			d.running(1)
		})
	}
}

// TestDispatcherRestartKeepsTheRate: what was started in the last minute counts, also when it has ended.
func TestDispatcherRestartKeepsTheRate(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.limitQueue(v1alpha1.TenantQueueSpec{StartsPerMinute: new(int32(2))})
	d.jobChanged(ended(d.jobOf(d.run("acme/1")), batchv1.JobComplete))
	d.jobChanged(d.jobOf(d.run("globex/1")))
	d.opens()
	d.waitsFor(d.run("acme/2"), "queue q starts at most 2 a minute (`spec.startsPerMinute`)")
}

// TestDispatcherHearsAll: after a restart the first to speak does not come first.
func TestDispatcherHearsAll(t *testing.T) {
	t.Parallel()
	setUp := func(t *testing.T) *desk {
		d := newDesk(t)
		d.limitQueue(v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(1))})
		for _, name := range []string{"acme/1", "acme/2", "globex/1"} {
			if err := d.tenantJobs.Add(tenantJobOf(d.run(name))); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	ask := func(d *desk, name string, p v1alpha1.JobPriority) {
		d.t.Helper()
		j := d.run(name)
		j.Priority = p
		d.waits(j)
	}
	for name, heard := range map[string]func(*desk, queue.Job){
		"asks":       func(d *desk, j queue.Job) { d.waits(j) },
		"waits":      func(d *desk, j queue.Job) { j.Held = "tenant globex is suspended"; d.Wait(j) },
		"runs":       func(d *desk, j queue.Job) { d.Runs(j.UID) },
		"is over":    func(d *desk, j queue.Job) { d.Over(j.UID, nil) },
		"is deleted": func(d *desk, j queue.Job) { d.tenantJobDeleted(tenantJobOf(j)) },
		"has ended":  func(d *desk, j queue.Job) { d.jobChanged(ended(d.jobOf(j), batchv1.JobComplete)) },
		"is silent":  func(d *desk, _ queue.Job) { d.clock.Step(hearingLasts); d.turn() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := setUp(t)
			d.opens()
			ask(d, "acme/1", v1alpha1.PriorityLow)
			ask(d, "acme/2", v1alpha1.PriorityHigh)
			d.calls()
			heard(d, d.run("globex/1"))
			d.turn()
			d.calls("acme/2")
			// One that is made later need not be waited for.
			d.starts(d.run("acme/2"))
		})
	}
	t.Run("some have spoken before it knew what runs", func(t *testing.T) {
		t.Parallel()
		d := setUp(t)
		held := d.run("globex/1")
		held.Held = "tenant globex is suspended"
		d.Wait(held)
		ask(d, "acme/1", v1alpha1.PriorityLow)
		d.opens()
		d.calls()
		last := d.run("acme/2")
		last.Priority = v1alpha1.PriorityHigh
		d.starts(last)
	})
}

// TestDispatcherOpensOnlyWithAll: one that could not read what runs starts nothing.
func TestDispatcherOpensOnlyWithAll(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.live = unreadable{}
	if err := d.rebuild(t.Context()); !errors.Is(err, errUnreadable) {
		t.Fatal(err)
	}
	d.waits(d.run("acme/1"))
	d.live = d.there
	d.opens()
	d.calls("acme/1")
	d.shut()
	d.waits(d.run("acme/1"))
	d.waits(d.run("acme/2"))
}

var errUnreadable = errors.New("unreadable")

type unreadable struct{ client.Reader }

func (unreadable) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errUnreadable
}
