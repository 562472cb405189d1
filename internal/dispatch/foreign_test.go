package dispatch

import (
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// TestDispatcherOrphan: a Job whose TenantJob is deleted without it keeps its slot until it ends, and then gives it back.
func TestDispatcherOrphan(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(d *fixture, j *batchv1.Job){
		"completes":  func(d *fixture, j *batchv1.Job) { d.jobChanged(ended(j, batchv1.JobComplete)) },
		"fails":      func(d *fixture, j *batchv1.Job) { d.jobChanged(ended(j, batchv1.JobFailed)) },
		"is deleted": func(d *fixture, j *batchv1.Job) { d.jobDeleted(j); d.releaseGone(d.t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newSyncedFixture(t)
			d.limitTenant("acme", v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(1))})
			first := d.run("acme/1")
			made := d.starts(first)
			d.tenantJobDeleted(tenantJobOf(first))
			orphan := made.DeepCopy()
			orphan.OwnerReferences = nil
			d.jobChanged(orphan)
			d.waits(d.run("acme/2"))
			end(d, orphan)
			d.starts(d.run("acme/2"))
			d.running(1)
		})
	}
}

// TestDispatcherForeignJob: a Job that anybody has labelled takes no slot of any tenant or queue, and makes none known.
func TestDispatcherForeignJob(t *testing.T) {
	t.Parallel()
	for name, forge := range map[string]func(j *batchv1.Job){
		"in another namespace":     func(j *batchv1.Job) { j.Namespace = "tenant-globex" },
		"of another API group":     func(j *batchv1.Job) { j.OwnerReferences[0].APIVersion = "example.com/v1" },
		"of an unknown tenant":     func(j *batchv1.Job) { j.Labels[v1alpha1.LabelTenant] = "nobody" },
		"with labels and no owner": func(j *batchv1.Job) { j.OwnerReferences, j.Namespace = nil, "elsewhere" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newSyncedFixture(t)
			d.limitTenant("acme", v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(1))})
			j := d.jobOf(d.run("acme/forged"))
			j.Labels[v1alpha1.LabelQueue] = "invented"
			forge(j)
			d.jobChanged(j)
			if _, known := d.Counts()["invented"]; known {
				t.Error("its queue is known")
			}
			d.starts(d.run("acme/1"))
		})
	}
}

// TestDispatcherForgedOwner: a Job elsewhere, or of another name, that names a run's TenantJob as its owner neither holds nor frees
// the run's slot.
func TestDispatcherForgedOwner(t *testing.T) {
	t.Parallel()
	forgeries := map[string]func(j *batchv1.Job){
		"elsewhere":                   func(j *batchv1.Job) { j.Namespace = "elsewhere" },
		"of another name":             func(j *batchv1.Job) { j.Name = "another" },
		"of another name, like owner": func(j *batchv1.Job) { j.Name, j.OwnerReferences[0].Name = "another", "another" },
	}
	for name, event := range map[string]func(d *fixture, forged *batchv1.Job){
		"lives":               func(d *fixture, j *batchv1.Job) { d.jobChanged(j) },
		"has ended":           func(d *fixture, j *batchv1.Job) { d.jobChanged(ended(j, batchv1.JobComplete)) },
		"is deleted":          func(d *fixture, j *batchv1.Job) { d.jobDeleted(j); d.releaseGone(d.t.Context()) },
		"has lived and ended": func(d *fixture, j *batchv1.Job) { d.jobChanged(j); d.jobChanged(ended(j, batchv1.JobFailed)) },
	} {
		for where, forge := range forgeries {
			t.Run(where+", "+name, func(t *testing.T) {
				t.Parallel()
				d := newSyncedFixture(t)
				d.limitTenant("acme", v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(1))})
				made := d.starts(d.run("acme/1"))
				forged := made.DeepCopy()
				forged.UID = "forged"
				forge(forged)
				event(d, forged)
				d.waits(d.run("acme/2"))
				d.running(1)
				d.jobChanged(ended(made, batchv1.JobComplete))
				d.starts(d.run("acme/2"))
			})
		}
		for where, forge := range forgeries {
			t.Run(where+", after a restart, "+name, func(t *testing.T) {
				t.Parallel()
				d := newFixture(t)
				d.limitTenant("acme", v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(1))})
				made := d.jobOf(d.run("acme/1"))
				forged := made.DeepCopy()
				forged.UID = "forged"
				forge(forged)
				d.caches(made)
				d.caches(forged)
				d.put(d.there, made, forged)
				if err := d.tenantJobStore.Add(tenantJobOf(d.run("acme/1"))); err != nil {
					t.Fatal(err)
				}
				d.syncs()
				d.running(1)
				event(d, forged)
				d.running(1)
				d.jobChanged(ended(made, batchv1.JobComplete))
				d.starts(d.run("acme/2"))
			})
		}
	}
}

// TestDispatcherHeldJob: a Job that is being deleted, and that somebody's finalizer holds, has its slot as long as a pod of it lives,
// and no longer.
func TestDispatcherHeldJob(t *testing.T) {
	t.Parallel()
	for name, restarts := range map[string]bool{"seen": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newSyncedFixture(t)
			held := d.starts(d.run("acme/1"))
			pod := podOf(held)
			held.Finalizers = []string{"example.com/hold"}
			held.DeletionTimestamp = &metav1.Time{Time: d.clock.Now()}
			if restarts {
				d = newFixture(t)
				d.caches(held)
				d.syncs()
			}
			d.there = newStoreWith(held)
			d.live = d.there
			d.put(d.there, pod)
			d.jobChanged(held)
			d.clock.Step(goneWithin)
			d.releaseGone(t.Context())
			d.running(1)
			if err := d.there.Delete(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			d.releaseGone(t.Context())
			d.running(0)
			d.jobChanged(held) // whatever somebody changes in it
			d.running(0)
			d.jobDeleted(held)
			d.running(0)
			if len(d.emptied) > 0 {
				t.Error("it remembers a Job that is gone")
			}
		})
	}
}

// TestDispatcherForgedPods: pods of a Job that is no run take no slot after a restart, whatever their labels say. Those of a run
// whose Job has lost its labels do.
func TestDispatcherForgedPods(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(j *batchv1.Job)
		slots  int
	}{
		"a Job without labels and owner": {func(j *batchv1.Job) { j.Labels, j.OwnerReferences = nil, nil }, 0},
		"a Job without an owner":         {func(j *batchv1.Job) { j.Annotations, j.OwnerReferences = nil, nil }, 0},
		"a run":                          {func(*batchv1.Job) {}, 1},
		"a run without labels":           {func(j *batchv1.Job) { delete(j.Labels, v1alpha1.LabelTenant) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newFixture(t)
			j := d.jobOf(d.run("acme/1"))
			pod := podOf(j)
			tc.change(j)
			d.put(d.there, j, pod)
			d.syncs()
			d.running(tc.slots)
		})
	}
}
