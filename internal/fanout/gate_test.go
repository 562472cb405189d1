package fanout

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// A gate is applied as production does, to the first of two tenants while so many children run.
func TestGate(t *testing.T) {
	suspend := func(f *v1alpha1.TenantFanOut) { f.Spec.Suspend = new(true) }
	deleting := func(f *v1alpha1.TenantFanOut) { f.DeletionTimestamp = &metav1.Time{Time: testTime} }
	for name, tc := range map[string]struct {
		fanOut *v1alpha1.TenantFanOut
		// mark of the tenant. Zero means that its child was created.
		mark      byte
		unwritten bool
		end       string
		running   int
		want      string
	}{
		"free":                           {fanOut: givenFanOut(), running: 99},
		"not stored yet":                 {fanOut: givenFanOut(), unwritten: true, want: "the stored ledger does not have it"},
		"another wave is open":           {fanOut: givenFanOut(withWaves(labelWave("canary", "other"))), want: "its wave is not open"},
		"full":                           {fanOut: givenFanOut(withMaxConcurrent(2)), running: 2, want: "the fan-out is full"},
		"not full":                       {fanOut: givenFanOut(withMaxConcurrent(2)), running: 1},
		"a share of two that rounds up":  {fanOut: givenFanOut(withMaxConcurrent("1%"))},
		"a share of two that is one":     {fanOut: givenFanOut(withMaxConcurrent("99%")), running: 1, want: "the fan-out is full"},
		"suspended":                      {fanOut: givenFanOut(suspend), want: "fan-out nightly is paused"},
		"being deleted":                  {fanOut: givenFanOut(deleting), want: "fan-out nightly is being deleted"},
		"superseded":                     {fanOut: givenFanOut(), end: "Superseded", want: "end: Superseded"},
		"cancelled":                      {fanOut: givenFanOut(), end: "Cancelled", want: "end: Cancelled"},
		"appears with an outcome":        {fanOut: givenFanOut(), mark: 'X', want: "end: Deleted"},
		"an outcome wins over the end":   {fanOut: givenFanOut(), mark: 'X', end: "Superseded", want: "end: Deleted"},
		"the end wins over a suspension": {fanOut: givenFanOut(suspend), end: "Superseded", want: "end: Superseded"},
	} {
		t.Run(name, func(t *testing.T) {
			stored := NewLedger(givenPlan(t, tc.fanOut, []Tenant{tenant("acme"), tenant("globex", "other")}))
			known := stored.Clone()
			known.setMark(0, max(tc.mark, markCreated))
			if !tc.unwritten {
				stored = known
			}
			end, got := admission(NewGate(tc.fanOut, known, stored, tc.end), 0, "uid", tc.running)
			if end.Decided() {
				got = "end: " + end.Reason
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// A failure that is known and not stored yet counts.
func TestGateCountsAFailureAtOnce(t *testing.T) {
	fanOut := givenFanOut(withMaxFailures(1))
	stored := NewLedger(givenPlan(t, fanOut, givenTenants(5)))
	for i := range 5 {
		stored.setMark(i, markCreated)
	}
	known := stored.Clone()
	for failures, want := range []string{"", "", "fan-out nightly is paused"} {
		if _, got := admission(NewGate(fanOut, known, stored, ""), 4, "uid", 0); got != want {
			t.Errorf("after %d failures %q, want %q", failures, got, want)
		}
		known.Record(failures, failedWith("JobFailed"))
	}
}
