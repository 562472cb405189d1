package dispatch

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
)

// aFanOut is one that is under way.
func aFanOut(name string, strategy *v1alpha1.FanOutStrategy) *v1alpha1.TenantFanOut {
	return &v1alpha1.TenantFanOut{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("fan-out " + name)},
		Spec:       v1alpha1.TenantFanOutSpec{TemplateRef: v1alpha1.LabelReference{Name: "report"}, Strategy: strategy},
	}
}

func paused(name string) *v1alpha1.TenantFanOut {
	f := aFanOut(name, nil)
	f.Spec.Suspend = new(true)
	return f
}

// ledgerWith is that of a plan with these tenants, each in a wave of its own if there are waves, and these marks.
func ledgerWith(t *testing.T, marks string, waves []string, tenants ...string) *fanout.Ledger {
	p := &fanout.Plan{FanOut: "fan-out f", Waves: waves}
	for i, tenant := range tenants {
		p.Entries = append(p.Entries, fanout.Entry{Tenant: tenant, Wave: min(i, len(waves))})
	}
	blank := fanout.NewLedger(p).ConfigMap(aFanOut("f", nil), "tenantry-system")
	blank.Data["outcomes"] = marks
	l, err := fanout.DecodeLedger(blank, p)
	if err != nil {
		panic(err)
	}
	if t != nil {
		t.Helper()
	}
	return l
}

// createdLedger has it that the children of all these tenants were made.
func createdLedger(tenants ...string) *fanout.Ledger {
	return ledgerWith(nil, strings.Repeat("+", len(tenants)), nil, tenants...)
}

// failed has an outcome more.
func failed(l *fanout.Ledger, i int) *fanout.Ledger {
	l = l.Clone()
	l.Record(i, hasFailed)
	return l
}

var (
	hasCompleted = fanout.OutcomeOf(metav1.ConditionTrue, v1alpha1.ReasonCompleted, "")
	hasFailed    = fanout.OutcomeOf(metav1.ConditionFalse, v1alpha1.ReasonJobFailed, "the Job failed")
)

// over has a run's Job end, and then the run with it.
func (d *fixture) over(j *batchv1.Job, run types.UID, how batchv1.JobConditionType, o *ChildOutcome) {
	d.jobChanged(ended(j, how))
	d.expectRequests() // nobody before the outcome counts
	d.Report(Report{UID: run, Over: true, Outcome: o})
}

// outcome of a tenant in fan-out f.
func outcome(tenant string, o fanout.Outcome) *ChildOutcome {
	return &ChildOutcome{FanOut: "f", UID: "fan-out f", Tenant: tenant, Outcome: o}
}

// childOf is the TenantJob of a tenant that says of itself that it is a child of the fan-out f with this UID.
func childOf(fanOut types.UID, tenant string) *v1alpha1.TenantJob {
	owner := aFanOut("f", nil)
	owner.UID = fanOut
	return &v1alpha1.TenantJob{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: tenant, Name: "f", UID: types.UID(tenant + "/f"), Labels: map[string]string{v1alpha1.LabelFanOut: "f"},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, v1alpha1.GroupVersion.WithKind("TenantFanOut"))},
		},
		Spec: v1alpha1.TenantJobSpec{TenantRef: v1alpha1.TenantReference{Name: tenant}, TemplateRef: v1alpha1.LabelReference{Name: "report"}},
	}
}

// observedLedger has it which TenantJob of each of these tenants was observed: the one that childOf returns.
func observedLedger(tenants ...string) *fanout.Ledger {
	children := map[string]fanout.Child{}
	for _, tenant := range tenants {
		children[tenant] = fanout.Child{Presence: fanout.Ours, UID: types.UID(tenant + "/f"), Status: metav1.ConditionUnknown}
	}
	blank := createdLedger(tenants...)
	return fanout.Decide(fanout.Observed{FanOut: aFanOut("f", nil), Ledger: blank, Children: children}, time.Now()).Ledger
}

