package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
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

type tenantJobReconciler struct{ deps }

// Reconcile brings one TenantJob a step further.
func (r *tenantJobReconciler) Reconcile(ctx context.Context, tj *v1alpha1.TenantJob) (reconcile.Result, error) {
	now := r.opts.Clock.Now()
	base := tj.DeepCopy()
	observed, err := r.observe(ctx, tj, now)
	if err != nil {
		return reconcile.Result{}, err
	}
	decision, err := r.act(ctx, &observed, job.Decide(observed, now), now)
	if err != nil {
		return reconcile.Result{}, err
	}
	recordRun(tj, observed, decision, now)
	if err := patchStatus(ctx, r.Client, tj, base); err != nil {
		return retryStale(err)
	}
	if r.isWrittenDown(ctx, base, observed) {
		r.starts.Forget(tj.UID)
	}
	r.announce(base, tj, decision)
	return reconcile.Result{RequeueAfter: decision.After}, nil
}

// isWrittenDown says whether the caches know of a start all that the door remembers: the TenantJob says that it was
// started or is over, and its Job is among those that are counted, or gone.
func (r *tenantJobReconciler) isWrittenDown(ctx context.Context, tj *v1alpha1.TenantJob, o job.Observed) bool {
	if tj.Status.JobRef == nil && !job.IsOver(tj) {
		return false
	}
	return o.Job == nil || cachedJobs{ctx, r.Client}.known(keyOf(tj))
}

// act carries a decision out and returns the one that stands afterwards.
func (r *tenantJobReconciler) act(ctx context.Context, o *job.Observed, d job.Decision, now time.Time) (job.Decision, error) {
	switch d.Action {
	case job.ActionStart:
		return r.start(ctx, o, d, now)
	case job.ActionStop:
		return d, r.remove(ctx, o.Job, metav1.DeletePropagationForeground)
	case job.ActionRemove:
		return d, r.remove(ctx, o.TenantJob, metav1.DeletePropagationBackground)
	default:
		return d, nil
	}
}

// start makes the Job, if the door lets it through. Dying right after leaves a Job that the next Reconcile finds by its
// name and owner.
func (r *tenantJobReconciler) start(ctx context.Context, o *job.Observed, d job.Decision, now time.Time) (job.Decision, error) {
	run := job.Run{TenantJob: o.TenantJob, Tenant: o.Tenant, Template: o.Template}
	if labelled, err := r.label(ctx, o.TenantJob, job.Labels(run, d.Values)); err != nil || labelled {
		return job.Decision{}, err
	}
	end, hold, err := r.starts.Begin(o.TenantJob, o.Tenant, o.Template, cachedJobs{ctx, r.Client})
	switch {
	case err != nil:
		return d, err
	case hold != Hold{}:
		return heldBack(*o, hold, now), nil
	}
	made := job.Build(run, d.Values)
	err = r.Create(ctx, made, client.FieldOwner(FieldManager))
	if apierrors.IsAlreadyExists(err) {
		made = &batchv1.Job{}
		err = r.live.Get(ctx, keyOf(o.TenantJob), made)
		if err == nil && !metav1.IsControlledBy(made, o.TenantJob) {
			end(NotMade)
			return job.NameTaken(*o, made), nil
		}
	}
	end(outcomeOf(err))
	if err != nil {
		return refusedJob(*o, err, now)
	}
	o.Job = made
	return job.Decide(*o, now), nil
}

// heldBack is the decision about a run that the door held back.
func heldBack(o job.Observed, hold Hold, now time.Time) job.Decision {
	d := job.Decision{}
	if hold.Limit != "" {
		d = job.Queued(o, hold.Limit, now)
	}
	if hold.Brief && (d.After == 0 || d.After > job.SettleAfter) {
		d.After = job.SettleAfter
	}
	return d
}

// outcomeOf a start says whether there is a Job. Without an answer there may be one soon.
func outcomeOf(err error) Outcome {
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return Made
	case errors.As(err, &status) && status.Status().Code >= http.StatusBadRequest && status.Status().Code < http.StatusInternalServerError:
		return NotMade
	default:
		return Unsure
	}
}

// refusedJob is the decision about a run whose Job the API server refused.
func refusedJob(o job.Observed, err error, now time.Time) (job.Decision, error) {
	switch {
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return job.Refused(err.Error()), nil
	case apierrors.IsForbidden(err): // quota, a terminating namespace, a role binding that is not in effect yet
		d := job.Queued(o, "the API server refuses the Job: "+err.Error(), now)
		d.After = job.LookAgainAfter
		return d, nil
	}
	return job.Decision{}, fmt.Errorf("creating Job %s: %w", keyOf(o.TenantJob), err)
}

// label puts the operator's labels on a TenantJob that lacks some, and says whether it did.
func (r *tenantJobReconciler) label(ctx context.Context, tj *v1alpha1.TenantJob, labels map[string]string) (bool, error) {
	labelled := tj.DeepCopy()
	changed := false
	for key, value := range labels {
		if labelled.Labels[key] != value {
			metav1.SetMetaDataLabel(&labelled.ObjectMeta, key, value)
			changed = true
		}
	}
	if !changed {
		return false, nil
	}
	err := r.Patch(ctx, labelled, client.MergeFrom(tj), client.FieldOwner(FieldManager))
	if err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("labelling TenantJob %s: %w", keyOf(tj), err)
	}
	return true, nil
}

// remove deletes this very object, never another of its name.
func (r *tenantJobReconciler) remove(ctx context.Context, obj client.Object, propagation metav1.DeletionPropagation) error {
	err := r.Delete(ctx, obj, client.PropagationPolicy(propagation), client.Preconditions{UID: new(obj.GetUID())})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("deleting %T %s: %w", obj, keyOf(obj), err)
	}
	return nil
}

// announce emits an event when a run has ended otherwise than well.
func (r *tenantJobReconciler) announce(before, after *v1alpha1.TenantJob, d job.Decision) {
	if job.IsOver(before) || !job.IsOver(after) || d.Status == metav1.ConditionTrue {
		return
	}
	if d.Progress == job.Stalled {
		r.warn(after, d.Reason, "Run", d.Message)
	} else {
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

// cachedJobs answers the door's questions from the cache.
type cachedJobs struct {
	ctx    context.Context
	reader client.Reader
}

func (c cachedJobs) inNamespace(namespace string) ([]batchv1.Job, error) {
	var live batchv1.JobList
	err := c.reader.List(c.ctx, &live, client.InNamespace(namespace), client.MatchingFields{indexLive: "true"}, client.UnsafeDisableDeepCopy)
	return live.Items, err
}

func (c cachedJobs) known(key types.NamespacedName) bool {
	var found batchv1.Job
	return c.reader.Get(c.ctx, key, &found) == nil
}
