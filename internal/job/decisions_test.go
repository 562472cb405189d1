package job

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

func TestMaxWait(t *testing.T) {
	cases := map[string]struct {
		given change
		want  time.Duration
	}{
		"without a limit":     {func(*Observed) {}, 0},
		"its own":             {maxWait(new(int32(60)), nil), time.Minute},
		"the template's":      {maxWait(nil, new(int32(60))), time.Minute},
		"its own comes first": {maxWait(new(int32(60)), new(int32(1))), time.Minute},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o := newObserved()
			tc.given(&o)
			if got := MaxWait(o.TenantJob, o.Template); got != tc.want {
				t.Errorf("MaxWait: %s, want %s", got, tc.want)
			}
		})
	}
}

func TestNameTaken(t *testing.T) {
	owned := func(kind, name string) func(*batchv1.Job) {
		return func(j *batchv1.Job) {
			j.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: name, UID: "other-uid", Controller: new(true)}}
		}
	}
	conflict := Decision{Status: isFalse, Reason: v1alpha1.ReasonNameConflict, Progress: conditions.Stalled,
		Message: "there is a Job report-8231 that is not this TenantJob's: delete it, or create the TenantJob under another name"}
	wait := Decision{Status: unknown, Reason: v1alpha1.ReasonPending, Progress: conditions.Reconciling, RequeueAfter: SettleAfter,
		Message: "the Job of an earlier TenantJob of this name is still being deleted"}
	cases := map[string]struct {
		other func(*batchv1.Job)
		want  Decision
	}{
		"a foreign Job":                        {func(*batchv1.Job) {}, conflict},
		"a CronJob's":                          {owned("CronJob", "report-8231"), conflict},
		"of another TenantJob":                 {owned("TenantJob", "another"), conflict},
		"of an earlier TenantJob of this name": {owned("TenantJob", "report-8231"), wait},
		"a foreign Job that is being deleted":  {beingDeleted, wait},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			other := newJob()
			tc.other(other)
			if diff := cmp.Diff(tc.want, NameTaken(newObserved(), other)); diff != "" {
				t.Errorf("NameTaken (-want, +got):\n%s", diff)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	want := Decision{Status: isFalse, Reason: v1alpha1.ReasonJobFailed, Message: "the API server refused the Job: x", Progress: conditions.Stalled}
	if diff := cmp.Diff(want, Refused("x")); diff != "" {
		t.Errorf("Refused (-want, +got):\n%s", diff)
	}
}

func TestNeedsPods(t *testing.T) {
	cases := map[string]struct {
		given change
		want  bool
	}{
		"no Job":                                {func(*Observed) {}, false},
		"starting":                              {withJob(), true},
		"before SettleAfter":                    {withJob(createdAgo(time.Second)), false},
		"the Job controller has not handled it": {withJob(func(j *batchv1.Job) { j.Status.StartTime = nil }), false},
		"running":                               {withJob(podReady), false},
		"running, to be stopped":                {all(withJob(podReady), suspend(v1alpha1.SuspendPolicyStop)), false},
		"running, to be drained":                {all(withJob(podReady), suspend(v1alpha1.SuspendPolicyDrain)), true},
		"before SettleAfter, to be drained":     {all(withJob(createdAgo(0)), suspend(v1alpha1.SuspendPolicyDrain)), true},
		"running without a tenant":              {all(withJob(podReady), noTenant), false},
		"complete":                              {withJob(completed), false},
		"failed, for the exit code":             {withJob(failedWith("", "")), true},
		"failed, and the status says so":        {all(withJob(failedWith("", "")), withCondition(isFalse, v1alpha1.ReasonJobFailed, "")), false},
		"about to be complete":                  {withJob(aboutTo(batchv1.JobSuccessCriteriaMet)), false},
		"about to fail":                         {withJob(failing("")), true},
		"running, and the status says that it is restarted":   {all(withJob(podReady), said(v1alpha1.ReasonRunning, crashes)), true},
		"running, and the status says so":                     {all(withJob(podReady), said(v1alpha1.ReasonRunning, "a pod is running")), false},
		"running, and the status says that it waits for it":   {all(withJob(podReady), said(v1alpha1.ReasonStarting, "waiting for its pod")), false},
		"running, and the status says what it waited for":     {all(withJob(podReady), said(v1alpha1.ReasonQueued, "a limit")), false},
		"running again, and the status says who suspended it": {all(withJob(podReady), said(v1alpha1.ReasonStarting, "its Job is suspended by x")), false},
		"suspended by others":                                 {withJob(heldBack, createdAgo(time.Hour)), false},
		"its Job is being deleted":                            {withJob(beingDeleted), false},
		"over before its Job":                                 {all(withJob(), withCondition(isFalse, v1alpha1.ReasonCancelled, "")), false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o := newObserved()
			tc.given(&o)
			if diff := cmp.Diff(tc.want, NeedsPods(o, now)); diff != "" {
				t.Errorf("NeedsPods (-want, +got):\n%s", diff)
			}
		})
	}
}