// TestDispatcherKnowsChildren: a fan-out's child is the TenantJob that its ledger has, and no other one of its name.
func TestDispatcherKnowsChildren(t *testing.T) {
	t.Parallel()
	type says struct {
		Reason            string
		Disowned, Nothing bool
		Changed           string
	}
	for name, tc := range map[string]struct {
		change func(*v1alpha1.TenantJob)
		want   says
	}{
		"as it was created": {func(*v1alpha1.TenantJob) {}, says{}},
		"made again by somebody else, with the same owner": {
			func(tj *v1alpha1.TenantJob) { tj.UID = "made again" }, says{Reason: v1alpha1.ReasonDeleted},
		},
		"its owner reference removed": {
			func(tj *v1alpha1.TenantJob) { tj.OwnerReferences = nil }, says{Disowned: true},
		},
		"its owner reference and labels removed": {
			func(tj *v1alpha1.TenantJob) { tj.OwnerReferences, tj.Labels = nil, nil },
			says{Disowned: true, Changed: "metadata.labels[tenantry.dev/fan-out]"},
		},
		"somebody's without an owner": {
			func(tj *v1alpha1.TenantJob) { tj.UID, tj.OwnerReferences = "another", nil }, says{Nothing: true},
		},
		"put off for ever": {
			func(tj *v1alpha1.TenantJob) {
				tj.Spec.NotBeforeTime = &metav1.Time{Time: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)}
			},
			says{Changed: "spec.notBeforeTime"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newSyncedFixture(t)
			l := observedLedger("acme")
			d.SetFanOut(aFanOut("f", nil), l, l, "")
			tj := childOf("fan-out f", "acme")
			tc.change(tj)
			said, _ := d.child(tj)
			got := says{Nothing: said == nil}
			if said != nil {
				got = says{Reason: said.Reason, Disowned: said.Disowned, Changed: said.Changed}
			}
			if got != tc.want {
				t.Errorf("it says %+v, want %+v", got, tc.want)
			}
		})
	}
}

// TestDispatcherStrangersOutcome: the outcome of a TenantJob that is not the child does not count, and such a one never starts.
func TestDispatcherStrangersOutcome(t *testing.T) {
	t.Parallel()
	d := newSyncedFixture(t)
	l := observedLedger("acme")
	d.SetFanOut(aFanOut("f", nil), l, l, "")
	impostor := ofFanOut(d.run("acme/f"), "f")
	impostor.UID = "made again"
	if answer := d.Ask(impostor, ""); answer.End == nil || answer.End.Reason != v1alpha1.ReasonDeleted {
		t.Errorf("it starts: %+v", answer)
	}
	theirs := outcome("acme", hasCompleted)
	theirs.TenantJob = "made again"
	d.Report(Report{UID: "made again", Over: true, Outcome: theirs})
	if got := d.fanOut("f").ledger.Outcome(0); got.Decided() {
		t.Errorf("it counts as %+v", got)
	}
	ours := outcome("acme", hasFailed)
	ours.TenantJob = "acme/f"
	d.Report(Report{UID: "acme/f", Over: true, Outcome: ours})
	if got := d.fanOut("f").ledger.Outcome(0); got != hasFailed {
		t.Errorf("it counts as %+v", got)
	}
}

// TestDispatcherPaused: a fan-out says of its child whether it lets it start, so that nobody blames the tenant.
func TestDispatcherPaused(t *testing.T) {
	t.Parallel()
	waves := ledgerWith(t, "++", []string{"canary"}, "acme", "globex")
	for name, tc := range map[string]struct {
		fanOut *v1alpha1.TenantFanOut
		tenant string
		want   bool
	}{
		"in the open wave":      {aFanOut("f", nil), "acme", false},
		"in a later wave":       {aFanOut("f", nil), "globex", true},
		"the fan-out is paused": {paused("f"), "acme", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newSyncedFixture(t)
			d.SetFanOut(tc.fanOut, waves, waves, "")
			if said, _ := d.child(childOf("fan-out f", tc.tenant)); said == nil || said.Paused != tc.want {
				t.Errorf("it says %+v", said)
			}
		})
	}
}

