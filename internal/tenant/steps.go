package tenant

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

const (
	// PollInterval is the time between two reads of what a Tenant waits for and nobody watches: pods, TenantJobs that are
	// being deleted, namespaces without the operator's label.
	PollInterval = 2 * time.Second
	// AdoptionInterval is the time between two reads of a namespace whose adoption nobody has consented to, or in which somebody
	// else's object has a name of the operator's.
	AdoptionInterval = 10 * time.Second
	// HeldInterval is the time between two looks at the Jobs that are being stopped, in case that somebody's finalizer holds
	// their pods.
	HeldInterval = 5 * time.Second
	// releaseInterval is the time from the status that says that the namespace is no longer the tenant's to its release.
	releaseInterval = 50 * time.Millisecond
	// ResyncInterval is the time between two reads of what is watched, in case that an event is missing. There is none for a
	// namespace whose label somebody has removed.
	ResyncInterval = time.Minute
)

// step decides about one part of a Tenant. Proceed means that this step needs no action and waits for nothing, so that the next
// step may follow.
type step func(o Observed) (d Decision, proceed bool)

// stepsOf returns the steps for a Tenant, in their order. The order makes a suspension safe. First the label on the namespace
// makes the API server refuse new pods, and the lock keeps the dispatcher from creating Jobs. Only then does it mean something
// that no Job, no pod and no credential is left.
func stepsOf(o Observed) []step {
	switch {
	case o.isDeleting() && (o.Claim != Owned || o.Did(ActionReleaseNamespace)):
		return []step{lockDispatcher, reportGone}
	case o.isDeleting() && (o.Namespace.DeletionTimestamp != nil || o.Did(ActionDeleteNamespace)):
		return []step{reportDeleting, lockDispatcher, ensureNamespace, awaitDeletion}
	case o.isDeleting() && Retains(o.Tenant, o.Namespace):
		return []step{reportDeleting, lockDispatcher, ensureNamespace, ensureRights, awaitJobs, awaitPods, revokeCredentials, deleteTenantJobs, forgetNamespace, releaseNamespace}
	case o.isDeleting():
		return []step{reportDeleting, lockDispatcher, ensureNamespace, ensureRights, awaitJobs, awaitPods, revokeCredentials, deleteTenantJobs, deleteNamespace}
	case o.Claim == Conflict, o.Claim == Terminating:
		return []step{lockDispatcher, reportNoNamespace}
	case o.Tenant.Suspended():
		return []step{ensureNamespace, ensureContents, checkData, lockDispatcher, skipIfSuspended, awaitJobs, awaitPods, revokeCredentials, deleteCopies, reportSuspended}
	}
	return []step{ensureNamespace, ensureContents, checkData, unlockDispatcher, deleteCopies, checkWorkloads, reportActive}
}

// reportNoNamespace reports that the Tenant may not have the namespace that it names. Nothing can run for it.
func reportNoNamespace(o Observed) (Decision, bool) {
	d := Decision{
		Namespace: &NamespaceStatus{},
		Ready:     Condition{metav1.ConditionFalse, v1alpha1.ReasonNamespaceConflict, o.ClaimMessage},
		Progress:  Progress{conditions.Stalled, v1alpha1.ReasonNamespaceConflict, o.ClaimMessage},
		Suspended: Condition{metav1.ConditionFalse, v1alpha1.ReasonActive, "jobs may run as soon as the tenant has its namespace"},
		After:     AdoptionInterval,
	}
	if o.Claim == Terminating {
		d.Ready, d.Progress = terminating(o.ClaimMessage)
		d.After = PollInterval
	}
	if o.Tenant.Suspended() {
		d.Suspended = nothingLeft
	}
	return d, false
}

