package dispatch

import (
	"context"
	"errors"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/queue"
)

// TestDispatcherSyncs: after a restart the slots are known of all that runs, whatever the cache has.
func TestDispatcherSyncs(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		// there is what is before the restart: it returns what ends it.
		given func(d *fixture, j *batchv1.Job)
		free  bool
		// ends tells of its end.
		ends func(d *fixture, j *batchv1.Job)
	}{
		"a Job whose event has come": {
			given: func(d *fixture, j *batchv1.Job) { d.put(d.there, j); d.caches(j); d.jobChanged(j) },
			ends:  func(d *fixture, j *batchv1.Job) { d.jobChanged(ended(j, batchv1.JobComplete)) },
		},
		"a Job whose event is about to come": {
			given: func(d *fixture, j *batchv1.Job) { d.put(d.there, j); d.caches(j) },
			ends:  func(d *fixture, j *batchv1.Job) { d.jobChanged(j); d.jobChanged(ended(j, batchv1.JobComplete)) },
		},
		"a Job that the cache does not know": {
			given: func(d *fixture, j *batchv1.Job) { d.put(d.there, j) },
			ends:  func(d *fixture, j *batchv1.Job) { d.jobChanged(j); d.jobChanged(ended(j, batchv1.JobComplete)) },
		},
		"a Job that the cache does not know, and never will": {
			given: func(d *fixture, j *batchv1.Job) { d.put(d.there, j) },
			ends:  func(d *fixture, j *batchv1.Job) { _ = d.there.Delete(d.t.Context(), j) },
		},
		"the pods of a Job that is gone": {
			given: func(d *fixture, j *batchv1.Job) { d.put(d.there, podOf(j)) },
			ends:  func(d *fixture, j *batchv1.Job) { _ = d.there.Delete(d.t.Context(), podOf(j)) },
		},
		"a Job that the cache does not know, with its pod": {
			given: func(d *fixture, j *batchv1.Job) { d.put(d.there, j, podOf(j)) },
			ends: func(d *fixture, j *batchv1.Job) {
				d.jobChanged(j)
				d.jobChanged(ended(j, batchv1.JobComplete))
				_ = d.there.Delete(d.t.Context(), podOf(j))
			},
		},
		"a Job that has ended": {
			given: func(d *fixture, j *batchv1.Job) {
				j = ended(j, batchv1.JobComplete)
				d.put(d.there, j)
				d.caches(j)
				d.jobChanged(j)
			},
			free: true,
		},
		"a stranger's Job": {
			given: func(d *fixture, j *batchv1.Job) {
				j.OwnerReferences = nil
				delete(j.Labels, v1alpha1.LabelTemplate)
				d.put(d.there, j)
				d.caches(j)
			},
			free: true,
		},
		"a Job in the cache that is owned by a TenantJob of another API group": {
			given: func(d *fixture, j *batchv1.Job) {
				j.OwnerReferences[0].APIVersion = "example.com/v1"
				d.put(d.there, j)
				d.caches(j)
			},
			free: true,
		},
		"a Job in another namespace than the tenant's": {
			given: func(d *fixture, j *batchv1.Job) { j.Namespace = "tenant-globex"; d.put(d.there, j); d.caches(j) },
			free:  true,
		},
		"a pod in another namespace than the tenant's": {
			given: func(d *fixture, j *batchv1.Job) { j.Namespace = "tenant-globex"; d.put(d.there, podOf(j)) },
			free:  true,
		},
		"a Job of a tenant that there is not": {
			given: func(d *fixture, j *batchv1.Job) {
				j.Labels[v1alpha1.LabelTenant] = "nobody"
				d.put(d.there, j)
				d.caches(j)
			},
			free: true,
		},
		"a Job of a namespace that was made again": {
			given: func(d *fixture, j *batchv1.Job) {
				d.put(d.there, j)
				d.caches(j)
				d.namespaceUID = func(string) types.UID { return "another" }
			},
			free: true,
		},
		"a Job that has lost its owner": {
			given: func(d *fixture, j *batchv1.Job) { j.OwnerReferences = nil; d.put(d.there, j); d.caches(j) },
			ends:  func(d *fixture, j *batchv1.Job) { d.jobChanged(ended(j, batchv1.JobComplete)) },
		},
		"a Job that is deleted while it is found out what runs, with a pod that lingers": {
			given: func(d *fixture, j *batchv1.Job) {
				d.put(d.there, podOf(j))
				d.caches(j)
				d.whileSyncing = func() { d.uncaches(j); d.jobDeleted(j) }
			},
			ends: func(d *fixture, j *batchv1.Job) { _ = d.there.Delete(d.t.Context(), podOf(j)) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newFixture(t)
			d.limitTenant("acme", v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(1))})
			first, second := d.run("acme/1"), d.run("acme/2")
			made := d.jobOf(first)
			tc.given(d, made)
			d.waits(second) // nobody starts before it is known what runs
			d.syncs()
			if !tc.free {
				d.waits(second)
				d.running(1)
				d.releaseGone(t.Context())
				d.waits(second)
				tc.ends(d, made)
				d.releaseGone(t.Context())
			}
			d.starts(second)
			d.running(1)
		})
	}
}