// TestDispatcherUnrecorded: an outcome that was reported and that the ledger lacks is told after a while, until the ledger has it.
func TestDispatcherUnrecorded(t *testing.T) {
	t.Parallel()
	d := newSyncedFixture(t)
	l := createdLedger("acme", "globex")
	d.SetFanOut(aFanOut("f", nil), l, l, "")
	reported := d.clock.Now()
	d.Report(Report{UID: "acme/f", Over: true, Outcome: outcome("acme", hasFailed)})
	if got, next := d.Unrecorded("f", reported.Add(-1)); len(got) > 0 || !next.Equal(reported) {
		t.Errorf("at first: %v, then after %v", got, next)
	}
	if got, next := d.Unrecorded("f", reported); len(got) != 1 || got[0] != hasFailed || !next.IsZero() {
		t.Errorf("later: %v, then after %v", got, next)
	}
	d.SetFanOut(aFanOut("f", nil), failed(l, 0), failed(l, 0), "")
	if got, _ := d.Unrecorded("f", reported); len(got) > 0 {
		t.Errorf("when the ledger has it: %v", got)
	}
	if got, _ := d.Unrecorded("another", reported); len(got) > 0 {
		t.Errorf("of another fan-out: %v", got)
	}
}

// TestDispatcherChildrenWait: what a child waits for that no other run does.
func TestDispatcherChildrenWait(t *testing.T) {
	t.Parallel()
	both := []string{"acme", "globex"}
	created := createdLedger(both...)
	one := intstr.FromInt32(1)
	full := aFanOut("f", &v1alpha1.FanOutStrategy{MaxConcurrent: &one})
	waves := []string{"canary"}
	for name, tc := range map[string]struct {
		open    func(*fixture)
		message string
		lift    func(*fixture)
	}{
		"not read yet": {
			open:    func(*fixture) {},
			message: "fan-out f has not been read yet",
			lift:    func(d *fixture) { d.SetFanOut(aFanOut("f", nil), created, created, "") },
		},
		"not written that it was made": {
			open: func(d *fixture) {
				d.SetFanOut(aFanOut("f", nil), created, ledgerWith(t, "+:", nil, both...), "")
			},
			message: "the ledger of fan-out f does not have it yet",
			lift:    func(d *fixture) { d.SetFanOut(aFanOut("f", nil), created, created, "") },
		},
		"paused": {
			open:    func(d *fixture) { d.SetFanOut(paused("f"), created, created, "") },
			message: "fan-out f is paused",
			lift:    func(d *fixture) { d.SetFanOut(aFanOut("f", nil), created, created, "") },
		},
		"full": {
			open: func(d *fixture) {
				d.SetFanOut(full, created, created, "")
				d.starts(ofFanOut(d.run("acme/f"), "f"))
			},
			message: "fan-out f is full (`spec.strategy.maxConcurrent`: 1)",
			lift: func(d *fixture) {
				d.over(d.jobOf(ofFanOut(d.run("acme/f"), "f")), "acme/f", batchv1.JobComplete, outcome("acme", hasCompleted))
			},
		},
		"a wave that is not open": {
			open:    func(d *fixture) { l := ledgerWith(t, "++", waves, both...); d.SetFanOut(aFanOut("f", nil), l, l, "") },
			message: "fan-out f has not opened its wave",
			lift:    func(d *fixture) { d.Report(Report{UID: "acme/f", Over: true, Outcome: outcome("acme", hasCompleted)}) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newSyncedFixture(t)
			tc.open(d)
			child := ofFanOut(d.run("globex/f"), "f")
			d.waits(child)
			if got := d.held(child); got != tc.message {
				t.Errorf("it waits for %q, want %q", got, tc.message)
			}
			d.requested = nil
			tc.lift(d)
			d.expectRequests("globex/f")
			d.starts(child)
		})
	}
}

