package job

import (
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

const (
	// RefusedAfter is how long a Job may be without a pod before its run counts as PodsRefused.
	RefusedAfter = 2 * time.Minute
	// SettleAfter is how long after its start a run's status is first written: most pods are running by then, and many
	// short runs have ended, so that they cost one write less.
	SettleAfter = 2 * time.Second
	// LookAgainAfter is how long until the pods of a Job that is still starting are looked at again, at first.
	LookAgainAfter = 10 * time.Second
)

// Observed is everything that is known about a TenantJob when it is decided about.
type Observed struct {
	TenantJob *v1alpha1.TenantJob
	// Namespace is what the TenantJob's namespace says of itself. Nil when it says nothing: it is no tenant's.
	Namespace *Namespace
	// Tenant that spec.tenantRef names. Nil when there is none.
	Tenant *v1alpha1.Tenant
	// Template that spec.templateRef names. Nil when there is none.
	Template *v1alpha1.TenantJobTemplate
	// Job of the TenantJob, never a stranger's. Nil when there is none.
	Job *batchv1.Job
	// Pods of the Job. Nil when nobody has looked, see NeedsPods.
	Pods *Pods
	// FanOut is what the fan-out says that it is the child of. Nil when it is nobody's.
	FanOut *FanOut
	// Started means that its Job was made, which its status may not say yet.
	Started bool
	// Replaced is why it is to be stopped for a later run of its schedule. Empty means that it is not.
	Replaced string
}

// FanOut is what a fan-out says of its child.
type FanOut struct {
	// Status, Reason and Message of the condition Succeeded with which the child ends if it has not started. An empty Reason
	// means that it may start.
	Status          metav1.ConditionStatus
	Reason, Message string
	// Skipped means that nobody failed.
	Skipped bool
	// Recorded means that the fan-out has written the child's outcome down, so that the child may go.
	Recorded bool
}

// Namespace is what a tenant's namespace says of itself.
type Namespace struct {
	UID       types.UID
	Tenant    string
	TenantUID types.UID
	State     string
}

// Pods is what was found out about a Job's pods.
type Pods struct {
	// Running counts the pods that run and are not being deleted.
	Running int
	// Pending counts those that do not run yet.
	Pending int
	// Waiting is why a pod does not run yet, in its own words. Empty when there is none.
	Waiting string
	// Refused is why the API server refuses the Job's pods. Empty when it does not.
	Refused string
	// RefusedSince is when it began to.
	RefusedSince time.Time
	// Exit says how the last pod that failed ended: its exit code, never its words.
	Exit string
}

// Action is what is to be done about a TenantJob.
type Action string

const (
	// ActionNone: nothing but the status.
	ActionNone Action = ""
	// ActionStart: make the Job, if the door lets it through.
	ActionStart Action = "Start"
	// ActionWait: nothing, and not even the status, until its fan-out has been read.
	ActionWait Action = "Wait"
	// ActionStop: delete the Job and its pods.
	ActionStop Action = "Stop"
	// ActionRemove: delete the TenantJob, its time is up.
	ActionRemove Action = "Remove"
)

// Decision is what follows from what was observed.
type Decision struct {
	Action Action
	// Status, Reason and Message are those of the condition Succeeded. An empty Reason leaves the status as it is.
	Status   metav1.ConditionStatus
	Reason   string
	Message  string
	Progress conditions.Progress
	// After is when to look again, if nothing happens before. Zero means never.
	After time.Duration
	// Values are the run's parameters, for ActionStart.
	Values Values
	// Waited is for how long limits have held it, for one that is Queued. Nil when that is not known.
	Waited *Waited
}

// Waited is the clock of maxWaitSeconds.
type Waited struct {
	// Before is for how long it ran until now.
	Before time.Duration
	// Counts says whether it runs on.
	Counts bool
}

// Decide says what to do about a TenantJob. The first rule that has an answer wins.
func Decide(o Observed, now time.Time) Decision {
	for _, rule := range []func(Observed, time.Time) *Decision{
		ended, deleting, mismatched, cancelled, replaced, tenantGone,
		finished, ending, vanished, suspended, refused, running,
		fanOutEnded, fanOutUnread, badTemplate, badParameters, notYetDue, templateNotReady, tenantSuspended, tenantNotReady,
	} {
		if d := rule(o, now); d != nil {
			return *d
		}
	}
	// badParameters has checked them.
	values, _ := Resolve(o.Template.Spec.Parameters, o.TenantJob.Spec.Parameters)
	return Decision{Action: ActionStart, Values: values}
}

// Queued is the decision about a TenantJob that waits for its turn, in the words of the limit that holds it.
func Queued(limit string) Decision { return waiting(v1alpha1.ReasonQueued, limit) }

// EndWith is the decision about a TenantJob that is not to start any more: it has overlapped with an earlier run, has waited
// for too long, or its fan-out has ended.
func EndWith(reason, message string) Decision {
	p := conditions.Current
	if reason == v1alpha1.ReasonExpired {
		p = conditions.Stalled
	}
	return *over(reason, p, message)
}

// NameTaken is the decision about a TenantJob when something else has the name of its Job.
func NameTaken(o Observed, other *batchv1.Job) Decision {
	owner := metav1.GetControllerOf(other)
	if other.DeletionTimestamp != nil || owner != nil && owner.Kind == "TenantJob" && owner.Name == o.TenantJob.Name {
		d := waiting(v1alpha1.ReasonPending, "the Job of an earlier TenantJob of this name is still being deleted")
		d.After = SettleAfter
		return d
	}
	return *over(v1alpha1.ReasonNameConflict, conditions.Stalled, fmt.Sprintf("there is a Job %s that is not this TenantJob's: delete it, or create the TenantJob under another name", other.Name))
}

// Refused is the decision about a TenantJob whose Job the API server does not accept as it is.
func Refused(message string) Decision {
	return *over(v1alpha1.ReasonJobFailed, conditions.Stalled, "the API server refused the Job: "+message)
}

// NeedsPods says whether the decision needs a look at the Job's pods, which are not cached.
func NeedsPods(o Observed, now time.Time) bool {
	if o.Job == nil || o.Job.DeletionTimestamp != nil || isOver(o.TenantJob) {
		return false
	}
	if condition := finalCondition(o.Job); condition != nil {
		return condition.Type == batchv1.JobFailed
	}
	if decided(o.Job) {
		return false
	}
	draining := o.Tenant != nil && tenantSuspends(o) && o.Tenant.Spec.SuspendPolicy == v1alpha1.SuspendPolicyDrain
	return draining || !jobRuns(o.Job) && o.Job.Status.StartTime != nil && now.Sub(o.Job.CreationTimestamp.Time) >= SettleAfter
}
