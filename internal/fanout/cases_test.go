package fanout

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// The numbers are those of the cases in the design.

func TestCase07ForeignObjectHasTheName(t *testing.T) {
	w := newWorld(t, givenFanOut(), givenTenants(20))
	w.newChild("tenant-00007", child{foreign: true})
	status := w.run(completed)
	want := []v1alpha1.ReasonCount{{Reason: v1alpha1.ReasonNameConflict, Count: 1}}
	if got := describe(status.Counts); got != "0 waiting, 0 running, 19 succeeded, 1 failed, 0 skipped of 20" {
		t.Error(got)
	}
	if diff := cmp.Diff(want, status.Reasons); diff != "" || status.UnsuccessfulTenants[0].Tenant != "tenant-00007" {
		t.Errorf("of %+v, reasons -want +got:\n%s", status.UnsuccessfulTenants, diff)
	}
}

func TestCase08DeletedWhileNoLeaderRuns(t *testing.T) {
	w := newWorld(t, givenFanOut(), givenTenants(3))
	l := newLeader(w)
	l.pass(neverDies)
	l.pass(neverDies)
	if !w.dispatch("tenant-00001") {
		_, held := admission(w.gate(), 1, w.children["tenant-00001"].uid, 0)
		t.Fatalf("it can't start: %s", held)
	}
	w.delete("tenant-00001")
	status := w.run(completed)
	if got := describe(status.Counts); got != "0 waiting, 0 running, 2 succeeded, 1 failed, 0 skipped of 3" {
		t.Error(got)
	}
	if got := status.UnsuccessfulTenants[0]; got.Reason != v1alpha1.ReasonDeleted || w.created["tenant-00001"] != 1 {
		t.Errorf("%+v, created %d times", got, w.created["tenant-00001"])
	}
}

func TestCase09TenantsChangeBeforeTheStart(t *testing.T) {
	for name, delayed := range map[string]bool{"before they are created": true, "after they were created": false} {
		t.Run(name, func(t *testing.T) {
			tenants := givenTenants(1050)
			w := newWorld(t, givenFanOut(), tenants[:1000])
			if delayed {
				for _, tn := range w.tenants {
					tn.NotBefore = testTime.Add(time.Hour)
					w.tenants[tn.Name] = tn
				}
			}
			l := newLeader(w)
			l.pass(neverDies)
			l.pass(neverDies)
			for i, tn := range tenants {
				switch {
				case i < 20: // the tenant is deleted with its namespace
					delete(w.tenants, tn.Name)
					w.delete(tn.Name)
				case i < 25:
					w.tenants[tn.Name] = in(Suspended, w.tenants[tn.Name])
				case i >= 1000:
					w.tenants[tn.Name] = tn
				}
			}
			status := w.run(completed)
			if got := describe(status.Counts); got != "0 waiting, 0 running, 975 succeeded, 0 failed, 25 skipped of 1000" {
				t.Error(got)
			}
			want := []v1alpha1.ReasonCount{{Reason: v1alpha1.ReasonTenantDeleted, Count: 20}, {Reason: v1alpha1.ReasonTenantSuspended, Count: 5}}
			if diff := cmp.Diff(want, status.Reasons); diff != "" {
				t.Errorf("reasons -want +got:\n%s", diff)
			}
		})
	}
}

func TestCase10Waves(t *testing.T) {
	w := newWorld(t, givenFanOut(
		withWaves(sizeWave("canary", 10, 0), sizeWave("second", 300, "5%")), withMaxConcurrent(50),
	), givenTenants(1000))
	l := newLeader(w)
	step := func(failures int) v1alpha1.TenantFanOutStatus {
		l.sync()
		l.pass(neverDies)
		w.dispatch()
		for _, name := range slices.Sorted(maps.Keys(w.children)) {
			if c := w.children[name]; c.started && !c.outcome.Decided() && failures > 0 {
				w.finish(name, failedWith(v1alpha1.ReasonJobFailed))
				failures--
			}
		}
		return w.fanOut.Status
	}
	expect := func(when string, status v1alpha1.TenantFanOutStatus, wave, paused, counts string) {
		t.Helper()
		got := []string{status.Wave, condition(status.Conditions, v1alpha1.ConditionPaused), describe(status.Counts)}
		if diff := cmp.Diff([]string{wave, paused, counts}, got); diff != "" {
			t.Fatalf("%s -want +got:\n%s", when, diff)
		}
	}
	resume := func() {
		w.suspend(true)
		step(0)
		expect("suspended", w.fanOut.Status, w.fanOut.Status.Wave, "True Suspended", describe(w.fanOut.Status.Counts))
		w.suspend(false)
	}
	step(0)
	step(1) // One canary fails, the others complete.
	for name := range w.children {
		w.finish(name, completed(name))
	}
	step(0)
	expect("one canary failed", step(0), "canary", "True FailureBudgetExceeded", "990 waiting, 0 running, 9 succeeded, 1 failed, 0 skipped of 1000")
	if len(w.children) != 10 {
		t.Fatalf("%d children are created", len(w.children))
	}

	resume()
	step(0)
	step(0)
	expect("resumed", step(0), "second", "False Active", "940 waiting, 50 running, 9 succeeded, 1 failed, 0 skipped of 1000")
	step(15)
	step(0) // Others take the free slots.
	expect("fifteen failed", step(0), "second", "False Active", "925 waiting, 50 running, 9 succeeded, 16 failed, 0 skipped of 1000")
	step(1)
	ran := len(w.ran)
	expect("sixteen failed", step(0), "second", "True FailureBudgetExceeded", "925 waiting, 49 running, 9 succeeded, 17 failed, 0 skipped of 1000")
	step(0)
	for name := range w.children {
		w.finish(name, completed(name))
	}
	expect("those in flight finished", step(0), "second", "True FailureBudgetExceeded", "925 waiting, 0 running, 58 succeeded, 17 failed, 0 skipped of 1000")
	if len(w.ran) != ran {
		t.Errorf("%d more started", len(w.ran)-ran)
	}

	resume()
	status := w.run(completed)
	expect("at the end", status, "", "False Active", "0 waiting, 0 running, 983 succeeded, 17 failed, 0 skipped of 1000")
	if got := condition(status.Conditions, v1alpha1.ConditionSucceeded); got != "False TooManyFailed" {
		t.Error(got)
	}
}