// TestDispatcherBudget: an outcome counts before its slot goes to the next.
func TestDispatcherBudget(t *testing.T) {
	t.Parallel()
	none, one := intstr.FromInt32(0), intstr.FromInt32(1)
	fails := func(d *fixture, j *batchv1.Job) { d.over(j, "acme/f", batchv1.JobFailed, outcome("acme", hasFailed)) }
	for name, tc := range map[string]struct {
		end      func(*fixture, *batchv1.Job)
		want     bool
		tolerant bool
	}{
		"the Job fails":                    {end: fails},
		"the Job fails, within the budget": {end: fails, tolerant: true, want: true},
		"the Job completes": {
			end: func(d *fixture, j *batchv1.Job) {
				d.over(j, "acme/f", batchv1.JobComplete, outcome("acme", hasCompleted))
			},
			want: true,
		},
		"the run ends before its Job": {end: func(d *fixture, j *batchv1.Job) {
			d.Report(Report{UID: "acme/f", Over: true, Outcome: outcome("acme", hasFailed)})
			d.jobChanged(ended(j, batchv1.JobFailed))
		}},
		"the Job fails of a run that is cancelled": {
			end: func(d *fixture, j *batchv1.Job) {
				d.over(j, "acme/f", batchv1.JobFailed, outcome("acme", fanout.OutcomeOf(metav1.ConditionFalse, v1alpha1.ReasonCancelled, "")))
			},
			want: true,
		},
		"the Job ends, and its run is deleted": {
			end: func(d *fixture, j *batchv1.Job) {
				d.jobChanged(ended(j, batchv1.JobComplete))
				d.expectRequests()
				d.tenantJobDeleted(tenantJobOf(ofFanOut(d.run("acme/f"), "f")))
			},
			want: true,
		},
		"the Job ends, and nobody says what came of its run": {
			end: func(d *fixture, j *batchv1.Job) {
				j = ended(j, batchv1.JobComplete)
				d.put(d.there, j)
				d.jobChanged(j)
				d.clock.Step(outcomeWithin - time.Second)
				d.releaseGone(t.Context())
				d.expectRequests()
				d.clock.Step(time.Second)
				d.releaseGone(t.Context())
			},
			want: true,
		},
		"its start ends after its Job": {
			end: func(d *fixture, j *batchv1.Job) {
				d.slot("acme/f").starting = true
				d.startsUnderWay["acme"]++
				d.jobChanged(ended(j, batchv1.JobFailed))
				d.finish(d.slot("acme/f"), Made, "")
				d.expectRequests()
				d.Report(Report{UID: "acme/f", Over: true, Outcome: outcome("acme", hasFailed)})
			},
		},
		"the Job is gone, and its run lost": {end: func(d *fixture, j *batchv1.Job) {
			d.jobDeleted(j)
			d.Report(Report{UID: "acme/f", Over: true, Outcome: outcome("acme", hasFailed)})
			d.releaseGone(t.Context())
		}},
		"of an earlier fan-out of its name": {
			end: func(d *fixture, j *batchv1.Job) {
				other := outcome("acme", hasFailed)
				other.UID = "another"
				d.Report(Report{UID: "acme/f", Over: true, Outcome: other})
				d.jobChanged(ended(j, batchv1.JobComplete))
			},
			want: true,
		},
		"it had succeeded before": {
			end: func(d *fixture, j *batchv1.Job) {
				d.Report(Report{UID: "acme/f", Over: true, Outcome: outcome("acme", hasCompleted)})
				d.jobChanged(ended(j, batchv1.JobFailed))
			},
			want: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newSyncedFixture(t)
			strategy := &v1alpha1.FanOutStrategy{MaxConcurrent: &one, MaxFailures: &none}
			if tc.tolerant {
				strategy.MaxFailures = &one
			}
			created := createdLedger("acme", "globex")
			d.SetFanOut(aFanOut("f", strategy), created, created, "")
			first, second := ofFanOut(d.run("acme/f"), "f"), ofFanOut(d.run("globex/f"), "f")
			made := d.starts(first)
			d.waits(second)
			d.requested = nil
			tc.end(d, made)
			if !tc.want {
				d.expectRequests()
				d.waitsFor(second, "fan-out f is paused")
				// Nor when the fan-out controller has not seen it.
				d.SetFanOut(aFanOut("f", strategy), created, created, "")
				d.waits(second)
				// Until it has, and somebody has raised the budget.
				d.SetFanOut(aFanOut("f", &v1alpha1.FanOutStrategy{MaxFailures: &one}), failed(created, 0), failed(created, 0), "")
			}
			d.expectRequests("globex/f")
			d.starts(second)
		})
	}
}

