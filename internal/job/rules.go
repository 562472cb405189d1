package job

import (
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

func ended(o Observed, now time.Time) *Decision {
	if !isOver(o.TenantJob) {
		return nil
	}
	if o.Job != nil && o.Job.DeletionTimestamp == nil && finalCondition(o.Job) == nil {
		return &Decision{Action: ActionStop}
	}
	completed := meta.IsStatusConditionTrue(o.TenantJob.Status.Conditions, v1alpha1.ConditionSucceeded)
	if !completed || o.TenantJob.DeletionTimestamp != nil || o.Template == nil || o.Template.Spec.TTLSecondsAfterFinished == nil || o.TenantJob.Status.CompletionTime == nil {
		return &Decision{}
	}
	left := o.TenantJob.Status.CompletionTime.Add(seconds(*o.Template.Spec.TTLSecondsAfterFinished)).Sub(now)
	switch {
	case left > 0:
		return &Decision{After: left}
	case o.FanOut != nil && !o.FanOut.Recorded: // It is all that its fan-out has of the outcome.
		return &Decision{After: LookAgainAfter}
	}
	return &Decision{Action: ActionRemove}
}

// deleting: the garbage collector takes the Job along.
func deleting(o Observed, _ time.Time) *Decision {
	if o.TenantJob.DeletionTimestamp == nil {
		return nil
	}
	return &Decision{}
}

func mismatched(o Observed, _ time.Time) *Decision {
	want, namespace := o.TenantJob.Spec.TenantRef.Name, o.TenantJob.Namespace
	switch {
	case o.Namespace != nil && o.Namespace.Tenant != want:
		return over(v1alpha1.ReasonTenantMismatch, conditions.Stalled, fmt.Sprintf("namespace %s is tenant %s's: `spec.tenantRef.name` must be %s, or the TenantJob in the namespace of %s", namespace, o.Namespace.Tenant, o.Namespace.Tenant, want))
	case o.Tenant != nil && o.Tenant.NamespaceName() != namespace:
		return over(v1alpha1.ReasonTenantMismatch, conditions.Stalled, fmt.Sprintf("namespace %s is not tenant %s's: create the TenantJob in namespace %s", namespace, want, o.Tenant.NamespaceName()))
	}
	return nil
}

func cancelled(o Observed, _ time.Time) *Decision {
	if o.TenantJob.Spec.Cancel == nil || !*o.TenantJob.Spec.Cancel || o.Job != nil && decided(o.Job) {
		return nil
	}
	return over(v1alpha1.ReasonCancelled, conditions.Current, "cancelled by `spec.cancel`")
}

// replaced: it runs, and a later run of its schedule takes its place.
func replaced(o Observed, _ time.Time) *Decision {
	if o.Replaced == "" || o.Job != nil && decided(o.Job) {
		return nil
	}
	return over(v1alpha1.ReasonReplaced, conditions.Current, o.Replaced)
}

// fanOutEnded: a child that never started, and will not.
func fanOutEnded(o Observed, _ time.Time) *Decision {
	switch {
	case o.FanOut == nil:
		return nil
	case o.FanOut.Reason != "":
		p := conditions.Stalled
		if o.FanOut.Status == metav1.ConditionTrue || o.FanOut.Skipped {
			p = conditions.Current
		}
		return &Decision{Status: o.FanOut.Status, Reason: o.FanOut.Reason, Message: o.FanOut.Message, Progress: p}
	}
	return nil
}

// fanOutUnread: nobody knows yet what its fan-out has planned.
func fanOutUnread(o Observed, now time.Time) *Decision {
	switch {
	case o.FanOut == nil || o.Template != nil:
		return nil
	case tenantSuspends(o):
		return tenantSuspended(o, now)
	}
	return &Decision{Action: ActionWait}
}

func tenantGone(o Observed, _ time.Time) *Decision {
	name := o.TenantJob.Spec.TenantRef.Name
	started := o.Job != nil || wasStarted(o)
	switch {
	case o.Job != nil && decided(o.Job):
		return nil
	case o.Tenant != nil && o.Tenant.DeletionTimestamp != nil:
		return over(v1alpha1.ReasonTenantDeleted, conditions.Current, fmt.Sprintf("tenant %s is being deleted", name))
	case o.Tenant == nil && started, o.Tenant != nil && started && o.TenantJob.Status.TenantUID != "" && o.TenantJob.Status.TenantUID != o.Tenant.UID:
		return over(v1alpha1.ReasonTenantDeleted, conditions.Current, fmt.Sprintf("tenant %s was deleted", name))
	}
	return nil
}

// finished: the Job has an outcome.
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
	message := orElse(condition.Message, "the Job failed")
	if o.Pods != nil && o.Pods.Exit != "" {
		message += ": " + o.Pods.Exit
	}
	return over(reason, conditions.Stalled, message)
}