// A person creates the children of the later waves by hand while the first wave is open.
func TestForgedChildrenWaitForTheirWave(t *testing.T) {
	w := newWorld(t, givenFanOut(withWaves(sizeWave("first", 5, 0), sizeWave("second", 5, 0))), givenTenants(15))
	newLeader(w).pass(neverDies)
	for name := range w.tenants {
		w.forge(name)
	}
	status := w.run(completed)
	if got := describe(status.Counts); got != "0 waiting, 0 running, 15 succeeded, 0 failed, 0 skipped of 15" || len(w.created) != 5 {
		t.Errorf("%s, and %d were created", got, len(w.created))
	}
}

func TestBudgetIsRaised(t *testing.T) {
	fails := func(name string) Outcome {
		if strings.HasSuffix(name, "0") {
			return failedWith(v1alpha1.ReasonJobFailed)
		}
		return completed(name)
	}
	w := newWorld(t, givenFanOut(withMaxFailures("5%"), withMaxConcurrent(20)), givenTenants(100))
	status := w.run(fails)
	if got := condition(status.Conditions, v1alpha1.ConditionSucceeded); got != "Unknown FailureBudgetExceeded" || status.Counts.Failed > 8 {
		t.Fatalf("%s with %s", got, describe(status.Counts))
	}
	w.fanOut = w.fanOut.DeepCopy()
	withMaxFailures("10%")(w.fanOut)
	status = w.run(fails)
	if got := condition(status.Conditions, v1alpha1.ConditionSucceeded); got != "True CompletedWithFailures" || status.Counts.Failed != 10 {
		t.Errorf("%s with %s", got, describe(status.Counts))
	}
}

// Suspending a fan-out that is within its budget accepts no failures.
func TestSuspendingWithinTheBudgetAcceptsNothing(t *testing.T) {
	fanOut := givenFanOut(withMaxFailures(2))
	fanOut.Spec.Suspend = new(true)
	l := NewLedger(givenPlan(t, fanOut, givenTenants(10)))
	l.Record(0, failedWith("JobFailed"))
	l.Record(1, failedWith("JobFailed"))
	d := Decide(Observed{FanOut: fanOut, Ledger: l}, testTime)
	if d.Ledger.accepted != 0 || d.Changed {
		t.Errorf("%d are accepted", d.Ledger.accepted)
	}
	// The third failure exceeds the budget and is accepted with the others, and so is the fourth.
	for i, want := range []int{3, 4} {
		d.Ledger.Record(2+i, failedWith("JobFailed"))
		d = Decide(Observed{FanOut: fanOut, Ledger: storedLedger(t, fanOut, d.Ledger)}, testTime)
		if d.Ledger.accepted != want || !d.Urgent || !d.Changed {
			t.Errorf("%d are accepted, want %d", d.Ledger.accepted, want)
		}
	}
	fanOut.Spec.Suspend = new(false)
	for i, want := range []string{"", "", v1alpha1.ReasonFailureBudgetExceeded} {
		d.Ledger.Record(4+i, failedWith("JobFailed"))
		if got := NewGate(fanOut, d.Ledger, d.Ledger, "").pause.reason; got != want {
			t.Errorf("after %d more: paused for %q, want %q", i+1, got, want)
		}
	}
}

func TestSupersededWhilePaused(t *testing.T) {
	w := newWorld(t, givenFanOut(withWaves(sizeWave("canary", 1, 0))), givenTenants(50))
	w.run(func(string) Outcome { return failedWith(v1alpha1.ReasonJobFailed) })
	w.end = v1alpha1.ReasonSuperseded
	status := w.run(completed)
	if got := condition(status.Conditions, v1alpha1.ConditionSucceeded); got != "False Superseded" || status.Counts.Skipped != 49 {
		t.Errorf("%s with %s", got, describe(status.Counts))
	}
}

func TestCase13TemplateIsEdited(t *testing.T) {
	w := newWorld(t, givenFanOut(withWaves(sizeWave("canary", 1, 0))), givenTenants(5))
	newLeader(w).pass(neverDies)
	w.template.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Image = "example.com/check:2"
	w.template.Generation++
	status := w.run(completed)
	p := w.readPlan()
	if image := p.Template.JobTemplate.Spec.Template.Spec.Containers[0].Image; image != "example.com/check:1" || status.TemplateGeneration != 4 {
		t.Errorf("the plan has image %s and generation %d", image, status.TemplateGeneration)
	}
}

func TestCase14RetryWithoutChildren(t *testing.T) {
	w := newWorld(t, givenFanOut(), givenTenants(100))
	w.run(func(name string) Outcome {
		if strings.HasSuffix(name, "3") {
			return failedWith(v1alpha1.ReasonJobFailed)
		}
		return completed(name)
	})
	clear(w.children)
	source := w.stored()
	retry, err := Seal(Request{
		FanOut: givenFanOut(withRetry()), Template: w.template, Tenants: slices.Collect(maps.Values(w.tenants)), Source: source,
	}, testTime)
	if err != nil || len(retry.Entries) != 10 || retry.Entries[9].Tenant != "tenant-00093" {
		t.Errorf("%d are retried: %v", len(retry.Entries), err)
	}
}