// TestDispatcherChildrenEnd: children that are to start no more.
func TestDispatcherChildrenEnd(t *testing.T) {
	t.Parallel()
	created := createdLedger("acme")
	for name, tc := range map[string]struct {
		open            func(*fixture)
		reason, message string
	}{
		"superseded": {
			open:   func(d *fixture) { d.SetFanOut(aFanOut("f", nil), created, created, v1alpha1.ReasonSuperseded) },
			reason: v1alpha1.ReasonSuperseded, message: "the next tick",
		},
		"cancelled": {
			open:   func(d *fixture) { d.SetFanOut(aFanOut("f", nil), created, created, v1alpha1.ReasonCancelled) },
			reason: v1alpha1.ReasonCancelled, message: "cancelled before it started",
		},
		"it has an outcome": {
			open:   func(d *fixture) { d.SetFanOut(aFanOut("f", nil), failed(created, 0), failed(created, 0), "") },
			reason: v1alpha1.ReasonJobFailed, message: "the Job failed",
		},
		"not in the plan": {
			open:   func(d *fixture) { l := createdLedger("globex"); d.SetFanOut(aFanOut("f", nil), l, l, "") },
			reason: v1alpha1.ReasonCancelled, message: "tenant acme is not in the plan of fan-out f",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newSyncedFixture(t)
			child := ofFanOut(d.run("acme/f"), "f")
			d.waits(child)
			d.requested = nil
			tc.open(d)
			d.expectRequests("acme/f")
			d.expectEnd(child, tc.reason, tc.message)
			said, _ := d.child(childOf("fan-out f", "acme"))
			if said == nil || said.Reason != tc.reason || said.Status != metav1.ConditionFalse {
				t.Errorf("it says of its child: %+v", said)
			}
			d.Report(Report{UID: child.UID, Over: true})
			d.running(0)
			if len(d.waiting) != 0 {
				t.Errorf("children that wait: %v", d.waiting)
			}
		})
	}
}

// TestDispatcherCloseFanOut: no child starts any more, those that run keep their slots.
func TestDispatcherCloseFanOut(t *testing.T) {
	t.Parallel()
	d := newSyncedFixture(t)
	d.limitQueue(v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(1))})
	created := createdLedger("acme", "globex")
	d.SetFanOut(aFanOut("f", nil), created, created, "")
	if said, template := d.child(childOf("fan-out f", "acme")); said == nil || said.Reason != "" || template.Name != "report" {
		t.Errorf("it says of its child: %+v, %+v", said, template)
	}
	if said, _ := d.child(childOf("another", "acme")); said != nil {
		t.Errorf("it says of another's child: %+v", said)
	}
	running, waiting := ofFanOut(d.run("acme/f"), "f"), ofFanOut(d.run("globex/f"), "f")
	made := d.starts(running)
	d.waits(waiting)
	d.requested = nil
	d.RemoveFanOut("f")
	d.expectRequests("globex/f")
	d.running(1)
	d.jobChanged(ended(made, batchv1.JobComplete))
	d.waits(waiting)
	d.running(0)
	if said, _ := d.child(childOf("fan-out f", "globex")); said != nil {
		t.Errorf("it says of its child: %+v", said)
	}
	d.RemoveFanOut("f") // and once more
}
