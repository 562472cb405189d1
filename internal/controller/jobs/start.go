package jobs

import (
	"context"
	"fmt"
	"maps"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/dispatch"
	"github.com/tenantry/tenantry/internal/issuer"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/queue"
)

// start makes the Job, if the dispatcher admits the TenantJob. Dying right after leaves a Job that the next pass finds by
// its name and owner. One that has to wait costs no write before it has waited for a while.
func (r *Reconciler) start(ctx context.Context, p *pass, d job.Decision, now time.Time) (job.Decision, error) {
	run := job.Run{TenantJob: p.TenantJob, Tenant: p.Tenant, Template: p.Template, FanOut: p.FanOut}
	candidate, err := r.candidate(ctx, p.Observed, now)
	if err != nil {
		return d, err
	}
	labels := job.Labels(run, d.Values)
	answer, credentials := r.ask(p.Observed, candidate)
	switch {
	case answer.Admitted:
		return r.issue(ctx, p, labels, credentials.IssuingFor, now)
	case answer.Finish == nil:
		return r.wait(ctx, answer, p.TenantJob, labels)
	}
	run.Bindings = credentials.Bindings
	result, why := dispatch.NotMade, ""
	defer func() { answer.Finish(result, why) }()
	// It gives up before another leader could take over.
	writing, cancel := context.WithTimeout(ctx, dispatch.WriteTimeout)
	defer cancel()
	if answer.Doubtful {
		gone, err := r.wasMade(writing, p.TenantJob)
		if err != nil {
			result, why = dispatch.Uncertain, err.Error() // An earlier attempt that got no answer may still make it.
			return d, err
		}
		if gone {
			why, p.Started, p.standing.Started = "its Job was made before, and is gone", true, true
			return job.Decide(p.Observed, now), nil
		}
	}
	if _, err := r.label(writing, p.TenantJob, labels); err != nil {
		// No Job was made. Without a back-off it would be admitted again at once, and refused again, for ever.
		result, why = dispatch.Refused, job.RefusedLabels(p.TenantJob, kube.MessageOf(err))
		d := job.Queued(why)
		d.Trouble = job.TenantsTrouble
		return d, ignoreRefusal(err)
	}
	created, err := r.create(writing, p.TenantJob, job.Build(run, d.Values))
	switch {
	case err == nil && !metav1.IsControlledBy(created, p.TenantJob):
		d := r.nameTaken(writing, p.Observed, created, now)
		why = d.Message
		return d, nil
	case err != nil:
		result, why = resultOf(err), job.RefusedJob(p.TenantJob, kube.MessageOf(err))
		if kube.RefusalOf(err) == kube.RefusalQuota {
			room, err := r.makeRoom(writing, p.TenantJob, now)
			if err != nil {
				return d, err
			}
			why += room
		}
		return refused(p.TenantJob, err, why)
	}
	result, p.Job, p.Started, p.standing.Started = dispatch.Made, created, true, true
	due := candidate.Created
	if candidate.NotBefore.After(due) {
		due = candidate.NotBefore
	}
	r.Metrics.Started(candidate.Queue, string(candidate.Priority), now.Sub(due))
	return job.Decide(p.Observed, now), nil
}

// ask asks the dispatcher whether a TenantJob may start now. Before its credentials are issued no start begins: one that is admitted has
// them issued first.
func (r *Reconciler) ask(o job.Observed, candidate queue.Job) (dispatch.Answer, issuer.Standing) {
	message := limitMessage(o.TenantJob)
	if !needsCredentials(o) {
		return r.Dispatcher.Ask(candidate, message), issuer.Standing{}
	}
	credentials := r.Credentials.Standing(o.TenantJob)
	if credentials.Issued {
		return r.Dispatcher.Ask(candidate, message), credentials
	}
	return r.Dispatcher.Prepare(candidate, message), credentials
}

