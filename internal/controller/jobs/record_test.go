package jobs

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
)

// TestChildOutcome: the outcome of a child counts for the fan-out that knows it, whatever owner somebody has written.
func TestChildOutcome(t *testing.T) {
	knows := &job.FanOut{Name: "nightly", UID: "real"}
	for name, tc := range map[string]struct {
		owner  types.UID
		fanOut *job.FanOut
		reason string
		want   types.UID
	}{
		"its own":                     {"real", knows, v1alpha1.ReasonDeleted, "real"},
		"another one":                 {"forged", knows, v1alpha1.ReasonDeleted, "real"},
		"none":                        {"", knows, v1alpha1.ReasonDeleted, "real"},
		"of a fan-out not read yet":   {"real", &job.FanOut{}, v1alpha1.ReasonDeleted, "real"},
		"of a fan-out that is over":   {"real", nil, v1alpha1.ReasonDeleted, "real"},
		"in a namespace of another's": {"real", knows, v1alpha1.ReasonTenantMismatch, ""},
		"nobody's":                    {"", nil, v1alpha1.ReasonDeleted, ""},
	} {
		tj := &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{Name: "nightly"}}
		tj.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionSucceeded, Status: metav1.ConditionFalse, Reason: tc.reason}}
		if tc.owner != "" {
			tj.OwnerReferences = []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: "TenantFanOut", Name: "nightly", UID: tc.owner, Controller: new(true)}}
		}
		got := types.UID("")
		if outcome := childOutcome(tj, tc.fanOut); outcome != nil {
			got = outcome.UID
		}
		if got != tc.want {
			t.Errorf("%s: it counts for %q, want %q", name, got, tc.want)
		}
	}
}

// TestRecordWaited: maxWaitSeconds counts the time in which limits hold a TenantJob, and not that in which nobody could start it.
func TestRecordWaited(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *metav1.Time { return &metav1.Time{Time: now.Add(-d)} }
	status := func(seconds int32, since *metav1.Time) v1alpha1.TenantJobStatus {
		return v1alpha1.TenantJobStatus{QueuedSeconds: seconds, QueuedTime: since}
	}
	counts := func(before time.Duration) *job.Waited { return &job.Waited{Before: before, Counts: true} }
	away := interval{now.Add(-time.Hour), now.Add(-time.Second)}
	for name, tc := range map[string]struct {
		status  v1alpha1.TenantJobStatus
		waited  *job.Waited
		absence interval
		// before is what counts when it asks, want the status after that.
		before time.Duration
		want   v1alpha1.TenantJobStatus
	}{
		"a limit begins to hold it":           {status(0, nil), counts(3 * time.Second), interval{}, 0, status(3, ago(0))},
		"the limit goes on to hold it":        {status(3, ago(time.Minute)), counts(time.Second), interval{}, 63 * time.Second, status(3, ago(time.Minute))},
		"another thing holds it":              {status(3, ago(time.Minute)), &job.Waited{Before: 50 * time.Second}, interval{}, 63 * time.Second, status(50, nil)},
		"no limit holds it":                   {status(3, ago(time.Minute)), nil, interval{}, 63 * time.Second, status(63, nil)},
		"it never was held":                   {status(0, nil), nil, away, 0, status(0, nil)},
		"nobody was there":                    {status(0, ago(2*time.Hour)), counts(time.Hour + time.Second), away, time.Hour + time.Second, status(3601, ago(0))},
		"nobody was there, and it may start":  {status(0, ago(2*time.Hour)), nil, away, time.Hour + time.Second, status(3601, nil)},
		"nobody had been there before":        {status(0, ago(time.Second)), counts(0), away, time.Second, status(0, ago(time.Second))},
		"nobody was there when it was queued": {status(0, ago(time.Minute)), counts(0), away, time.Second, status(0, ago(0))},
		"nobody was there for a moment":       {status(0, ago(time.Minute)), counts(0), interval{now.Add(-10 * time.Second), now}, 50 * time.Second, status(0, ago(time.Minute))},
	} {
		t.Run(name, func(t *testing.T) {
			if got := waited(&tc.status, tc.absence, now); got != tc.before {
				t.Errorf("it has waited for %v, want %v", got, tc.before)
			}
			recordWaited(&tc.status, tc.waited, tc.absence, now)
			if diff := cmp.Diff(tc.want, tc.status); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestRecordAccepted: the status of one that waits says that its template has accepted it, as long as its status is written anyway.
func TestRecordAccepted(t *testing.T) {
	template := func(ready metav1.ConditionStatus) *v1alpha1.TenantJobTemplate {
		o := &v1alpha1.TenantJobTemplate{}
		o.Name, o.Generation = "report", 4
		o.Spec.Parameters = []v1alpha1.Parameter{{Name: "days"}}
		o.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: ready, ObservedGeneration: 4}}
		return o
	}
	longName := func(o *job.Observed) {
		o.Template.Spec.JobTemplate.Spec.CompletionMode = new(batchv1.IndexedCompletion)
		o.TenantJob.Name = strings.Repeat("x", 62)
	}
	waits := job.Decision{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonNotYetDue, Message: "x"}
	for name, tc := range map[string]struct {
		change   func(*job.Observed)
		decision job.Decision
		want     int64
	}{
		"it waits":                     {func(*job.Observed) {}, waits, 4},
		"it was accepted before":       {func(o *job.Observed) { o.TenantJob.Status.TemplateGeneration = 3 }, waits, 3},
		"nothing is written":           {func(*job.Observed) {}, job.Decision{}, 0},
		"it is over":                   {func(*job.Observed) {}, job.Decision{Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonCancelled}, 0},
		"there is no template":         {func(o *job.Observed) { o.Template = nil }, waits, 0},
		"the template can't run":       {func(o *job.Observed) { o.Template = template(metav1.ConditionFalse) }, waits, 0},
		"the template is changed":      {func(o *job.Observed) { o.Template.Generation = 5 }, waits, 0},
		"it is not accepted":           {func(o *job.Observed) { o.Template.Spec.Parameters = nil }, waits, 0},
		"its name is too long":         {longName, waits, 0},
		"it is the child of a fan-out": {func(o *job.Observed) { o.FanOut = &job.FanOut{} }, waits, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o := job.Observed{TenantJob: &v1alpha1.TenantJob{}, Template: template(metav1.ConditionTrue)}
			o.TenantJob.Spec.Parameters = map[string]v1alpha1.ParameterValue{"days": "3"}
			tc.change(&o)
			record(o, tc.decision, interval{}, time.Now())
			if got := o.TenantJob.Status.TemplateGeneration; got != tc.want {
				t.Errorf("accepted by generation %d, want %d", got, tc.want)
			}
		})
	}
}