// ending: the Job controller knows the outcome and will say it as soon as the pods are gone and counted.
func ending(o Observed, _ time.Time) *Decision {
	if o.Job == nil || !decided(o.Job) {
		return nil
	}
	return &Decision{}
}

// vanished: the Job was made, and is gone or going without an outcome.
func vanished(o Observed, _ time.Time) *Decision {
	switch {
	case o.Job != nil && o.Job.DeletionTimestamp != nil:
		return &Decision{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonRunning, Message: "the Job is being deleted", Progress: conditions.Reconciling}
	case o.Job == nil && wasStarted(o):
		return over(v1alpha1.ReasonDeleted, conditions.Stalled, "the Job was deleted before it finished; create another TenantJob to run it again")
	}
	return nil
}

// suspended: what runs is stopped when its tenant is suspended, or drained. Draining, a run that needs another pod is
// stopped too, since its pods are refused.
func suspended(o Observed, _ time.Time) *Decision {
	if o.Job == nil || !tenantSuspends(o) {
		return nil
	}
	if o.Tenant.Spec.SuspendPolicy == v1alpha1.SuspendPolicyDrain && o.Pods != nil && drains(o.Job, o.Pods) {
		return &Decision{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonRunning, Progress: conditions.Reconciling, After: LookAgainAfter,
			Message: fmt.Sprintf("tenant %s is being suspended; its running pods may finish", o.Tenant.Name)}
	}
	return over(v1alpha1.ReasonStoppedBySuspension, conditions.Stalled, fmt.Sprintf("tenant %s was suspended; create another TenantJob when it is active again", o.Tenant.Name))
}

// drains says whether a Job may finish with the pods it has: one runs, or all have ended and the Job controller has not
// yet said what follows from that.
func drains(j *batchv1.Job, pods *Pods) bool {
	return pods.Running > 0 || pods.Pending == 0 && (j.Status.Active > 0 || uncounted(j) > 0)
}

// refused: the Job has been without a pod for too long. Before its startTime the Job controller has not got to it yet,
// and when very many Jobs are made at once it does not for a long while. A pod that has ended and is about to be counted
// is no pod that is missing.
func refused(o Observed, now time.Time) *Decision {
	if o.Job == nil || jobRuns(o.Job) || o.Job.Status.Active > 0 || o.Job.Status.StartTime == nil || uncounted(o.Job) > 0 {
		return nil
	}
	status := o.Job.Status
	since, why := status.StartTime.Time, "the Job has no pod"
	first := status.Failed == 0 && status.Succeeded == 0 && terminating(o.Job) == 0
	switch {
	case o.Pods != nil && o.Pods.Refused != "":
		why = o.Pods.Refused
		if !first {
			since = o.Pods.RefusedSince
		}
	case !first: // it waits for its next pod
		return nil
	}
	if now.Sub(since) < RefusedAfter {
		return nil
	}
	return over(v1alpha1.ReasonPodsRefused, conditions.Stalled, fmt.Sprintf("no pod for two minutes: %s", why))
}

func running(o Observed, now time.Time) *Decision {
	if o.Job == nil {
		return nil
	}
	if jobRuns(o.Job) || o.Pods != nil && o.Pods.Running > 0 {
		return settled(o, now, Decision{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonRunning, Message: "a pod is running", Progress: conditions.Reconciling})
	}
	message := "waiting for its pod"
	switch {
	case o.Pods == nil:
	case o.Pods.Refused != "":
		message = "its pod is refused: " + o.Pods.Refused
	case o.Pods.Waiting != "":
		message = o.Pods.Waiting
	}
	return settled(o, now, Decision{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonStarting, Message: message, Progress: conditions.Reconciling, After: lookAgain(o.Job, now)})
}

