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
	// RefusedAfter is how long a Job may be without a pod before its run ends with PodsRefused.
	RefusedAfter = 2 * time.Minute
	// HeldAfter is how long others may suspend the Job of a run that is no fan-out's, before it ends with PodsRefused: as long as a run
	// may take by default.
	HeldAfter = 24 * time.Hour
	// SettleAfter is how long after its Job was created the status of a run is first written. Most pods run by then, and
	// many short runs have ended, which saves a write.
	SettleAfter = 2 * time.Second
	// PollInterval is how often something is read again that no watch reports, such as the pods of a Job that is starting.
	PollInterval = 10 * time.Second
)

// Observed is everything that is known about a TenantJob when Decide is called.
type Observed struct {
	TenantJob *v1alpha1.TenantJob
	// Namespace is what the labels and annotations of the TenantJob's namespace say. It is nil when the namespace belongs to
	// no tenant.
	Namespace *Namespace
	// Tenant is the one that spec.tenantRef names, nil when it does not exist.
	Tenant *v1alpha1.Tenant
	// Template is the one that spec.templateRef names, nil when it does not exist. For a fan-out's child it is the one that
	// the fan-out has sealed, nil when that was not read yet.
	Template *v1alpha1.TenantJobTemplate
	// Job is the TenantJob's own Job, nil when there is none.
	Job *batchv1.Job
	// Started means that this process or the status says that the Job was made.
	Started bool
	// Pods are those of the Job, nil when they were not read. See NeedsPods.
	Pods *Pods
	// FanOut is what the fan-out of the TenantJob says about it, nil when it is no child of a fan-out.
	FanOut *FanOut
	// Suspension says by whom the Job is suspended. It is empty when it is not, or when that was not read. See IsSuspended.
	Suspension string
	// Credentials is what is known about those that the run needs. Nil means that it needs none, or has them.
	Credentials *Credentials
	// Replaced is the message why the TenantJob is stopped for a later run of its schedule. It is empty when it is not.
	Replaced string
}

// FanOut is what a fan-out says about its child.
type FanOut struct {
	// Name and UID of the TenantFanOut.
	Name string
	UID  types.UID
	// Schedule is the TenantSchedule that has made it, empty when none has.
	Schedule string
	// ScheduledTime is when its tick came for the child's tenant, as the child's environment has it. It is empty without a tick.
	ScheduledTime string
	// Status, Reason and Message are those of the condition Succeeded with which the child ends if it has not started. An
	// empty Reason means that it may start.
	Status          metav1.ConditionStatus
	Reason, Message string
	// Skipped means that the child counts as skipped with this reason.
	Skipped bool
	// Paused says that the fan-out lets none of its children start for now, or none of this one's wave.
	Paused bool
	// Disowned means that somebody has removed the child's owner reference to the fan-out.
	Disowned bool
	// Changed is the field of the child that somebody has changed. It is empty when the child is as the fan-out has made it.
	Changed string
	// Recorded means that the stored ledger has the child's outcome, so that the child may be deleted.
	Recorded bool
}

// Namespace is what the labels and annotations of a tenant's namespace say.
type Namespace struct {
	UID types.UID
	// Tenant and TenantUID are the name and the UID of its Tenant.
	Tenant    string
	TenantUID types.UID
	// State is the value of the label tenantry.dev/state. It may be empty.
	State string
	// Deleting means that the namespace is being deleted.
	Deleting bool
}

// Pods is what a Job's pods and events say.
type Pods struct {
	// None means that there is none, not even one that has ended.
	None bool
	// Running is how many pods run and are not being deleted.
	Running int
	// Pending is how many pods do not run yet.
	Pending int
	// Stopping is how many pods are being deleted and have not ended.
	Stopping int
	// Waiting is why a pod does not run yet, as the pod's status or the events about it say. It is empty when nothing says so.
	Waiting string
	// Restarting says that a container of a pod that runs is restarted because it ends. It is empty when none is.
	Restarting string
	// Refused is why the API server refuses the Job's pods. It is empty when it does not.
	Refused string
	// RefusedSince is when it began to refuse them.
	RefusedSince time.Time
	// Exit says how the last pod that failed ended, or why one is being deleted. It has the exit code and no text from the container.
	Exit string
	// ExitFades means that the pod that Exit is about is being deleted, and with it what it says.
	ExitFades bool
}

// Action is what to do about a TenantJob.
type Action string

const (
	// ActionNone means to do nothing but to write the status.
	ActionNone Action = ""
	// ActionStart means to create the Job once the dispatcher admits it.
	ActionStart Action = "Start"
	// ActionWait means to do nothing, and not to write the status, until the fan-out was read.
	ActionWait Action = "Wait"
	// ActionStop means to delete the Job and its pods.
	ActionStop Action = "Stop"
	// ActionRemove means to delete the TenantJob, since its TTL has passed.
	ActionRemove Action = "Remove"
)

