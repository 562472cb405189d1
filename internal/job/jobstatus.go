package job

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// Ended says whether a Job has ended.
func Ended(j *batchv1.Job) bool { return finalCondition(j) != nil }

// IsLive says whether a Job holds its slot: it has not ended, or some of its pods have not.
func IsLive(j *batchv1.Job) bool {
	return !Ended(j) || terminating(j) > 0
}

// CompletionTime returns when a run ended: when its Job did, or now when it has no Job that has ended. A Job that failed
// has no completionTime, only a condition. Where there are both, the completionTime counts, since they may differ by a
// second.
func CompletionTime(j *batchv1.Job, now time.Time) *metav1.Time {
	if j != nil {
		if j.Status.CompletionTime != nil {
			return j.Status.CompletionTime.DeepCopy()
		}
		if condition := finalCondition(j); condition != nil {
			return condition.LastTransitionTime.DeepCopy()
		}
	}
	return &metav1.Time{Time: now}
}

// finalCondition returns the condition that says how a Job has ended, nil when it has not.
func finalCondition(j *batchv1.Job) *batchv1.JobCondition {
	for i, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return &j.Status.Conditions[i]
		}
	}
	return nil
}

// hasOutcome says whether the Job controller knows how a Job ends: it has ended, or it will as soon as its pods are gone
// and counted. Nothing changes that any more. It is false when there is no Job.
func hasOutcome(j *batchv1.Job) bool {
	return j != nil && slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
		switch c.Type {
		case batchv1.JobComplete, batchv1.JobSuccessCriteriaMet, batchv1.JobFailed, batchv1.JobFailureTarget:
			return c.Status == corev1.ConditionTrue
		}
		return false
	})
}

// suspendedSince is when a Job was suspended. It is zero when it is not.
func suspendedSince(j *batchv1.Job) time.Time {
	for _, c := range j.Status.Conditions {
		if c.Type == batchv1.JobSuspended && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// fails says whether the Job controller has decided that a Job fails.
func fails(j *batchv1.Job) bool {
	return isConditionTrue(j, batchv1.JobFailureTarget) || isConditionTrue(j, batchv1.JobFailed)
}

// IsSuspended says whether the Job controller has stopped a Job because its spec.suspend is true. The operator never sets that.
func IsSuspended(j *batchv1.Job) bool {
	return isConditionTrue(j, batchv1.JobSuspended) && !hasOutcome(j)
}

func isConditionTrue(j *batchv1.Job, conditionType batchv1.JobConditionType) bool {
	return slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Type == conditionType && c.Status == corev1.ConditionTrue
	})
}

// jobRuns says whether a Job has a pod that is ready. A pod without a readiness probe is ready as soon as it runs.
func jobRuns(j *batchv1.Job) bool { return ptr.Deref(j.Status.Ready, 0) > 0 }

// terminating is how many of a Job's pods are being deleted.
func terminating(j *batchv1.Job) int32 { return ptr.Deref(j.Status.Terminating, 0) }

// uncounted is how many of a Job's pods have ended and are in none of its counters yet.
func uncounted(j *batchv1.Job) int {
	pods := ptr.Deref(j.Status.UncountedTerminatedPods, batchv1.UncountedTerminatedPods{})
	return len(pods.Succeeded) + len(pods.Failed)
}