// lookAgain is when to look again at the pods of a Job that is still starting: the longer that takes, the later, so that
// thousands of pods that find no node cost little. Before the Job controller has got to it there is nothing to look at, and
// the Job's status tells when it has.
func lookAgain(j *batchv1.Job, now time.Time) time.Duration {
	const longest = 5 * time.Minute
	if j.Status.StartTime == nil {
		return 0
	}
	age := now.Sub(j.Status.StartTime.Time)
	after := min(max(LookAgainAfter, age/4), longest)
	if left := RefusedAfter - age; left > 0 {
		after = min(after, left)
	}
	return after
}

// settled leaves the status of a run as it is for the first moments.
func settled(o Observed, now time.Time, d Decision) *Decision {
	if left := o.Job.CreationTimestamp.Add(SettleAfter).Sub(now); left > 0 {
		return &Decision{After: left}
	}
	return &d
}

func badTemplate(o Observed, _ time.Time) *Decision {
	name := o.TenantJob.Spec.TemplateRef.Name
	if o.Template == nil {
		d := waiting(v1alpha1.ReasonTemplateNotFound, fmt.Sprintf("there is no TenantJobTemplate %s: create it, or delete this TenantJob", name))
		d.Progress = conditions.Stalled
		return &d
	}
	return nil
}

func templateNotReady(o Observed, _ time.Time) *Decision {
	ready := meta.FindStatusCondition(o.Template.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case ready != nil && ready.ObservedGeneration != o.Template.Generation && len(o.TenantJob.Status.Conditions) > 0:
		// It is being checked again, and this one has a message already that will be true again in a moment.
		return &Decision{}
	case ready == nil || ready.ObservedGeneration != o.Template.Generation || ready.Status == metav1.ConditionUnknown:
		d := waiting(v1alpha1.ReasonTemplateNotReady, fmt.Sprintf("TenantJobTemplate %s is being checked", o.Template.Name))
		return &d
	case ready.Status == metav1.ConditionFalse:
		d := waiting(v1alpha1.ReasonTemplateNotReady, fmt.Sprintf("TenantJobTemplate %s can't run: %s", o.Template.Name, ready.Message))
		d.Progress = conditions.Stalled
		return &d
	case len(o.Template.Spec.Credentials) > 0:
		return over(v1alpha1.ReasonCredentialsFailed, conditions.Stalled, fmt.Sprintf("TenantJobTemplate %s needs credentials, and this version of Tenantry issues none: take them out of its `spec.credentials`", o.Template.Name))
	}
	return nil
}