// ensureNamespace ensures that the namespace exists, with the labels and annotations that it should have.
func ensureNamespace(o Observed) (Decision, bool) {
	switch {
	case o.Namespace == nil:
		return Decision{Action: ActionCreateNamespace}, false
	case o.Claim == Adoptable && !o.Did(ActionListContents):
		return Decision{Action: ActionListContents}, false
	case !o.Did(ActionApplyNamespace) && !(o.Desired.WrittenTo(o.Namespace) && o.Desired.Matches(o.Namespace)):
		return Decision{Action: ActionApplyNamespace}, false
	}
	ref := &v1alpha1.TenantNamespaceStatus{Name: o.Namespace.Name, UID: o.Namespace.UID, Adopted: IsAdopted(o.Tenant, o.Namespace)}
	if o.isDeleting() { // It is only taken out of the status then, before the release.
		ref = o.Tenant.Status.Namespace
	}
	return Decision{Namespace: &NamespaceStatus{Ref: ref, State: State(o.Tenant)}}, true
}

// ensureContents ensures that everything is in the namespace that should be. The next steps do not depend on it, so that a tenant
// can be suspended and resumed when this fails.
func ensureContents(o Observed) (Decision, bool) {
	isTerminating := o.Namespace.DeletionTimestamp != nil || apierrors.HasStatusCause(o.Contents.Err, corev1.NamespaceTerminatingCause)
	switch {
	case isTerminating:
		ready, progress := terminating(terminatingMessage(o.Namespace.Name))
		return Decision{Ready: ready, Progress: progress}, true
	case needsContents(o):
		return Decision{Action: ActionWriteContents}, false
	case len(o.Contents.Taken) > 0:
		message := takenMessage(o.Namespace.Name, o.Contents.Taken)
		return Decision{
			Ready:    Condition{metav1.ConditionFalse, v1alpha1.ReasonNamespaceConflict, message},
			Progress: Progress{conditions.Stalled, v1alpha1.ReasonNamespaceConflict, message},
			Err:      o.Contents.Err,
			After:    AdoptionInterval,
		}, true
	case o.Contents.Refused != nil:
		message := o.Contents.Refused.Error()
		return Decision{
			Ready:    Condition{metav1.ConditionFalse, v1alpha1.ReasonInvalidSpec, message},
			Progress: Progress{conditions.Stalled, v1alpha1.ReasonInvalidSpec, message},
			Err:      o.Contents.Err,
		}, true
	case o.Contents.Err != nil:
		return Decision{}.Failed(o.Tenant, o.Contents.Err), true
	}
	message := fmt.Sprintf("namespace %s is as the spec says", o.Namespace.Name)
	return Decision{
		Ready:    Condition{metav1.ConditionTrue, v1alpha1.ReasonReady, message},
		Progress: Progress{conditions.Current, v1alpha1.ReasonReady, message},
	}, true
}

// checkData reports that another Tenant has the same external id, or the same database of its own, so that the jobs of one would work with
// the data of the other. Such a Tenant is not ready, and so starts nothing.
func checkData(o Observed) (Decision, bool) {
	if o.SameExternalID == "" && o.SharedDatabase == "" {
		return Decision{}, true
	}
	message := o.SharedDatabase
	if o.SameExternalID != "" {
		message = fmt.Sprintf("`spec.externalID` must be unique, and Tenant %s has %q already: delete one of the two Tenants, and create it again with its own `spec.externalID`",
			o.SameExternalID, o.Tenant.ExternalID())
	}
	return Decision{
		Ready:    Condition{metav1.ConditionFalse, v1alpha1.ReasonInvalidSpec, message},
		Progress: Progress{conditions.Stalled, v1alpha1.ReasonInvalidSpec, message},
	}, true
}

// ensureRights ensures that the operator has its rights in the namespace of a Tenant that is being deleted. They come from a
// RoleBinding in the namespace, and somebody may have deleted that. It also ensures that the tenant's members have none any
// more, so that the list of TenantJobs ends. Nothing else in the namespace holds the deletion.
func ensureRights(o Observed) (Decision, bool) {
	switch {
	case needsContents(o):
		return Decision{Action: ActionWriteContents}, false
	case o.Contents.Rights != nil:
		return Decision{}.Failed(o.Tenant, o.Contents.Rights), false
	}
	return Decision{}, true
}