// nameTaken is the decision about a TenantJob when another Job has its name. One that has lost its TenantJob is stopped.
func (r *Reconciler) nameTaken(ctx context.Context, o job.Observed, other *batchv1.Job, now time.Time) job.Decision {
	d := job.NameTaken(o, other)
	if d.RequeueAfter > 0 {
		d.RequeueAfter = job.RetryAfter(o.TenantJob.CreationTimestamp.Time, now)
	}
	if _, err := r.stopOrphan(ctx, other); err != nil {
		d.Message += "; it can't be deleted: " + kube.MessageOf(err)
	}
	return d
}

// wasMade says whether a TenantJob has had a Job with a pod that is gone. The operator may have died before it wrote into the status
// that it had made the Job; the Job controller's event about the pod outlives the Job.
func (r *Reconciler) wasMade(ctx context.Context, tj *v1alpha1.TenantJob) (bool, error) {
	var events corev1.EventList
	about := client.MatchingFields{"involvedObject.kind": "Job", "involvedObject.name": tj.Name, "reason": job.ReasonPodCreated}
	if err := r.Live.List(ctx, &events, client.InNamespace(tj.Namespace), about); err != nil {
		return false, fmt.Errorf("listing the events of Job %s: %w", kube.KeyOf(tj), err)
	}
	if !job.HadPod(tj, events.Items) {
		return false, nil
	}
	existing, err := r.job(ctx, tj, true)
	return existing == nil, err
}

// create makes a Job, or returns the one that has its name.
func (r *Reconciler) create(ctx context.Context, tj *v1alpha1.TenantJob, built *batchv1.Job) (*batchv1.Job, error) {
	err := r.Create(ctx, built, client.FieldOwner(kube.FieldManager))
	if apierrors.IsAlreadyExists(err) {
		built = &batchv1.Job{}
		err = r.Live.Get(ctx, kube.KeyOf(tj), built)
	}
	return built, err
}

// wait is the decision about a TenantJob that the dispatcher did not admit. One that says in its status which limit holds
// it is labelled first: then it is found by its queue.
func (r *Reconciler) wait(ctx context.Context, a dispatch.Answer, tj *v1alpha1.TenantJob, labels map[string]string) (job.Decision, error) {
	switch {
	case a.End != nil:
		return job.EndWith(a.End.Reason, a.End.Message), nil
	case a.Hold.Kind == "":
		return job.Decision{RequeueAfter: a.Again}, nil
	}
	if len(missingOf(tj, labels)) > 0 {
		labelled := false
		wait, err := r.shares.Write(ctx, kube.KeyOf(tj), func(ctx context.Context) (err error) {
			labelled, err = r.label(ctx, tj, labels)
			return err
		})
		if err = ignoreRefusal(err); err != nil || labelled || wait > 0 {
			return job.Decision{RequeueAfter: wait}, err // The watch brings it back, and then its status is written.
		}
	}
	d := job.Queued(a.Hold.Message())
	switch {
	case a.Hold.Kind == queue.HeldByPolicies:
		d = job.NotEnforced(a.Hold.Message())
	case a.Hold.Kind != queue.HeldByBackoff:
	case a.ServerInTrouble:
		d.Trouble = job.UnclearTrouble
	default:
		d.Trouble = job.TenantsTrouble // The API server refuses the tenant's starts.
	}
	d.Waited = &job.Waited{Before: a.Waited, Counts: a.Hold.CountsAsWait()}
	return d, nil
}

// resultOf is what an error of a create means for the start. Without an answer there may be a Job soon.
func resultOf(err error) dispatch.StartResult {
	switch kube.RefusalOf(err) {
	case kube.RefusalInvalid:
		return dispatch.NotMade
	case kube.RefusalUnknown:
		return dispatch.Uncertain
	default:
		return dispatch.Refused
	}
}

// refused is the decision about a run whose Job the API server refused.
func refused(tj *v1alpha1.TenantJob, err error, why string) (job.Decision, error) {
	switch kube.RefusalOf(err) {
	case kube.RefusalInvalid:
		return job.Refused(kube.MessageOf(err)), nil
	case kube.RefusalQuota, kube.RefusalTerminating, kube.RefusalForbidden, kube.RefusalOperator: // a role binding may not be in effect yet
		d := job.Queued(why)
		if d.Trouble = job.TenantsTrouble; kube.RefusalOf(err) == kube.RefusalOperator {
			d.Trouble = job.UnclearTrouble
		}
		return d, nil
	default:
		return job.Decision{}, fmt.Errorf("creating Job %s: %w", kube.KeyOf(tj), err)
	}
}

