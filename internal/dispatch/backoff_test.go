package dispatch

import (
	"fmt"
	"slices"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/queue"
)

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

// TestDispatcherTrials: what may make room for a tenant whose starts hang, or comes late, adds no second trial to one under way.
func TestDispatcherTrials(t *testing.T) {
	t.Parallel()
	for name, happens := range map[string]func(d *fixture, other *batchv1.Job){
		"its Jobs end":           func(d *fixture, j *batchv1.Job) { d.jobChanged(ended(j, batchv1.JobComplete)) },
		"its Jobs are deleted":   func(d *fixture, j *batchv1.Job) { d.jobDeleted(ended(j, batchv1.JobComplete)) },
		"it waited for a worker": func(d *fixture, _ *batchv1.Job) { d.clock.Step(admissionLasts) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newSyncedFixture(t)
			var others []*batchv1.Job
			for _, name := range many("acme", 5) {
				others = append(others, d.starts(d.run(name)))
			}
			waiting := []string{"acme/a", "acme/b", "acme/c"}
			end := d.begins(d.run("acme/hangs"))
			for _, name := range waiting {
				d.Wait(d.run(name))
			}
			end(Refused)
			d.clock.Step(firstBackoff)
			d.admitDue()
			d.clock.Step(admissionLasts)
			trials := 0
			try := func() {
				for _, name := range append(waiting, "acme/hangs") {
					if a := d.Ask(d.run(name), ""); a.Finish != nil {
						trials++
					}
				}
			}
			try()
			for _, j := range others {
				happens(d, j)
				try()
			}
			if trials != 1 {
				t.Errorf("%d are tried at once", trials)
			}
		})
	}
}

// TestDispatcherManyTrials: starts of many tenants that hang leave workers to the starts of others, and each of them is tried.
func TestDispatcherManyTrials(t *testing.T) {
	t.Parallel()
	d := newSyncedFixture(t)
	var runs []queue.Job
	for i := range 20 {
		name := fmt.Sprintf("broken-%d", i)
		d.limitTenant(name, v1alpha1.TenantJobLimits{})
		runs = append(runs, d.run(name+"/1"))
		d.begins(runs[i])(Uncertain)
	}
	d.clock.Step(WriteTimeout)
	d.settleUncertain(t.Context())
	tried := map[types.UID]bool{}
	for round := 0; len(tried) < len(runs) && round < 2*len(runs)/maxTrials; round++ {
		d.clock.Step(max(firstBackoff, admissionLasts))
		d.admitDue()
		var ends []func(StartResult)
		for _, j := range runs {
			if a := d.Ask(j, ""); a.Finish != nil {
				tried[j.UID] = true
				ends = append(ends, func(r StartResult) { a.Finish(r, "no answer") })
			}
		}
		if len(ends) > maxTrials {
			t.Fatalf("%d hang at once", len(ends))
		}
		d.jobChanged(ended(d.starts(d.run(fmt.Sprintf("globex/%d", round))), batchv1.JobComplete))
		d.clock.Step(WriteTimeout)
		for _, end := range ends {
			end(Refused)
		}
	}
	if len(tried) != len(runs) {
		t.Errorf("only %d of %d were tried", len(tried), len(runs))
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
		"another's that has ended is changed": {func(d *fixture, j *batchv1.Job) {
			j = ended(j, batchv1.JobComplete)
			d.jobChanged(j)
			d.begins(d.run("acme/1"))(Refused)
			d.requested = nil
			d.jobChanged(j)
		}, false},
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
