package fanout

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// The reasons count as the table in the design says.
func TestOutcomeOf(t *testing.T) {
	for counter, reasons := range map[Counter][]string{
		Failed: {
			"JobFailed", "DeadlineExceeded", "PodsRefused", "Expired", "CredentialsFailed", "InvalidParameters", "TenantMismatch",
			"NameConflict", "Deleted", "StoppedBySuspension",
			"Unheard", "Other", "Completed", // These do not end a run without success in this version.
		},
		Skipped: {"Cancelled", "Replaced", "Superseded", "Overlapped", "TenantSuspended", "TenantDeleted", "TenantNotReady"},
	} {
		for _, reason := range reasons {
			want := Outcome{counter, reason, "m"}
			if diff := cmp.Diff(want, OutcomeOf(metav1.ConditionFalse, reason, "m")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", reason, diff)
			}
		}
	}
	if got := OutcomeOf(metav1.ConditionTrue, "Completed", "m"); got != (Outcome{Counter: Succeeded, Reason: "Completed"}) {
		t.Errorf("True is %+v", got)
	}
	for _, reason := range []string{"TenantSuspended", "Running", ""} {
		if o := OutcomeOf(metav1.ConditionUnknown, reason, ""); o.Decided() {
			t.Errorf("Unknown %s is %+v", reason, o)
		}
	}
}

// What this package writes for one tenant, or one second, is in the singular.
func TestMessagesInTheSingular(t *testing.T) {
	messages := func(fanOut *v1alpha1.TenantFanOut, outcomes ...Outcome) map[string]string {
		l := NewLedger(givenPlan(t, fanOut, givenTenants(len(outcomes))))
		for i, o := range outcomes {
			l.Record(i, o)
		}
		got := map[string]string{}
		for _, c := range Decide(Observed{FanOut: fanOut, Ledger: l}, testTime).Status(testTime).Conditions {
			got[c.Type], _, _ = strings.Cut(c.Message, ":")
		}
		return map[string]string{"Planned": got["Planned"], "Succeeded": got["Succeeded"]}
	}
	failed := failedWith("JobFailed")
	for name, tc := range map[string]struct {
		fanOut   *v1alpha1.TenantFanOut
		outcomes []Outcome
		want     map[string]string
	}{
		"no tenant": {givenFanOut(), nil, map[string]string{
			"Planned": "0 tenants are planned", "Succeeded": "no tenant was selected",
		}},
		"one succeeded": {givenFanOut(), []Outcome{completed("")}, map[string]string{
			"Planned": "1 tenant is planned", "Succeeded": "1 of 1 tenant succeeded",
		}},
		"one of two failed": {givenFanOut(withMaxFailures(0)), []Outcome{completed(""), failed}, map[string]string{
			"Planned": "2 tenants are planned", "Succeeded": "1 of 2 tenants succeeded, 1 failed; more than 0 of the 2 tenants failed",
		}},
		"the only one failed": {givenFanOut(withMaxFailures(0)), []Outcome{failed}, map[string]string{
			"Planned": "1 tenant is planned", "Succeeded": "0 of 1 tenant succeeded, 1 failed; the only tenant failed",
		}},
		"the only one of a wave failed": {
			givenFanOut(withWaves(sizeWave("canary", 1, 0))), []Outcome{failed}, map[string]string{
				"Planned": "1 tenant is planned", "Succeeded": "0 of 1 tenant succeeded, 1 failed; the only tenant in wave canary failed",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, messages(tc.fanOut, tc.outcomes...)); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
		})
	}
	for deadline, want := range map[time.Duration]string{time.Second: "more than 1 second ago", time.Minute: "more than 60 seconds ago"} {
		if got := late(deadline).Message; !strings.Contains(got, want) {
			t.Errorf("%q does not contain %q", got, want)
		}
	}
}
