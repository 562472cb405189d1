package job

import (
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

// finished applies when the Job has ended.
func finished(o Observed, _ time.Time) *Decision {
	if o.Job == nil {
		return nil
	}
	condition := finalCondition(o.Job)
	if condition == nil {
		return nil
	}
	if condition.Type == batchv1.JobComplete {
		return &Decision{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonCompleted, Message: "the Job completed", Progress: conditions.Current}
	}
	reason := v1alpha1.ReasonJobFailed
	if condition.Reason == batchv1.JobReasonDeadlineExceeded {
		reason = v1alpha1.ReasonDeadlineExceeded
	}
	message := firstNonBlank(condition.Message, "the Job failed")
	if o.Pods != nil && o.Pods.Exit != "" {
		message += ": " + o.Pods.Exit
	}
	return endsWith(reason, conditions.Stalled, message)
}

// ending applies when the Job controller knows how the Job ends, and reports it when the pods are gone and counted.
func ending(o Observed, _ time.Time) *Decision {
	if !hasOutcome(o.Job) {
		return nil
	}
	return &Decision{}
}

// vanished applies when the Job was created and is deleted, or being deleted, without an outcome. It does not wait for ever for a Job
// that is being deleted: somebody's finalizer may hold it.
func vanished(o Observed, now time.Time) *Decision {
	switch {
	case o.Job != nil && o.Job.DeletionTimestamp != nil:
		left := o.Job.DeletionTimestamp.Add(UnclearAfter).Sub(now)
		if left <= 0 {
			return endsWith(v1alpha1.ReasonDeleted, conditions.Stalled, "the Job was deleted before it finished, and is not gone after ten minutes; create another TenantJob to run it again")
		}
		return &Decision{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonRunning, Message: "the Job is being deleted", Progress: conditions.Reconciling, RequeueAfter: left}
	case o.Job == nil && o.wasStarted():
		return endsWith(v1alpha1.ReasonDeleted, conditions.Stalled, "the Job was deleted before it finished; create another TenantJob to run it again")
	}
	return nil
}

// suspended applies when the Job runs and the tenant is suspended: the run is stopped, unless the policy Drain lets its
// pods finish. A run that needs another pod is stopped even then, since the API server refuses the pod.
func suspended(o Observed, _ time.Time) *Decision {
	if o.Job == nil || !tenantSuspends(o) {
		return nil
	}
	if o.Tenant.Spec.SuspendPolicy == v1alpha1.SuspendPolicyDrain && o.Pods != nil && drains(o.Job, o.Pods) {
		return &Decision{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonRunning, Progress: conditions.Reconciling, RequeueAfter: PollInterval,
			Message: fmt.Sprintf("tenant %s is being suspended; its running pods may finish", o.Tenant.Name)}
	}
	return endsWith(v1alpha1.ReasonStoppedBySuspension, conditions.Stalled, fmt.Sprintf("tenant %s was suspended; create another TenantJob when it is active again", o.Tenant.Name))
}

// drains says whether a Job may finish with the pods that it has: one runs, or all have ended and the Job controller has
// not reported the result yet.
func drains(j *batchv1.Job, pods *Pods) bool {
	return pods.Running > 0 || pods.Pending == 0 && (j.Status.Active > 0 || uncounted(j) > 0)
}

// halted applies when somebody has suspended the Job, which the operator never does: the Job would hold its slot, and its fan-out, for
// ever, since its activeDeadlineSeconds do not count then.
func halted(o Observed, now time.Time) *Decision {
	if o.Job == nil {
		return nil
	}
	since := suspendedSince(o.Job)
	left := since.Add(RefusedAfter).Sub(now)
	switch {
	case since.IsZero():
		return nil
	case left > 0:
		return afterSettling(o, now, Decision{
			Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonStarting, Progress: conditions.Reconciling, RequeueAfter: left,
			Message: "somebody has suspended the Job (`spec.suspend`)",
		})
	}
	return endsWith(v1alpha1.ReasonPodsRefused, conditions.Stalled, "no pod for two minutes: somebody has suspended the Job (`spec.suspend`)")
}

// refused applies when the Job has had no pod for RefusedAfter. A Job without a startTime was not handled by the Job
// controller yet, which can take long when very many Jobs are created at once. A pod that has ended and is not counted yet
// is not a missing pod.
func refused(o Observed, now time.Time) *Decision {
	if o.Job == nil || jobRuns(o.Job) || o.Job.Status.Active > 0 || o.Job.Status.StartTime == nil || uncounted(o.Job) > 0 {
		return nil
	}
	status := o.Job.Status
	since, why := status.StartTime.Time, "the Job has no pod"
	neverHadPod := status.Failed == 0 && status.Succeeded == 0 && terminating(o.Job) == 0
	switch {
	case o.Pods != nil && o.Pods.Refused != "":
		why = o.Pods.Refused
		if !neverHadPod {
			since = o.Pods.RefusedSince
		}
	case !neverHadPod: // The Job controller waits before it creates the next pod.
		return nil
	}
	if now.Sub(since) < RefusedAfter {
		return nil
	}
	return endsWith(v1alpha1.ReasonPodsRefused, conditions.Stalled, fmt.Sprintf("no pod for two minutes: %s", why))
}

// running applies to every other TenantJob that has a Job.
func running(o Observed, now time.Time) *Decision {
	if o.Job == nil {
		return nil
	}
	if jobRuns(o.Job) || o.Pods != nil && o.Pods.Running > 0 {
		return afterSettling(o, now, Decision{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonRunning, Message: "a pod is running", Progress: conditions.Reconciling})
	}
	message := "waiting for its pod"
	switch {
	case o.Pods == nil:
	case o.Pods.Refused != "":
		message = "its pod is refused: " + o.Pods.Refused
	case o.Pods.Waiting != "":
		message = o.Pods.Waiting
	}
	return afterSettling(o, now, Decision{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonStarting, Message: message, Progress: conditions.Reconciling, RequeueAfter: nextPoll(o.Job, now)})
}

// nextPoll returns after which time to read the pods of a Job again that is still starting. The interval grows with the
// time that the start takes, so that thousands of pods without a node cost few requests. Zero means never: a change of the
// Job's status shows when the Job controller has handled the Job.
func nextPoll(j *batchv1.Job, now time.Time) time.Duration {
	const longest = 5 * time.Minute
	if j.Status.StartTime == nil {
		return 0
	}
	age := now.Sub(j.Status.StartTime.Time)
	after := min(max(PollInterval, age/4), longest)
	if left := RefusedAfter - age; left > 0 {
		after = min(after, left)
	}
	return after
}

// afterSettling returns a decision, or one that leaves the status as it is until SettleAfter has passed.
func afterSettling(o Observed, now time.Time, d Decision) *Decision {
	if left := o.Job.CreationTimestamp.Add(SettleAfter).Sub(now); left > 0 {
		return &Decision{RequeueAfter: left}
	}
	return &d
}
