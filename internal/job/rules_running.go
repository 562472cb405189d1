package job

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

// finished applies when the Job has ended.
func finished(o Observed, now time.Time) *Decision {
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
	message := joined(firstNonBlank(podInMessage.ReplaceAllString(condition.Message, "$1"), "the Job failed"), o.whyItFailed(now))
	if failed := ptr.Deref(o.Job.Status.FailedIndexes, ""); failed != "" {
		message += "; failed indexes: " + conditions.Cut(failed, maxIndexes)
	}
	if o.namespaceGoes() {
		message += "; namespace " + o.TenantJob.Namespace + " is being deleted"
	}
	return endsWith(reason, conditions.Stalled, message)
}

// podInMessage is the name of the pod in the Job controller's messages about a podFailurePolicy. It is random.
var podInMessage = regexp.MustCompile(` for pod \S+|^(Pod) \S+`)

// maxIndexes is how much of the list of failed indexes a status message has, in bytes.
const maxIndexes = 100

// whyItFailed returns what the pods say about the failure of their Job, else what they said while they were there. It is empty when
// they never said anything.
func (o Observed) whyItFailed(now time.Time) string {
	if o.Pods != nil && o.Pods.Exit != "" && !o.Pods.ExitFades {
		return o.Pods.Exit
	}
	said := o.saidOfPods()
	if o.Pods != nil {
		said = firstNonBlank(said, o.Pods.Exit)
	}
	if said == messageStopping || said == "" && o.lostItsPod(now) {
		return "its pod was deleted"
	}
	return said
}

// lostItsPod says whether a Job has just failed since somebody has deleted its pod. The Job controller keeps the pods that have ended.
// It deletes those that run when the deadline has passed, or when it does not count pods but restarts of containers.
func (o Observed) lostItsPod(now time.Time) bool {
	failed := finalCondition(o.Job)
	return o.Pods != nil && o.Pods.None && failed.Reason != batchv1.JobReasonDeadlineExceeded && now.Sub(failed.LastTransitionTime.Time) < RefusedAfter &&
		o.Template != nil && o.Template.Spec.JobTemplate.Spec.Template.Spec.RestartPolicy == corev1.RestartPolicyNever
}

// Status messages about a run whose pods say nothing.
const (
	messageRuns     = "a pod is running"
	messageStarts   = "waiting for its pod"
	messageStopping = "its pod was deleted and is still stopping"
	messageDeleting = "the Job is being deleted"
	messageDrains   = "is being suspended; its running pods may finish"
)

// saidOfPods returns the status message of a run that has a Job if it is about pods. It is what is left of them when they are gone.
// It is empty when it is one of those above, or about a Job that is suspended.
func (o Observed) saidOfPods() string {
	c := conditions.Get(o.TenantJob.Status.Conditions, v1alpha1.ConditionSucceeded)
	isRun := c.Status == metav1.ConditionUnknown && (c.Reason == v1alpha1.ReasonStarting || c.Reason == v1alpha1.ReasonRunning)
	switch {
	case !isRun, c.Message == messageRuns, c.Message == messageStarts, c.Message == messageDeleting,
		strings.HasSuffix(c.Message, messageDrains), strings.HasPrefix(c.Message, suspensionPrefix):
		return ""
	}
	return c.Message
}

// namespaceGoes says whether the namespace is being deleted, with everything in it.
func (o Observed) namespaceGoes() bool { return o.Namespace != nil && o.Namespace.Deleting }

// ending applies when the Job controller knows how the Job ends, and reports it when the pods are gone and counted. What a pod says
// that is being deleted is put into the status before it is gone.
func ending(o Observed, _ time.Time) *Decision {
	switch {
	case !hasOutcome(o.Job):
		return nil
	case !fails(o.Job) || o.Pods == nil || !o.Pods.ExitFades || o.saidOfPods() != "":
		return &Decision{}
	}
	return &Decision{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonRunning, Message: o.Pods.Exit, Progress: conditions.Reconciling}
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
		return &Decision{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonRunning, Message: messageDeleting, Progress: conditions.Reconciling, RequeueAfter: left}
	case o.Job == nil && o.wasStarted() && o.namespaceGoes():
		return endsWith(v1alpha1.ReasonDeleted, conditions.Stalled, fmt.Sprintf("the Job was deleted before it finished, with namespace %s", o.TenantJob.Namespace))
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
			Message: fmt.Sprintf("tenant %s %s", o.Tenant.Name, messageDrains)}
	}
	return endsWith(v1alpha1.ReasonStoppedBySuspension, conditions.Stalled, fmt.Sprintf("tenant %s was suspended; create another TenantJob when it is active again", o.Tenant.Name))
}

// drains says whether a Job may finish with the pods that it has: one runs, or all have ended and the Job controller has
// not reported the result yet.
func drains(j *batchv1.Job, pods *Pods) bool {
	return pods.Running > 0 || pods.Pending == 0 && (j.Status.Active > 0 || uncounted(j) > 0)
}

// held applies when others have suspended the Job. It keeps its slot, since they may let it go on at any time. That does not last
// for ever: its activeDeadlineSeconds do not count meanwhile, others wait for the slot, and the end of a fan-out waits for its child.
func held(o Observed, now time.Time) *Decision {
	if o.Job == nil || !IsSuspended(o.Job) {
		return nil
	}
	message := firstNonBlank(o.Suspension, suspensionPrefix)
	limit, span := HeldAfter, "a day"
	if o.FanOut != nil {
		limit, span = UnclearAfter, "ten minutes"
	}
	left := suspendedSince(o.Job).Add(limit).Sub(now)
	if left <= 0 {
		return endsWith(v1alpha1.ReasonPodsRefused, conditions.Stalled, fmt.Sprintf("no pod for %s: %s", span, message))
	}
	d := waitsFor(v1alpha1.ReasonStarting, message)
	d.RequeueAfter = left
	return afterSettling(o, now, d)
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
		d := waitsFor(v1alpha1.ReasonRunning, messageRuns)
		if o.Pods != nil && o.Pods.Restarting != "" {
			d.Message, d.RequeueAfter = o.Pods.Restarting, nextPoll(o.Job, now)
		}
		return afterSettling(o, now, d)
	}
	message := messageStarts
	switch {
	case o.Pods == nil:
	case o.Pods.Refused != "":
		message = "its pod is refused: " + o.Pods.Refused
	case o.Pods.Waiting != "":
		message = o.Pods.Waiting
	case (o.Pods.Stopping > 0 || o.Pods.ExitFades) && o.Pods.Pending == 0:
		message = messageStopping
		if o.Pods.ExitFades {
			message = o.Pods.Exit
		}
	}
	d := waitsFor(v1alpha1.ReasonStarting, message)
	d.RequeueAfter = nextPoll(o.Job, now)
	return afterSettling(o, now, d)
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