// Decision is what to do about a TenantJob.
type Decision struct {
	Action Action
	// Status, Reason and Message are those of the condition Succeeded. An empty Reason leaves the status as it is.
	Status  metav1.ConditionStatus
	Reason  string
	Message string
	// Progress is what kstatus shows.
	Progress conditions.Progress
	// RequeueAfter is after which time to decide again, if nothing happens before. Zero means never.
	RequeueAfter time.Duration
	// Refused is why an action of a TenantJob that is over could not be carried out. The status says so beside the outcome.
	Refused string
	// Values are the run's parameters, for ActionStart.
	Values Values
	// Waited is how long limits have held a TenantJob that is Queued, nil when that is unknown.
	Waited *Waited
	// Trouble says whose fault it is that a TenantJob is Queued. NoTrouble means a limit.
	Trouble Trouble
}

// Waited is how much of its maxWaitSeconds a TenantJob has used.
type Waited struct {
	// Before is how long limits have held it until now.
	Before time.Duration
	// Counts says whether the time from now on counts too.
	Counts bool
}

// Decide returns what to do about a TenantJob. The first rule that applies decides.
func Decide(o Observed, now time.Time) Decision {
	for _, rule := range rules {
		if d := rule(o, now); d != nil {
			return *d
		}
	}
	// There is no error here: unaccepted has checked the parameters, templateNotReady the template.
	values, _ := Resolve(o.Template.Spec.Parameters, o.TenantJob.Spec.Parameters)
	return Decision{Action: ActionStart, Values: values}
}

// Ends says whether a decision gives a TenantJob its outcome.
func Ends(d Decision) bool {
	return d.Status == metav1.ConditionTrue || d.Status == metav1.ConditionFalse
}

// Queued returns the decision about a TenantJob that a limit holds. The message names the limit.
func Queued(message string) Decision { return waitsFor(v1alpha1.ReasonQueued, message) }

// NotEnforced returns the decision about a TenantJob that waits because an admission policy is not in force.
func NotEnforced(message string) Decision { return waitsFor(v1alpha1.ReasonPolicyNotEnforced, message) }

// EndWith returns the decision about a TenantJob that is not to start any more: it overlaps with an earlier run, it has
// waited for too long, or its fan-out has ended.
func EndWith(reason, message string) Decision {
	p := conditions.Current
	if reason == v1alpha1.ReasonExpired {
		p = conditions.Stalled
	}
	return *endsWith(reason, p, message)
}

// NameTaken returns the decision about a TenantJob when another object has the name of its Job. The TenantJob waits when
// that object is being deleted, or belongs to an earlier TenantJob of this name and will be.
func NameTaken(o Observed, other *batchv1.Job) Decision {
	owner := metav1.GetControllerOf(other)
	if other.DeletionTimestamp != nil || IsOrphan(other) || owner != nil && owner.Kind == "TenantJob" && owner.Name == o.TenantJob.Name {
		d := waitsFor(v1alpha1.ReasonPending, "the Job of an earlier TenantJob of this name is still being deleted")
		d.RequeueAfter = SettleAfter
		return d
	}
	return *endsWith(v1alpha1.ReasonNameConflict, conditions.Stalled, fmt.Sprintf("there is a Job %s that is not this TenantJob's: delete it, or create the TenantJob under another name", other.Name))
}

// IsOrphan says whether an object is a Job of the operator's that has lost its TenantJob: somebody has deleted that with
// `--cascade=orphan`, or has removed the owner reference. Such a Job is stopped.
func IsOrphan(j metav1.Object) bool {
	return metav1.GetControllerOfNoCopy(j) == nil && j.GetLabels()[v1alpha1.LabelTenant] != "" &&
		j.GetLabels()[v1alpha1.LabelTemplate] != "" && j.GetAnnotations()[v1alpha1.AnnotationTemplateGeneration] != ""
}

// Refused returns the decision about a TenantJob whose Job the API server does not accept. The message is the API server's.
func Refused(message string) Decision {
	return *endsWith(v1alpha1.ReasonJobFailed, conditions.Stalled, "the API server refused the Job: "+message)
}

// NeedsPods says whether Decide needs the Job's pods, which are not cached.
func NeedsPods(o Observed, now time.Time) bool {
	if o.Job == nil || o.Job.DeletionTimestamp != nil || IsOver(o.TenantJob) {
		return false
	}
	if condition := finalCondition(o.Job); condition != nil {
		return condition.Type == batchv1.JobFailed
	}
	if hasOutcome(o.Job) {
		return fails(o.Job) // The Job controller deletes the pods that have not ended.
	}
	if IsSuspended(o.Job) {
		return false
	}
	draining := o.Tenant != nil && tenantSuspends(o) && o.Tenant.Spec.SuspendPolicy == v1alpha1.SuspendPolicyDrain
	return draining || (!jobRuns(o.Job) || o.saidOfPods() != "") && o.Job.Status.StartTime != nil && now.Sub(o.Job.CreationTimestamp.Time) >= SettleAfter
}