// badParameters are those that a template that can run does not accept. Of another it is not known what it will.
func badParameters(o Observed, _ time.Time) *Decision {
	ready := meta.FindStatusCondition(o.Template.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Status != metav1.ConditionTrue || ready.ObservedGeneration != o.Template.Generation {
		return nil
	}
	if _, err := Resolve(o.Template.Spec.Parameters, o.TenantJob.Spec.Parameters); err != nil {
		return over(v1alpha1.ReasonInvalidParameters, conditions.Stalled, err.Error())
	}
	return nil
}

func notYetDue(o Observed, now time.Time) *Decision {
	due := o.TenantJob.Spec.NotBeforeTime
	if due == nil || !now.Before(due.Time) {
		return nil
	}
	d := waiting(v1alpha1.ReasonNotYetDue, "waits for `spec.notBeforeTime`")
	d.After = due.Sub(now)
	return &d
}

func tenantSuspended(o Observed, _ time.Time) *Decision {
	if !tenantSuspends(o) {
		return nil
	}
	message := fmt.Sprintf("tenant %s is suspended", o.Tenant.Name)
	if o.FanOut != nil && o.Tenant.Suspended() {
		return over(v1alpha1.ReasonTenantSuspended, conditions.Current, message)
	}
	d := waiting(v1alpha1.ReasonTenantSuspended, message+"; it starts when the tenant is resumed")
	return &d
}

func tenantNotReady(o Observed, _ time.Time) *Decision {
	name := o.TenantJob.Spec.TenantRef.Name
	message := ""
	switch {
	case o.Tenant == nil:
		message = fmt.Sprintf("there is no Tenant %s", name)
	case o.Namespace == nil, o.Namespace.TenantUID != o.Tenant.UID, o.Tenant.Status.Namespace == nil, o.Tenant.Status.Namespace.UID != o.Namespace.UID, o.Namespace.State != v1alpha1.StateActive:
		message = fmt.Sprintf("the namespace of tenant %s is not ready", name)
	case !meta.IsStatusConditionTrue(o.Tenant.Status.Conditions, v1alpha1.ConditionReady):
		message = fmt.Sprintf("tenant %s is not ready", name)
	default:
		return nil
	}
	if o.Tenant != nil {
		if ready := meta.FindStatusCondition(o.Tenant.Status.Conditions, v1alpha1.ConditionReady); ready != nil && ready.Status == metav1.ConditionFalse {
			message += ": " + ready.Message
		}
	}
	d := waiting(v1alpha1.ReasonTenantNotReady, message)
	return &d
}

// MaxWait is how long limits may hold a TenantJob. Zero means for ever.
func MaxWait(tj *v1alpha1.TenantJob, t *v1alpha1.TenantJobTemplate) time.Duration {
	switch {
	case tj.Spec.MaxWaitSeconds != nil:
		return seconds(*tj.Spec.MaxWaitSeconds)
	case t.Spec.MaxWaitSeconds != nil:
		return seconds(*t.Spec.MaxWaitSeconds)
	}
	return 0
}

func over(reason string, p conditions.Progress, message string) *Decision {
	return &Decision{Status: metav1.ConditionFalse, Reason: reason, Message: message, Progress: p}
}

func waiting(reason, message string) Decision {
	return Decision{Status: metav1.ConditionUnknown, Reason: reason, Message: message, Progress: conditions.Reconciling}
}

// isOver says whether a TenantJob has its outcome, which never changes.
func isOver(tj *v1alpha1.TenantJob) bool {
	condition := meta.FindStatusCondition(tj.Status.Conditions, v1alpha1.ConditionSucceeded)
	return condition != nil && condition.Status != metav1.ConditionUnknown
}

// IsOver says whether a TenantJob has its outcome.
func IsOver(tj *v1alpha1.TenantJob) bool { return isOver(tj) }

// IsLive says whether a Job holds its slot: it has not ended, or its pods have not.
func IsLive(j *batchv1.Job) bool {
	return finalCondition(j) == nil || terminating(j) > 0
}

// terminating is how many of a Job's pods are being deleted.
func terminating(j *batchv1.Job) int32 {
	if j.Status.Terminating == nil {
		return 0
	}
	return *j.Status.Terminating
}

// tenantSuspends says whether the tenant is suspended, or about to be.
func tenantSuspends(o Observed) bool {
	return o.Tenant != nil && (o.Tenant.Suspended() || o.Namespace != nil && o.Namespace.State == v1alpha1.StateSuspended)
}

// jobRuns says whether a Job has a pod that is ready, which one without a readiness probe is as soon as it runs.
func jobRuns(j *batchv1.Job) bool { return j.Status.Ready != nil && *j.Status.Ready > 0 }

// finalCondition returns the condition that says how a Job ended. Nil means it has not.
func finalCondition(j *batchv1.Job) *batchv1.JobCondition {
	for i, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return &j.Status.Conditions[i]
		}
	}
	return nil
}

// decided says whether a Job has ended or is about to, and nothing will change that.
func decided(j *batchv1.Job) bool {
	return slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
		switch c.Type {
		case batchv1.JobComplete, batchv1.JobSuccessCriteriaMet, batchv1.JobFailed, batchv1.JobFailureTarget:
			return c.Status == corev1.ConditionTrue
		}
		return false
	})
}

// uncounted is how many of a Job's pods have ended and are in none of its counters yet.
func uncounted(j *batchv1.Job) int {
	if j.Status.UncountedTerminatedPods == nil {
		return 0
	}
	return len(j.Status.UncountedTerminatedPods.Succeeded) + len(j.Status.UncountedTerminatedPods.Failed)
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

func orElse(text, otherwise string) string {
	if strings.TrimSpace(text) == "" {
		return otherwise
	}
	return text
}

// wasStarted says whether the Job of a TenantJob was made, be it there or not.
func wasStarted(o Observed) bool { return o.Started || o.TenantJob.Status.JobRef != nil }