// ignoreRefusal drops an error with which the API server has refused a write: to try it again at once would be in vain.
func ignoreRefusal(err error) error {
	if kube.RefusalOf(err) == kube.RefusalUnknown {
		return err
	}
	return nil
}

// missingOf are those of some labels that a TenantJob lacks.
func missingOf(tj *v1alpha1.TenantJob, labels map[string]string) map[string]string {
	missing := maps.Clone(labels)
	maps.DeleteFunc(missing, func(key, value string) bool { return tj.Labels[key] == value })
	return missing
}

// label puts the operator's labels on a TenantJob that lacks some, and says whether it did.
func (r *Reconciler) label(ctx context.Context, tj *v1alpha1.TenantJob, labels map[string]string) (bool, error) {
	missing := missingOf(tj, labels)
	if len(missing) == 0 {
		return false, nil
	}
	labelled := tj.DeepCopy()
	for key, value := range missing {
		metav1.SetMetaDataLabel(&labelled.ObjectMeta, key, value)
	}
	if err := r.Patch(ctx, labelled, client.MergeFrom(tj), client.FieldOwner(kube.FieldManager)); err != nil {
		return false, fmt.Errorf("labelling TenantJob %s: %w", kube.KeyOf(tj), err)
	}
	tj.Labels, tj.ResourceVersion = labelled.Labels, labelled.ResourceVersion
	return true, nil
}

// candidate is what the dispatcher has to know of a TenantJob that may start but for limits.
func (r *Reconciler) candidate(ctx context.Context, o job.Observed, now time.Time) (queue.Job, error) {
	j := queueJob(o)
	j.MaxWait = job.MaxWait(o.TenantJob, o.Template)
	j.Waited = waited(&o.TenantJob.Status, r.absence(), now)
	if j.Schedule == "" {
		return j, nil
	}
	schedule, err := kube.Find(ctx, r.Client, types.NamespacedName{Name: j.Schedule}, &v1alpha1.TenantSchedule{})
	if schedule != nil {
		j.Overlap = schedule.Spec.ConcurrencyPolicy
	}
	return j, err
}

// waitingFor is a TenantJob that waits for what a decision says, or for what its status does not have to say.
func waitingFor(o job.Observed, d job.Decision) queue.Job {
	j := queueJob(o)
	if j.Held = d.Message; j.Held == "" {
		j.Held = "it is being checked"
	}
	return j
}

// queueJob is what the dispatcher has to know of any TenantJob that waits.
func queueJob(o job.Observed) queue.Job {
	tj := o.TenantJob
	j := queue.Job{UID: tj.UID, Key: kube.KeyOf(tj), Tenant: tj.Spec.TenantRef.Name, Template: tj.Spec.TemplateRef.Name, Created: tj.CreationTimestamp.Time}
	if o.FanOut != nil {
		j.FanOut, j.Schedule = tj.Name, o.FanOut.Schedule // A child has the name of its fan-out.
	}
	if due := tj.Spec.NotBeforeTime; due != nil {
		j.NotBefore = due.Time
	}
	if o.Template != nil {
		j.Queue, j.Priority = o.Template.QueueName(), o.Template.Spec.Priority
	}
	return j
}

// succeeded is the condition Succeeded of a TenantJob.
func succeeded(tj *v1alpha1.TenantJob) metav1.Condition {
	return conditions.Get(tj.Status.Conditions, v1alpha1.ConditionSucceeded)
}

// limitMessage is what a TenantJob's status says of the limit, or of the policy, that holds it. Empty when it says nothing of one.
func limitMessage(tj *v1alpha1.TenantJob) string {
	if c := succeeded(tj); c.Reason == v1alpha1.ReasonQueued || c.Reason == v1alpha1.ReasonPolicyNotEnforced {
		return c.Message
	}
	return ""
}
