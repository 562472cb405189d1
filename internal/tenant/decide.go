package tenant

import (
	"errors"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

// Observed is everything that is known about a Tenant when it is decided about. The fields below Done are zero until an
// action sets them.
type Observed struct {
	Tenant *v1alpha1.Tenant
	// Namespace that the Tenant names, as it was read or last written. Nil when there is none.
	Namespace *metav1.PartialObjectMetadata
	Claim     Claim
	// ClaimMessage says what a person can do when the Tenant may not have the namespace.
	ClaimMessage string
	// SameExternalID is the older Tenant that has the same external id. Empty when there is none.
	SameExternalID string
	// Databases are those that are this Tenant's own, and SharedDatabase says that another Tenant has one that this one names, too.
	Databases      []v1alpha1.TenantDatabase
	SharedDatabase string
	Desired        Desired
	// Jobs are the tenant's Jobs that have not ended: those in the cache, and after ActionListJobs those in the API server.
	Jobs []*batchv1.Job
	// MountedCopies are the names of the copied Secrets that Jobs in the cache mount which have not ended.
	MountedCopies map[string]bool
	// Enforcement is the Tenant's phase, or the default.
	Enforcement v1alpha1.Enforcement
	Policies    Policies
	// Verify asks to check also what is not watched: the contents of the namespace, a suspended tenant's pods, and the Secrets of which
	// it has copies.
	Verify bool

	// Done are the actions that were carried out since the Tenant was observed.
	Done []Action
	// Contents is the result of ActionWriteContents.
	Contents ContentsResult
	// Pods are the tenant's pods that have not ended, after ActionListPods.
	Pods []corev1.Pod
	// Credentials are the names of the TenantJobs of which credentials are not revoked yet, sorted, after ActionRevokeCredentials.
	Credentials []string
	// ReplacedCopies are the names of the copied Secrets that are not as their originals are now, after ActionCheckCopies.
	ReplacedCopies []string
	// DeletedCopies are the names of the copied Secrets that are gone, after ActionDeleteCopies.
	DeletedCopies []string
	// CopiesErr is why ActionCheckCopies or ActionDeleteCopies failed. It is tried again.
	CopiesErr error
	// Workloads are those in the namespace that are no runs, after ActionListWorkloads, and WorkloadsErr is why it failed.
	Workloads    []Workload
	WorkloadsErr error
	// TenantJobs are those in the namespace, after ActionListTenantJobs.
	TenantJobs []v1alpha1.TenantJob
	// Held are the objects that are being deleted and that somebody's finalizer keeps, after ActionListHeld.
	Held []HeldObject
	// DeletedNamespace is the terminating namespace with its status, after ActionReadNamespace. Nil when it is gone.
	DeletedNamespace *corev1.Namespace
}

// ContentsResult is the result of writing the contents of a namespace.
type ContentsResult struct {
	// Refused says which objects the API server refuses, and which fields of the Tenant the user has to change.
	Refused error
	// Err is what is tried again. A refusal by a policy or a quota is in both, because these may change too.
	Err error
	// Rights is the part of Err that is about RoleBindings: the operator's own, and those that are no longer desired.
	Rights error
	// Taken are the keys of the objects that somebody else has under a name of the operator's, sorted. They are left alone.
	Taken []string
}

// Did says whether an action was carried out since the Tenant was observed.
func (o Observed) Did(a Action) bool { return slices.Contains(o.Done, a) }

func (o Observed) isDeleting() bool { return o.Tenant.DeletionTimestamp != nil }

// drains says whether running Jobs may finish.
func (o Observed) drains() bool {
	return !o.isDeleting() && o.Tenant.Spec.SuspendPolicy == v1alpha1.SuspendPolicyDrain
}

// startsEnd is how long after the deletion of its Tenant a Job was created at most that the operator has made. By then starts under
// way have ended, and the operator knows of the deletion. If it learns of that later, pods are waited for.
const startsEnd = time.Minute

// awaitedJobs are those of Jobs that a suspension or a deletion waits for. A deletion does not wait for a Job that is not the
// operator's and was created after the Tenant was deleted: it gets no pod, and somebody who goes on creating them would hold the
// deletion for ever. What a Job says of its owner anybody can write who may create it.
func (o Observed) awaitedJobs() []*batchv1.Job {
	if !o.isDeleting() {
		return o.Jobs
	}
	return slices.DeleteFunc(slices.Clone(o.Jobs), func(j *batchv1.Job) bool {
		after := o.Tenant.DeletionTimestamp.Time
		if owner := metav1.GetControllerOfNoCopy(j); owner != nil && owner.Kind == "TenantJob" {
			after = after.Add(startsEnd)
		}
		return j.CreationTimestamp.After(after)
	})
}

// PodsToDelete are those of Pods that do not end by themselves.
func (o Observed) PodsToDelete() []*corev1.Pod {
	_, toDelete := WaitForPods(o.Pods, o.drains())
	return toDelete
}

// staysSuspended says whether the status says that the tenant is suspended, and nothing has happened since that makes this
// doubtful: a change of the spec, or of the labels that keep pods out of the namespace.
func (o Observed) staysSuspended() bool {
	c := conditions.Get(o.Tenant.Status.Conditions, v1alpha1.ConditionSuspended)
	return c.Status == metav1.ConditionTrue && c.ObservedGeneration == o.Tenant.Generation && !o.Did(ActionApplyNamespace)
}

// Action is what the controller carries out before it decides about a Tenant again. Each action is carried out at most once after
// an observation.
type Action string

const (
	// ActionNone means that there is nothing to do now.
	ActionNone Action = ""

	// ActionCreateNamespace creates the namespace.
	ActionCreateNamespace Action = "CreateNamespace"
	// ActionListContents reads which objects a namespace has that is about to be adopted. It adds them to Desired.
	ActionListContents Action = "ListContents"
	// ActionApplyNamespace writes the namespace's labels and annotations, and so adopts an adoptable one. The label
	// tenantry.dev/state is the fence of a suspension.
	ActionApplyNamespace Action = "ApplyNamespace"
	// ActionWriteContents writes everything in the namespace. It sets Contents.
	ActionWriteContents Action = "WriteContents"

	// ActionUnlock lets the dispatcher start the tenant's TenantJobs.
	ActionUnlock Action = "Unlock"
	// ActionLock keeps the dispatcher from starting the tenant's TenantJobs, and waits for the starts under way.
	ActionLock Action = "Lock"
	// ActionListJobs reads Jobs from the API server, since the cache may lack the newest.
	ActionListJobs Action = "ListJobs"
	// ActionDeleteOrphans deletes those of Jobs that belong to no TenantJob. The TenantJob controller stops all others.
	ActionDeleteOrphans Action = "DeleteOrphans"
	// ActionListPods reads Pods from the API server.
	ActionListPods Action = "ListPods"
	// ActionDeletePods deletes PodsToDelete.
	ActionDeletePods Action = "DeletePods"
	// ActionListHeld reads Held from the API server.
	ActionListHeld Action = "ListHeld"
	// ActionRevokeCredentials revokes the tenant's credentials.
	ActionRevokeCredentials Action = "RevokeCredentials"

	// ActionCheckCopies reads the Secrets in the operator's namespace of which the tenant has copies. It sets ReplacedCopies.
	ActionCheckCopies Action = "CheckCopies"
	// ActionDeleteCopies deletes those of CopiesToDelete that no run has. It sets DeletedCopies.
	ActionDeleteCopies Action = "DeleteCopies"

	// ActionListWorkloads reads from the API server which workloads in the namespace are no runs. It sets Workloads.
	ActionListWorkloads Action = "ListWorkloads"

	// ActionListTenantJobs reads TenantJobs from the cache.
	ActionListTenantJobs Action = "ListTenantJobs"
	// ActionDeleteTenantJobs deletes all TenantJobs in the namespace.
	ActionDeleteTenantJobs Action = "DeleteTenantJobs"
	// ActionReleaseNamespace removes from the namespace what the operator put on it and into it, and leaves the namespace.
	ActionReleaseNamespace Action = "ReleaseNamespace"
	// ActionDeleteNamespace deletes the namespace.
	ActionDeleteNamespace Action = "DeleteNamespace"
	// ActionReadNamespace reads DeletedNamespace from the API server.
	ActionReadNamespace Action = "ReadNamespace"
)

// Decision is what follows from what was observed: an action, or the Tenant's status when there is nothing to do. A decision with
// an action has a status too, for the case that the action fails. Zero values leave the status as it is.
type Decision struct {
	Action Action

	// Running is status.running.
	Running *int32
	// Namespace is status.namespace and status.state.
	Namespace *NamespaceStatus
	Ready     Condition
	Suspended Condition
	Enforced  Condition
	Conform   Condition
	Progress  Progress
	// DeletedCopies are to be taken out of status.copiedSecrets, by name.
	DeletedCopies []string

	// After is when to decide again, if no event comes before. Zero means never.
	After time.Duration
	// Err is what failed. It is tried again.
	Err error
	// Gone means that nothing is left of a Tenant that is being deleted, so that its finalizer can be removed.
	Gone bool
}

// NamespaceStatus is what the Tenant's status says about its namespace. The zero value means that it has none.
type NamespaceStatus struct {
	Ref   *v1alpha1.TenantNamespaceStatus
	State string
}

// Condition is a condition without its type.
type Condition struct {
	Status          metav1.ConditionStatus
	Reason, Message string
}

// Progress is what the conditions Reconciling and Stalled say.
type Progress struct {
	State           conditions.Progress
	Reason, Message string
}

// Decide returns what to do next about a Tenant. The first step that needs an action, or has to wait, ends the decision.
func Decide(o Observed) Decision {
	d := Decision{Running: new(int32(len(o.Jobs))), Enforced: enforced(o)}
	for _, step := range stepsOf(o) {
		next, proceed := step(o)
		d = d.with(next)
		if !proceed {
			break
		}
	}
	return d
}

// Failed returns the decision that is left when its action, or the observation, has failed. A conflict changes no condition,
// because it is tried again at once. A Tenant that was ready stays ready, because a failed request changes nothing.
func (d Decision) Failed(t *v1alpha1.Tenant, err error) Decision {
	d.Action, d.Err = ActionNone, errors.Join(d.Err, err)
	if apierrors.IsConflict(err) {
		return d
	}
	message := fmt.Sprintf("retrying: %v", d.Err)
	ready := conditions.Ready(t.Status.Conditions)
	if d.Ready == (Condition{}) && (ready.Status == "" || ready.ObservedGeneration != t.Generation) {
		d.Ready = Condition{metav1.ConditionUnknown, v1alpha1.ReasonProgressing, message}
	}
	if d.Progress.State != conditions.Stalled {
		d.Progress = Progress{conditions.Reconciling, v1alpha1.ReasonProgressing, message}
	}
	return d
}

// with adds the decision of the next step. If several steps say why the Tenant is not Current, the first is kept.
func (d Decision) with(next Decision) Decision {
	d.Action, d.Gone = next.Action, next.Gone
	d.Err = errors.Join(d.Err, next.Err)
	if next.After != 0 {
		d.After = next.After
	}
	d.DeletedCopies = append(d.DeletedCopies, next.DeletedCopies...)
	if next.Namespace != nil {
		d.Namespace = next.Namespace
	}
	if next.Ready != (Condition{}) {
		d.Ready = next.Ready
	}
	if next.Suspended != (Condition{}) {
		d.Suspended = next.Suspended
	}
	if next.Conform != (Condition{}) {
		d.Conform = next.Conform
	}
	if next.Progress != (Progress{}) && (d.Progress == (Progress{}) || d.Progress.State == conditions.Current) {
		d.Progress = next.Progress
	}
	return d
}
