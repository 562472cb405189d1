package jobs

import (
	"errors"
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
)

// TestLimitTrouble: a fan-out's child that its tenant's trouble keeps from starting ends, one that waits for something else and one
// that a person has created do not.
func TestLimitTrouble(t *testing.T) {
	refused := job.Queued("the API server refuses the Job: exceeded quota")
	refused.Trouble = job.TenantsTrouble
	for name, tc := range map[string]struct {
		change func(*job.Observed)
		wait   job.Decision
		err    error
		// after is how long it waits. Zero is for ever.
		after time.Duration
	}{
		"refused":             {wait: refused, after: 2 * time.Minute},
		"by hand":             {change: func(o *job.Observed) { o.FanOut = nil }, wait: refused},
		"a limit":             {wait: job.Queued("queue slow is full")},
		"paused":              {change: func(o *job.Observed) { o.FanOut.Paused = true }, wait: refused},
		"it has a Job":        {change: func(o *job.Observed) { o.Job = &batchv1.Job{} }, wait: refused},
		"it was started":      {change: func(o *job.Observed) { o.Started = true }, wait: refused},
		"an error each time":  {err: errors.New("no answer"), after: 10 * time.Minute},
		"an error of one run": {change: func(o *job.Observed) { o.FanOut = nil }, err: errors.New("no answer")},
	} {
		t.Run(name, func(t *testing.T) {
			var clocks troubles
			now := time.Now()
			o := job.Observed{TenantJob: &v1alpha1.TenantJob{}, FanOut: &job.FanOut{Name: "nightly"}}
			if tc.change != nil {
				tc.change(&o)
			}
			for passed := time.Duration(0); passed < time.Hour; passed += 30 * time.Second {
				d, err := clocks.limitTrouble(o, tc.wait, tc.err, now.Add(passed))
				switch ends := tc.after > 0 && passed >= tc.after; {
				case job.Ends(d) != ends:
					t.Fatalf("after %v: %+v", passed, d)
				case ends && (err != nil || d.Reason != v1alpha1.ReasonPodsRefused):
					t.Fatalf("it ends with %+v, %v", d, err)
				case ends:
					return
				case !errors.Is(err, tc.err):
					t.Fatalf("the error is %v", err)
				}
			}
		})
	}
}

// TestTroublesAreForgotten: the clocks of TenantJobs that are gone do not pile up, and another TenantJob of the name has its own.
func TestTroublesAreForgotten(t *testing.T) {
	var clocks troubles
	refused := job.Queued("x")
	refused.Trouble = job.TenantsTrouble
	now := time.Now()
	for i := range 5000 {
		o := job.Observed{TenantJob: &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(i)}}, FanOut: &job.FanOut{}}
		_, _ = clocks.limitTrouble(o, refused, nil, now.Add(time.Duration(i)*time.Minute))
	}
	if n := len(clocks.clocks); n > 200 {
		t.Errorf("%d clocks", n)
	}
	for i := range 10 {
		o := job.Observed{TenantJob: &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{Name: "same", UID: types.UID(fmt.Sprint(i))}}, FanOut: &job.FanOut{}}
		if d, _ := clocks.limitTrouble(o, refused, nil, now.Add(time.Duration(i)*30*time.Second)); job.Ends(d) {
			t.Errorf("the time of others counts for %d", i)
		}
	}
}
