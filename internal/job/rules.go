package job

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

// rules are the rules of Decide, in order. A rule returns nil when it does not apply. The last ones may rely on the first
// ones: after tenantGone, whatever ends a TenantJob in every state has been checked; after running, the TenantJob has no
// Job; after badTemplate, there is a template.
var rules = []func(Observed, time.Time) *Decision{
	ended, deleting, mismatched, cancelled, disowned, replaced, tenantGone,
	finished, ending, vanished, suspended, held, refused, running,
	fanOutEnded, leftBehind, fanOutUnread, changed, badTemplate, unaccepted, notYetDue, templateNotReady, tenantSuspended, tenantNotReady,
	credentialsMissing, credentialsBlocked,
}

// ended applies when the TenantJob has its outcome. What is left is to stop a Job that still runs, and to delete the
// TenantJob when its TTL has passed.
func ended(o Observed, now time.Time) *Decision {
	tj := o.TenantJob
	if !IsOver(tj) {
		return nil
	}
	if o.Job != nil && o.Job.DeletionTimestamp == nil && !Ended(o.Job) {
		return &Decision{Action: ActionStop}
	}
	ttl := ttlOf(o)
	if ttl == nil || tj.DeletionTimestamp != nil || tj.Status.CompletionTime == nil {
		return &Decision{}
	}
	left := tj.Status.CompletionTime.Add(seconds(*ttl)).Sub(now)
	switch {
	case left > 0:
		return &Decision{RequeueAfter: left}
	case o.FanOut != nil && !o.FanOut.Recorded: // The fan-out still reads the outcome from the TenantJob.
		return &Decision{RequeueAfter: PollInterval}
	}
	return &Decision{Action: ActionRemove}
}

// ttlOf is how long, in seconds, a TenantJob that is over is kept. Nil means until its owner is deleted.
func ttlOf(o Observed) *int32 {
	switch {
	case o.Template == nil:
		return nil
	case meta.IsStatusConditionTrue(o.TenantJob.Status.Conditions, v1alpha1.ConditionSucceeded):
		return o.Template.Spec.TTLSecondsAfterFinished
	}
	return o.Template.Spec.FailedTTLSecondsAfterFinished
}

// deleting applies when the TenantJob is being deleted. The garbage collector deletes its Job. It waits as long as somebody
// else's finalizer keeps the TenantJob, so the Job is stopped here.
func deleting(o Observed, _ time.Time) *Decision {
	switch tj := o.TenantJob; {
	case tj.DeletionTimestamp == nil:
		return nil
	case o.Job != nil && o.Job.DeletionTimestamp == nil && !Ended(o.Job) && len(ForeignFinalizers(tj)) > 0:
		return &Decision{Action: ActionStop}
	}
	return &Decision{}
}

// ForeignFinalizers returns the finalizers of an object, sorted, with which somebody holds it when it is deleted. Those of the garbage
// collector are left out, which removes them itself, and so are those that are given as Kubernetes' own on such an object.
func ForeignFinalizers(obj metav1.Object, own ...string) []string {
	return slices.DeleteFunc(slices.Sorted(slices.Values(obj.GetFinalizers())), func(finalizer string) bool {
		return finalizer == metav1.FinalizerDeleteDependents || finalizer == metav1.FinalizerOrphanDependents || slices.Contains(own, finalizer)
	})
}

// mismatched applies when the TenantJob is not in its tenant's namespace.
func mismatched(o Observed, _ time.Time) *Decision {
	want, namespace := o.TenantJob.Spec.TenantRef.Name, o.TenantJob.Namespace
	switch {
	case o.Namespace != nil && o.Namespace.Tenant != want:
		return endsWith(v1alpha1.ReasonTenantMismatch, conditions.Stalled, fmt.Sprintf("namespace %s is tenant %s's: `spec.tenantRef.name` must be %s, or the TenantJob in the namespace of %s", namespace, o.Namespace.Tenant, o.Namespace.Tenant, want))
	case o.Tenant != nil && o.Tenant.NamespaceName() != namespace:
		return endsWith(v1alpha1.ReasonTenantMismatch, conditions.Stalled, fmt.Sprintf("namespace %s is not tenant %s's: create the TenantJob in namespace %s", namespace, want, o.Tenant.NamespaceName()))
	}
	return nil
}

// cancelled applies when spec.cancel is true and the Job has no outcome.
func cancelled(o Observed, _ time.Time) *Decision {
	if !ptr.Deref(o.TenantJob.Spec.Cancel, false) || hasOutcome(o.Job) {
		return nil
	}
	return endsWith(v1alpha1.ReasonCancelled, conditions.Current, "cancelled by `spec.cancel`")
}

// disowned applies when somebody has removed the owner reference to the fan-out whose child the TenantJob is, and the Job has no
// outcome. Without it the TenantJob would not be deleted with the fan-out, and its outcome would not count.
func disowned(o Observed, _ time.Time) *Decision {
	if o.FanOut == nil || !o.FanOut.Disowned || hasOutcome(o.Job) {
		return nil
	}
	return endsWith(v1alpha1.ReasonDeleted, conditions.Stalled,
		fmt.Sprintf("its owner reference to fan-out %s was removed: create another TenantJob to run it again", o.FanOut.Name))
}

// replaced applies when the Job runs and a later run of the schedule replaces it.
func replaced(o Observed, _ time.Time) *Decision {
	if o.Replaced == "" || hasOutcome(o.Job) {
		return nil
	}
	return endsWith(v1alpha1.ReasonReplaced, conditions.Current, o.Replaced)
}

// tenantGone applies when the tenant is being deleted, or was deleted after the Job was created.
func tenantGone(o Observed, _ time.Time) *Decision {
	name := o.TenantJob.Spec.TenantRef.Name
	started := o.Job != nil || o.wasStarted()
	switch {
	case hasOutcome(o.Job):
		return nil
	case o.Tenant != nil && o.Tenant.DeletionTimestamp != nil:
		return endsWith(v1alpha1.ReasonTenantDeleted, conditions.Current, fmt.Sprintf("tenant %s is being deleted", name))
	case o.Tenant == nil && started, o.Tenant != nil && started && o.TenantJob.Status.TenantUID != "" && o.TenantJob.Status.TenantUID != o.Tenant.UID:
		return endsWith(v1alpha1.ReasonTenantDeleted, conditions.Current, fmt.Sprintf("tenant %s was deleted", name))
	}
	return nil
}

// wasStarted says whether the Job was created, whether or not it still exists.
func (o Observed) wasStarted() bool { return o.Started || o.TenantJob.Status.JobRef != nil }

// endsWith returns the decision that ends a TenantJob without success.
func endsWith(reason string, p conditions.Progress, message string) *Decision {
	return &Decision{Status: metav1.ConditionFalse, Reason: reason, Message: message, Progress: p}
}

// waitsFor returns the decision about a TenantJob that waits.
func waitsFor(reason, message string) Decision {
	return Decision{Status: metav1.ConditionUnknown, Reason: reason, Message: message, Progress: conditions.Reconciling}
}

// IsOver says whether a TenantJob has its outcome. The outcome never changes.
func IsOver(tj *v1alpha1.TenantJob) bool {
	condition := meta.FindStatusCondition(tj.Status.Conditions, v1alpha1.ConditionSucceeded)
	return condition != nil && condition.Status != metav1.ConditionUnknown
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }
