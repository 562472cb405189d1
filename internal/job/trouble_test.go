package job

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

// TestTroubleClock: only time in trouble counts, the tenant's own for two minutes, other trouble for ten.
func TestTroubleClock(t *testing.T) {
	const none, tenants, unclear = NoTrouble, TenantsTrouble, UnclearTrouble
	type look struct {
		after   time.Duration
		trouble Trouble
	}
	every := func(d time.Duration, n int, trouble Trouble) []look {
		looks := []look{{0, trouble}}
		for range n {
			looks = append(looks, look{d, trouble})
		}
		return looks
	}
	for name, tc := range map[string]struct {
		looks []look
		left  time.Duration
	}{
		"at first":                            {every(0, 0, tenants), TroubleAfter},
		"the tenant's":                        {every(30*time.Second, 3, tenants), 30 * time.Second},
		"the tenant's, for as long as it may": {every(30*time.Second, 4, tenants), 0},
		"unclear":                             {every(30*time.Second, 4, unclear), 8 * time.Minute},
		"unclear, for as long as it may":      {every(30*time.Second, 20, unclear), 0},
		"none":                                {every(30*time.Second, 100, none), TroubleAfter},
		"a pause in between":                  {append(append(every(30*time.Second, 2, tenants), look{time.Second, none}, look{time.Hour, none}), every(30*time.Second, 1, tenants)...), 30 * time.Second},
		"the operator was away":               {append(every(30*time.Second, 1, tenants), look{20 * time.Hour, tenants}), TroubleAfter - 30*time.Second - longestTick},
		"the clock is put back":               {append(every(30*time.Second, 1, tenants), look{-time.Hour, tenants}), TroubleAfter - 30*time.Second},
		"first unclear, then the tenant's":    {append(every(30*time.Second, 4, unclear), look{30 * time.Second, tenants}, look{30 * time.Second, tenants}), 90 * time.Second},
		"mostly unclear":                      {append(every(30*time.Second, 19, unclear), look{0, tenants}), 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			var c TroubleClock
			at, left := now, time.Duration(0)
			for _, look := range tc.looks {
				at = at.Add(look.after)
				left = c.Tick(look.trouble, at)
			}
			if left != tc.left {
				t.Errorf("%v left, want %v", left, tc.left)
			}
		})
	}
}

// TestTroubleLimit: what a child that waits ends with, when it waits for nothing but its tenant.
func TestTroubleLimit(t *testing.T) {
	refused := Queued("the API server refuses the Job: exceeded quota")
	refused.Trouble = TenantsTrouble
	ready := func(status metav1.ConditionStatus, generation int64) func(*Observed) {
		return func(o *Observed) {
			o.Tenant.Generation = 3
			o.Tenant.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: status, Message: "m", ObservedGeneration: generation}}
		}
	}
	for name, tc := range map[string]struct {
		given  func(*Observed)
		wait   Decision
		reason string
		// after is how long it waits; zero is for ever.
		after   time.Duration
		message string
	}{
		"a Job that is refused":          {wait: refused, reason: v1alpha1.ReasonPodsRefused, after: TroubleAfter, message: "did not start for two minutes: the API server refuses the Job: exceeded quota"},
		"a limit":                        {wait: Queued("queue slow is full")},
		"not due":                        {wait: waitsFor(v1alpha1.ReasonNotYetDue, "x")},
		"a tenant that is wrong":         {ready("False", 3), waitsFor(v1alpha1.ReasonTenantNotReady, "tenant acme is not ready: m"), v1alpha1.ReasonTenantNotReady, TroubleAfter, "did not start for two minutes: tenant acme is not ready: m"},
		"a tenant being changed":         {ready("False", 2), waitsFor(v1alpha1.ReasonTenantNotReady, "x"), v1alpha1.ReasonTenantNotReady, UnclearAfter, "did not start for ten minutes: x"},
		"a tenant being made":            {ready("Unknown", 3), waitsFor(v1alpha1.ReasonTenantNotReady, "x"), v1alpha1.ReasonTenantNotReady, UnclearAfter, "did not start for ten minutes: x"},
		"no tenant":                      {func(o *Observed) { o.Tenant = nil }, waitsFor(v1alpha1.ReasonTenantNotReady, "x"), v1alpha1.ReasonTenantNotReady, UnclearAfter, "did not start for ten minutes: x"},
		"an earlier Job that stays":      {wait: waitsFor(v1alpha1.ReasonPending, "x"), reason: v1alpha1.ReasonNameConflict, after: UnclearAfter, message: "did not start for ten minutes: x"},
		"a tenant that is never resumed": {wait: waitsFor(v1alpha1.ReasonTenantSuspended, "x"), reason: v1alpha1.ReasonTenantSuspended, after: UnclearAfter, message: "did not start for ten minutes: x"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newObserved()
			if tc.given != nil {
				tc.given(&o)
			}
			var c TroubleClock
			d, passed := tc.wait, time.Duration(0)
			for ; passed <= time.Hour; passed += d.RequeueAfter {
				d = c.Limit(tc.wait, TroubleOf(o, tc.wait), now.Add(passed))
				if Ends(d) {
					break
				}
				if tc.after > 0 && (d.RequeueAfter == 0 || d.RequeueAfter > troublePoll) {
					t.Fatalf("looked at again after %v", d.RequeueAfter)
				}
				if d.RequeueAfter == 0 {
					d.RequeueAfter = time.Minute
				}
			}
			switch {
			case tc.after == 0 && Ends(d):
				t.Errorf("it ends after %v with %+v", passed, d)
			case tc.after == 0:
			case passed != tc.after:
				t.Errorf("it ends after %v, want %v", passed, tc.after)
			default:
				progress := conditions.Stalled
				if counter, _ := v1alpha1.CounterOf(tc.reason); counter == v1alpha1.CounterSkipped {
					progress = conditions.Current
				}
				want := Decision{Status: metav1.ConditionFalse, Reason: tc.reason, Message: tc.message, Progress: progress}
				if diff := cmp.Diff(want, d); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			}
		})
	}
}