func needsContents(o Observed) bool {
	return !o.Did(ActionWriteContents) && (o.Verify || !o.Desired.WrittenTo(o.Namespace))
}

// unlockDispatcher lets the tenant's TenantJobs start.
func unlockDispatcher(o Observed) (Decision, bool) {
	if !o.Did(ActionUnlock) {
		return Decision{Action: ActionUnlock}, false
	}
	return Decision{}, true
}

// reportActive reports that the tenant is not suspended.
func reportActive(Observed) (Decision, bool) {
	return Decision{Suspended: Condition{metav1.ConditionFalse, v1alpha1.ReasonActive, "jobs may run"}}, false
}

// lockDispatcher keeps the tenant's TenantJobs from starting.
func lockDispatcher(o Observed) (Decision, bool) {
	if !o.Did(ActionLock) {
		return Decision{Action: ActionLock}, false
	}
	return Decision{}, true
}

// skipIfSuspended ends the decision about a tenant whose status says that it is suspended. The status has to be found out again
// when the tenant has a Job or is verified.
func skipIfSuspended(o Observed) (Decision, bool) {
	return Decision{}, !o.staysSuspended() || len(o.Jobs) > 0 || o.Verify
}

// awaitJobs waits until the tenant's Jobs have ended. The TenantJob controller stops them or lets them finish. Jobs are watched, so
// there is no need to poll.
func awaitJobs(o Observed) (Decision, bool) {
	jobs := o.awaitedJobs()
	if len(jobs) == 0 && !o.Did(ActionListJobs) {
		return reading(o, ActionListJobs), false
	}
	wait := WaitForJobs(jobs, o.drains())
	switch {
	case wait.Done() && len(o.Jobs) > 0 && !o.Did(ActionDeleteOrphans):
		return reading(o, ActionDeleteOrphans), false
	case wait.Done():
		return Decision{}, true
	}
	d := waiting(o, wait, ResyncInterval)
	if !o.drains() || anyDeleted(o.Jobs) {
		d.After = HeldInterval
	}
	switch {
	case !o.Did(ActionDeleteOrphans):
		d.Action = ActionDeleteOrphans
	case anyDeleted(o.Jobs) && !o.Did(ActionListHeld):
		d.Action = ActionListHeld
	}
	return d, false
}

// awaitPods waits until the tenant's pods have ended, and deletes those that do not end by themselves.
func awaitPods(o Observed) (Decision, bool) {
	if !o.Did(ActionListPods) {
		return reading(o, ActionListPods), false
	}
	wait, toDelete := WaitForPods(o.Pods, o.drains())
	if wait.Done() {
		return Decision{}, true
	}
	d := waiting(o, wait, PollInterval)
	if len(toDelete) > 0 && !o.Did(ActionDeletePods) {
		d.Action = ActionDeletePods
	}
	return d, false
}

// revokeCredentials revokes the tenant's credentials once no pod is left that could use them.
func revokeCredentials(o Observed) (Decision, bool) {
	if !o.Did(ActionRevokeCredentials) {
		return reading(o, ActionRevokeCredentials), false
	}
	if wait := WaitForCredentials(o.Credentials); !wait.Done() {
		return waiting(o, wait, PollInterval), false
	}
	return Decision{}, true
}

var nothingLeft = Condition{metav1.ConditionTrue, v1alpha1.ReasonSuspended, "no pod and no live credential is left"}

// reportSuspended reports that the tenant is suspended.
func reportSuspended(Observed) (Decision, bool) { return Decision{Suspended: nothingLeft}, false }

// deleteTenantJobs waits until the TenantJobs of a Tenant that is being deleted are gone, and deletes them.
func deleteTenantJobs(o Observed) (Decision, bool) {
	if !o.Did(ActionListTenantJobs) {
		return Decision{Action: ActionListTenantJobs}, false
	}
	wait, toDelete := WaitForTenantJobs(o.TenantJobs, o.Tenant.DeletionTimestamp.Time)
	deletes := toDelete && !o.Did(ActionDeleteTenantJobs)
	if wait.Done() && !deletes {
		return Decision{}, true
	}
	d := waiting(o, wait, PollInterval)
	switch {
	case deletes:
		d.Action = ActionDeleteTenantJobs
	case anyDeleted(pointersTo(o.TenantJobs)) && !o.Did(ActionListHeld):
		d.Action = ActionListHeld
	}
	return d, false
}

