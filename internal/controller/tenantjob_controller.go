package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/metrics"
)

// What the TenantJob controller writes, wherever tenants are. Jobs are made under the RoleBinding that the operator has
// in each tenant's namespace, so it makes none elsewhere.
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantjobs,verbs=get;list;watch;patch;delete
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantjobs/status,verbs=patch
// Job's owner reference blocks the deletion of its owner, which needs the right to change the owner's finalizers.
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantjobs/finalizers,verbs=update
// What it reads.
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenants;tenantjobtemplates,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;watch
// Why a Job has no running pod: the pod's own reason, and the Job controller's FailedCreate events.
// +kubebuilder:rbac:groups="",resources=pods;events,verbs=get;list
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

type tenantJobReconciler struct {
	deps
	jobs       jobShelf
	tenantJobs shelf[*v1alpha1.TenantJob]
	tenants    shelf[*v1alpha1.Tenant]
	templates  shelf[*v1alpha1.TenantJobTemplate]
	namespaces shelf[*metav1.PartialObjectMetadata]
}

// Reconcile brings one TenantJob a step further.
func (r *tenantJobReconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	cached, exists := r.tenantJobs.get(req.NamespacedName)
	if !exists {
		return reconcile.Result{}, nil
	}
	now := r.opts.Clock.Now()
	if after := r.dispatcher.Settles(cached.UID); after > 0 && r.jobs.get(req.NamespacedName) == nil {
		return reconcile.Result{RequeueAfter: after, Priority: new(startedLater)}, nil // Its Job is on its way into the cache.
	}
	tj, base := cached.DeepCopy(), *cached
	observed, err := r.observe(ctx, tj, now)
	if err != nil {
		return reconcile.Result{}, err
	}
	decision, err := r.act(ctx, &observed, job.Decide(observed, now), now)
	if err != nil {
		return reconcile.Result{}, err
	}
	if goesOn(decision) && r.isHushed(observed) {
		r.tell(observed)
		return reconcile.Result{}, nil
	}
	base.Labels, base.ResourceVersion = tj.Labels, tj.ResourceVersion // It may have been labelled.
	recordRun(tj, observed, decision, now)
	r.tell(observed)
	if err := patchStatus(ctx, r.Client, tj, &base); err != nil {
		return retryStale(err)
	}
	if r.isWrittenDown(&base, observed) {
		r.dispatcher.Forget(tj.UID, job.IsOver(&base))
	}
	r.announce(&base, tj, observed, decision)
	return reconcile.Result{RequeueAfter: decision.After, Priority: new(startedLater)}, nil
}

// goesOn says whether a decision is to do nothing and to wait.
func goesOn(d job.Decision) bool {
	return d.Action == job.ActionNone && (d.Reason == "" || d.Status == metav1.ConditionUnknown)
}

// tell the dispatcher how a TenantJob stands that does not ask: before its status is written, since another may start as
// soon as that is.
func (r *tenantJobReconciler) tell(o job.Observed) {
	switch tj := o.TenantJob; {
	case job.IsOver(tj), tj.DeletionTimestamp != nil:
		r.dispatcher.Over(tj.UID, childOutcome(tj))
	case o.Job != nil:
		r.dispatcher.Runs(tj.UID)
	}
}

// isWrittenDown says whether the caches know of a start all that the dispatcher remembers: the TenantJob says that it was
// started or is over, and its Job is in the cache, or gone.
func (r *tenantJobReconciler) isWrittenDown(tj *v1alpha1.TenantJob, o job.Observed) bool {
	if tj.Status.JobRef == nil && !job.IsOver(tj) {
		return false
	}
	return o.Job == nil || r.jobs.get(keyOf(tj)) != nil
}

// act carries a decision out and returns the one that stands afterwards.
func (r *tenantJobReconciler) act(ctx context.Context, o *job.Observed, d job.Decision, now time.Time) (job.Decision, error) {
	switch d.Action {
	case job.ActionStart:
		return r.start(ctx, o, d, now)
	case job.ActionStop:
		return d, r.deleteThis(ctx, o.Job, metav1.DeletePropagationForeground)
	case job.ActionRemove:
		return d, r.deleteThis(ctx, o.TenantJob, metav1.DeletePropagationBackground)
	}
	ends := d.Status == metav1.ConditionTrue || d.Status == metav1.ConditionFalse || o.TenantJob.DeletionTimestamp != nil
	if o.Job == nil && !ends && !job.IsOver(o.TenantJob) {
		r.dispatcher.Wait(waitingFor(*o, d))
	}
	return d, nil
}