// TestDispatcherDoubtful: whoever was there before a restart, or whose start got no answer, may have had a Job that is gone.
func TestDispatcherDoubtful(t *testing.T) {
	t.Parallel()
	knows := func(d *fixture, name string, change func(*v1alpha1.TenantJob)) queue.Job {
		d.t.Helper()
		j := d.run(name)
		tj := tenantJobOf(j)
		if change != nil {
			change(tj)
		}
		if err := d.tenantJobStore.Add(tj); err != nil {
			d.t.Fatal(err)
		}
		return j
	}
	for name, tc := range map[string]struct {
		given func(d *fixture) queue.Job
		want  bool
	}{
		"there before the restart": {func(d *fixture) queue.Job {
			j := knows(d, "acme/1", nil)
			d.syncs()
			return j
		}, true},
		"there before the restart, and refused since": {func(d *fixture) queue.Job {
			j := knows(d, "acme/1", nil)
			d.syncs()
			d.begins(j)(NotMade)
			return j
		}, true},
		"its Job is deleted after the restart, before its status says that it was made": {func(d *fixture) queue.Job {
			j := knows(d, "acme/1", nil)
			made := d.jobOf(j)
			d.put(d.there, made)
			d.caches(made)
			d.syncs()
			_ = d.there.Delete(d.t.Context(), made)
			d.uncaches(made)
			d.jobDeleted(made)
			d.releaseGone(d.t.Context())
			return j
		}, true},
		"made since the restart": {func(d *fixture) queue.Job {
			d.syncs()
			return knows(d, "acme/1", nil)
		}, false},
		"a start that got no answer, and made nothing": {func(d *fixture) queue.Job {
			d.syncs()
			j := d.run("acme/1")
			d.begins(j)(Uncertain)
			d.clock.Step(WriteTimeout)
			d.settleUncertain(d.t.Context())
			d.clock.Step(lastBackoff)
			return j
		}, true},
		"a start that was refused": {func(d *fixture) queue.Job {
			d.syncs()
			j := d.run("acme/1")
			d.begins(j)(NotMade)
			return j
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newFixture(t)
			j := tc.given(d)
			a := d.Ask(j, "")
			if a.Finish == nil || a.Doubtful != tc.want {
				t.Fatalf("it may begin: %t, doubtful: %t, want %t", a.Finish != nil, a.Doubtful, tc.want)
			}
			a.Finish(Made, "")
			if len(d.doubtful) > 0 {
				t.Errorf("still doubtful: %v", d.doubtful)
			}
		})
	}
}

// TestDispatcherAwaitsReports: after a restart the first to be reconciled does not start first.
func TestDispatcherAwaitsReports(t *testing.T) {
	t.Parallel()
	setUp := func(t *testing.T) *fixture {
		d := newFixture(t)
		d.limitQueue(v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(1))})
		for _, name := range []string{"acme/1", "acme/2", "globex/1"} {
			if err := d.tenantJobStore.Add(tenantJobOf(d.run(name))); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	ask := func(d *fixture, name string, p v1alpha1.JobPriority) {
		d.t.Helper()
		j := d.run(name)
		j.Priority = p
		d.waits(j)
	}
	for name, reports := range map[string]func(*fixture, queue.Job){
		"asks":            func(d *fixture, j queue.Job) { d.waits(j) },
		"waits":           func(d *fixture, j queue.Job) { j.Held = "tenant globex is suspended"; d.Wait(j) },
		"runs":            func(d *fixture, j queue.Job) { d.Report(Report{UID: j.UID, Running: true}) },
		"is over":         func(d *fixture, j queue.Job) { d.Report(Report{UID: j.UID, Over: true}) },
		"is deleted":      func(d *fixture, j queue.Job) { d.tenantJobDeleted(tenantJobOf(j)) },
		"has ended":       func(d *fixture, j queue.Job) { d.jobChanged(ended(d.jobOf(j), batchv1.JobComplete)) },
		"does not report": func(d *fixture, _ queue.Job) { d.clock.Step(reportsWithin); d.admitDue() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := setUp(t)
			d.syncs()
			ask(d, "acme/1", v1alpha1.PriorityLow)
			ask(d, "acme/2", v1alpha1.PriorityHigh)
			d.expectRequests()
			reports(d, d.run("globex/1"))
			d.admitDue()
			d.expectRequests("acme/2")
			// One that is made later need not be waited for.
			d.starts(d.run("acme/2"))
		})
	}
	t.Run("some have reported before it knew what runs", func(t *testing.T) {
		t.Parallel()
		d := setUp(t)
		held := d.run("globex/1")
		held.Held = "tenant globex is suspended"
		d.Wait(held)
		ask(d, "acme/1", v1alpha1.PriorityLow)
		d.syncs()
		d.expectRequests()
		last := d.run("acme/2")
		last.Priority = v1alpha1.PriorityHigh
		d.starts(last)
	})
}