// forgetNamespace takes the namespace out of the status before the release. The release takes everything off the namespace that
// says whose it is. If the operator died after it and before the finalizer is removed, the status would still say that the
// namespace is the tenant's, and nothing that it must not be deleted.
func forgetNamespace(o Observed) (Decision, bool) {
	if o.Tenant.Status.Namespace == nil {
		return Decision{}, true
	}
	wait := Wait{v1alpha1.ReasonDeletingNamespace, fmt.Sprintf("releasing namespace %s", o.Namespace.Name)}
	d := waiting(o, wait, releaseInterval)
	d.Namespace = &NamespaceStatus{State: State(o.Tenant)}
	return d, false
}

// releaseNamespace releases a namespace that stays.
func releaseNamespace(Observed) (Decision, bool) {
	return Decision{Action: ActionReleaseNamespace}, false
}

// deleteNamespace deletes a namespace that does not stay.
func deleteNamespace(Observed) (Decision, bool) {
	return Decision{Action: ActionDeleteNamespace}, false
}

// awaitDeletion waits until the namespace of a Tenant that is being deleted is gone. The namespace controller deletes what is
// in it, and the operator has no rights in it any more.
func awaitDeletion(o Observed) (Decision, bool) {
	switch {
	case !o.Did(ActionReadNamespace):
		return Decision{Action: ActionReadNamespace}, false
	case o.DeletedNamespace == nil:
		return reportGone(o)
	}
	d := waiting(o, WaitForNamespace(o.DeletedNamespace), ResyncInterval)
	if !o.Did(ActionDeleteNamespace) && !o.Did(ActionListHeld) { // The namespace controller does not say what is held.
		d.Action = ActionListHeld
	}
	return d, false
}

// reportGone reports that nothing of the Tenant is left.
func reportGone(Observed) (Decision, bool) { return Decision{Gone: true}, false }

// reportDeleting reports that nothing may run for a Tenant that is being deleted. The next steps say what the deletion waits
// for.
func reportDeleting(Observed) (Decision, bool) {
	return Decision{Suspended: Condition{metav1.ConditionUnknown, v1alpha1.ReasonStoppingJobs, "the Tenant is being deleted, and its jobs are stopped"}}, true
}

// reading decides to find out what is left of a tenant. If that fails, the status must not say that nothing is left.
func reading(o Observed, a Action) Decision {
	d := Decision{Action: a}
	if !o.isDeleting() && !o.staysSuspended() {
		d.Suspended = Condition{metav1.ConditionUnknown, v1alpha1.ReasonStoppingJobs, "finding out what still runs"}
	}
	return d
}

// waiting decides to wait, and to decide again after some time. The message names what somebody's finalizer holds. Of a Tenant
// that is being deleted, both conditions say so: it is neither ready nor are its jobs suspended until it is gone.
func waiting(o Observed, w Wait, after time.Duration) Decision {
	w = w.heldBy(o.Held)
	d := Decision{
		Progress:  Progress{conditions.Reconciling, w.Reason, w.Message},
		Suspended: Condition{metav1.ConditionUnknown, w.Reason, w.Message},
		After:     after,
	}
	if o.isDeleting() {
		d.Ready = Condition{metav1.ConditionFalse, w.Reason, w.Message}
	}
	return d
}

func takenMessage(namespace string, taken []string) string {
	return fmt.Sprintf("somebody else's objects have names that the operator needs in namespace %s: %s; delete them, or create them again under other names", namespace, conditions.FirstOf(taken))
}

func terminating(message string) (Condition, Progress) {
	return Condition{metav1.ConditionFalse, v1alpha1.ReasonNamespaceTerminating, message},
		Progress{conditions.Reconciling, v1alpha1.ReasonNamespaceTerminating, message}
}