// start makes the Job, if the dispatcher lets it. Dying right after leaves a Job that the next Reconcile finds by its name
// and owner. One that has to wait costs no write before it is known for how long.
func (r *tenantJobReconciler) start(ctx context.Context, o *job.Observed, d job.Decision, now time.Time) (job.Decision, error) {
	run := job.Run{TenantJob: o.TenantJob, Tenant: o.Tenant, Template: o.Template}
	candidate, err := r.candidate(ctx, *o, now)
	if err != nil {
		return d, err
	}
	answer := r.dispatcher.Ask(candidate, saidOfQueue(o.TenantJob))
	if answer.Begun == nil {
		held := heldBack(answer)
		if held.Reason != v1alpha1.ReasonQueued {
			return held, nil
		}
		if labelled, err := r.label(ctx, o.TenantJob, job.Labels(run, d.Values)); err != nil || labelled {
			return job.Decision{}, err // The watch brings it back, and then it says what holds it.
		}
		return held, nil
	}
	outcome, why := NotMade, ""
	defer func() { answer.Begun(outcome, why) }()
	if _, err := r.label(ctx, o.TenantJob, job.Labels(run, d.Values)); err != nil {
		return d, err
	}
	created, err := r.create(ctx, o.TenantJob, job.Build(run, d.Values))
	switch {
	case err == nil && !metav1.IsControlledBy(created, o.TenantJob):
		d := job.NameTaken(*o, created)
		why = d.Message
		return d, nil
	case err != nil:
		outcome, why = outcomeOf(err), "the API server refuses the Job: "+err.Error()
		return refusedJob(*o, err, why)
	}
	outcome, o.Job = Made, created
	r.metrics.Started(candidate.Queue, string(candidate.Priority), now.Sub(laterOf(candidate.Created, candidate.NotBefore)))
	return job.Decide(*o, now), nil
}

// create makes a Job, or returns the one that has its name. It gives up before another leader could take over.
func (r *tenantJobReconciler) create(ctx context.Context, tj *v1alpha1.TenantJob, built *batchv1.Job) (*batchv1.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, WriteTimeout)
	defer cancel()
	err := r.Create(ctx, built, client.FieldOwner(FieldManager))
	if apierrors.IsAlreadyExists(err) {
		built = &batchv1.Job{}
		err = r.live.Get(ctx, keyOf(tj), built)
	}
	return built, err
}

// heldBack is the decision about a run that the dispatcher did not let start.
func heldBack(a Answer) job.Decision {
	switch {
	case a.End != nil:
		return job.EndWith(a.End.Reason, a.End.Message)
	case a.Hold.Kind == "":
		return job.Decision{After: a.Again}
	}
	d := job.Queued(a.Hold.Message())
	d.Waited = &job.Waited{Before: a.Waited, Counts: a.Hold.CountsAsWait()}
	return d
}

// outcomeOf a start that came back with an error says whether there is a Job. Without an answer there may be one soon.
func outcomeOf(err error) Outcome {
	var status apierrors.APIStatus
	switch {
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return NotMade
	case errors.As(err, &status) && status.Status().Code >= http.StatusBadRequest && status.Status().Code < http.StatusInternalServerError:
		return Refused
	default:
		return Unsure
	}
}

// refusedJob is the decision about a run whose Job the API server refused.
func refusedJob(o job.Observed, err error, why string) (job.Decision, error) {
	switch {
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return job.Refused(err.Error()), nil
	case apierrors.IsForbidden(err): // quota, a terminating namespace, a role binding that is not in effect yet
		return job.Queued(why), nil
	}
	return job.Decision{}, fmt.Errorf("creating Job %s: %w", keyOf(o.TenantJob), err)
}

// label puts the operator's labels on a TenantJob that lacks some, and says whether it did.
func (r *tenantJobReconciler) label(ctx context.Context, tj *v1alpha1.TenantJob, labels map[string]string) (bool, error) {
	missing := maps.Clone(labels)
	maps.DeleteFunc(missing, func(key, value string) bool { return tj.Labels[key] == value })
	if len(missing) == 0 {
		return false, nil
	}
	labelled := tj.DeepCopy()
	for key, value := range missing {
		metav1.SetMetaDataLabel(&labelled.ObjectMeta, key, value)
	}
	if err := r.Patch(ctx, labelled, client.MergeFrom(tj), client.FieldOwner(FieldManager)); err != nil {
		return false, fmt.Errorf("labelling TenantJob %s: %w", keyOf(tj), err)
	}
	tj.Labels, tj.ResourceVersion = labelled.Labels, labelled.ResourceVersion
	return true, nil
}

// announce counts a run that has ended, and emits an event when that was otherwise than well.
func (r *tenantJobReconciler) announce(before, after *v1alpha1.TenantJob, o job.Observed, d job.Decision) {
	if job.IsOver(before) || !job.IsOver(after) {
		return
	}
	tenant := ""
	if o.Tenant != nil {
		tenant = o.Tenant.Name
	}
	switch fanout.OutcomeOf(d.Status, d.Reason, "").Counter {
	case fanout.Succeeded:
		r.metrics.Finished(tenant, metrics.OutcomeSucceeded)
	case fanout.Failed:
		r.metrics.Finished(tenant, metrics.OutcomeFailed)
		r.warn(after, d.Reason, "Run", d.Message)
	case fanout.Skipped:
		r.metrics.Finished(tenant, metrics.OutcomeSkipped)
		r.note(after, d.Reason, "Run", d.Message)
	}
}

// retryStale hides what a stale cache caused: the watch brings the newer object.
func retryStale(err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: 50 * time.Millisecond}, nil
	}
	return reconcile.Result{}, client.IgnoreNotFound(err)
}