// TestDispatcherSyncsOnlyWithAll: one that could not read what runs starts nothing.
func TestDispatcherSyncsOnlyWithAll(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	d.live = unreadable{}
	if err := d.sync(t.Context()); !errors.Is(err, errUnreadable) {
		t.Fatal(err)
	}
	d.waits(d.run("acme/1"))
	d.live = d.there
	d.syncs()
	d.expectRequests("acme/1")
	d.stop()
	d.waits(d.run("acme/1"))
	d.waits(d.run("acme/2"))
}

var errUnreadable = errors.New("unreadable")

type unreadable struct{ client.Reader }

func (unreadable) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errUnreadable
}

// TestDispatcherStandsByInVain: one that stands by remembers nothing of what runs and ends, however long it does.
func TestDispatcherStandsByInVain(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	for _, name := range many("acme", 100) {
		j := d.jobOf(d.run(name))
		d.jobChanged(j)
		d.jobDeleted(j)
	}
	if len(d.slotsByUID)+len(d.slotsByJob)+len(d.deleted) > 0 {
		t.Errorf("%d slots, %d by their Jobs, %d deleted", len(d.slotsByUID), len(d.slotsByJob), len(d.deleted))
	}
	d.syncs()
	d.running(0)
}

// TestDispatcherLateTenant: what runs in the namespace of a tenant that the cache learns of later counts from then on.
func TestDispatcherLateTenant(t *testing.T) {
	t.Parallel()
	d := newSyncedFixture(t)
	made := d.jobOf(d.run("late/1"))
	d.caches(made)
	d.jobChanged(made)
	d.running(0)
	d.limitTenant("late", v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(1))})
	d.running(1)
	d.waits(d.run("late/2"))
	d.jobChanged(ended(made, batchv1.JobComplete))
	d.starts(d.run("late/2"))
}

// TestDispatcherAbsence: the time in which nobody led ends when this process knows what runs.
func TestDispatcherAbsence(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	if from, until := d.Absence(); !from.Equal(until) {
		t.Errorf("without another process: from %v until %v", from, until)
	}
	d.othersRenewal = d.clock.Now().Add(-time.Hour)
	for step := range 3 {
		want := time.Hour + time.Duration(step)*time.Minute
		if step == 2 {
			d.syncs()
			d.clock.Step(time.Minute)
		}
		if from, until := d.Absence(); !from.Equal(d.othersRenewal) || until.Sub(from) != want {
			t.Errorf("step %d: from %v until %v", step, from, until)
		}
		d.clock.Step(time.Minute)
	}
}

// TestDispatcherReplacedUnnoticed: a watch that was interrupted tells of an object that was deleted and created again meanwhile as
// of one that was changed.
func TestDispatcherReplacedUnnoticed(t *testing.T) {
	t.Parallel()
	handlers := func(d *fixture) (tenantJobs, jobs toolscache.ResourceEventHandler) {
		return d.watches()[3].handler, d.watches()[4].handler
	}
	again := func(tj *v1alpha1.TenantJob) *v1alpha1.TenantJob {
		tj = tj.DeepCopy()
		tj.UID += " again"
		return tj
	}
	setUp := func(t *testing.T) *fixture {
		d := newSyncedFixture(t)
		d.limitTenant("acme", v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(1))})
		return d
	}
	t.Run("a TenantJob that waits", func(t *testing.T) {
		t.Parallel()
		d := setUp(t)
		made := d.starts(d.run("acme/1"))
		replaced := d.run("acme/2")
		d.waits(replaced)
		tenantJobs, _ := handlers(d)
		tenantJobs.OnUpdate(tenantJobOf(replaced), again(tenantJobOf(replaced)))
		d.jobChanged(ended(made, batchv1.JobComplete))
		d.starts(d.run("acme/3"))
	})
	t.Run("a TenantJob that is admitted", func(t *testing.T) {
		t.Parallel()
		d := setUp(t)
		made := d.starts(d.run("acme/1"))
		replaced := d.run("acme/2")
		d.waits(replaced)
		d.jobChanged(ended(made, batchv1.JobComplete))
		d.expectRequests("acme/2")
		tenantJobs, _ := handlers(d)
		tenantJobs.OnUpdate(tenantJobOf(replaced), again(tenantJobOf(replaced)))
		d.starts(d.run("acme/3"))
	})
	t.Run("a Job", func(t *testing.T) {
		t.Parallel()
		d := setUp(t)
		first := d.starts(d.run("acme/1"))
		second := first.DeepCopy()
		second.UID, second.OwnerReferences[0].UID = "another", "acme/1 again"
		cachedForm := func(j *batchv1.Job) any {
			cached, err := kube.StripJob(j.DeepCopy())
			if err != nil {
				t.Fatal(err)
			}
			return cached
		}
		_, jobs := handlers(d)
		jobs.OnUpdate(cachedForm(first), cachedForm(second))
		d.releaseGone(t.Context())
		d.running(1)
		jobs.OnUpdate(cachedForm(second), cachedForm(ended(second, batchv1.JobComplete)))
		d.running(0)
	})
}
