// Package jobs is the controller of TenantJobs: it observes one, has package job decide, carries that out, and writes its
// status once.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/dispatch"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
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
// Why a Job has no running pod: the pod's own reason, the kubelet's events about its volumes, and the Job controller's FailedCreate
// events. The latter's SuccessfulCreate events say that there was a Job that is gone.
// +kubebuilder:rbac:groups="",resources=pods;events,verbs=get;list
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconciler reconciles TenantJobs.
type Reconciler struct {
	kube.Client
	Clock      clock.PassiveClock
	Dispatcher *dispatch.Dispatcher
	Metrics    *metrics.Recorder
	// Credentials issues and revokes those of runs.
	Credentials Credentials
	listers
	troubles
	// shares keep one tenant's namespace in which writes hang from taking all workers.
	shares *kube.Shares
}

// Reconcile brings one TenantJob a step further, and stops a Job of its name that has lost it.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	cached, exists := r.tenantJobs.Get(req.NamespacedName)
	wait, orphanErr := r.stopOrphan(ctx, r.jobs.Get(req.NamespacedName))
	if !exists {
		return reconcile.Result{RequeueAfter: wait}, orphanErr
	}
	result, err := r.reconcile(ctx, cached)
	result.RequeueAfter = sooner(result.RequeueAfter, wait)
	if orphanErr != nil { // It does not keep the TenantJob from being reconciled.
		return reconcile.Result{}, errors.Join(orphanErr, err)
	}
	return result, err
}

// reconcile brings a TenantJob a step further.
func (r *Reconciler) reconcile(ctx context.Context, cached *v1alpha1.TenantJob) (reconcile.Result, error) {
	now := r.Clock.Now()
	standing := r.Dispatcher.Standing(cached)
	if standing.Settles > 0 && r.cachedJob(cached) == nil { // Its Job is about to be in the cache.
		return reconcile.Result{RequeueAfter: standing.Settles, Priority: new(dispatch.PriorityStarted)}, nil
	}
	whole, err := r.whole(ctx, cached)
	if whole == nil {
		return reconcile.Result{}, err
	}
	tj, base := whole.DeepCopy(), *whole
	p, err := r.observe(ctx, tj, standing, now)
	if err != nil {
		return reconcile.Result{}, err
	}
	decision, err := r.act(ctx, &p, job.Decide(p.Observed, now), now)
	if decision, err = r.limitTrouble(p.Observed, decision, err, now); err != nil {
		return reconcile.Result{}, err
	}
	deferred := goesOn(decision) && p.isDeferred()
	base.Labels, base.Finalizers, base.ResourceVersion = tj.Labels, tj.Finalizers, tj.ResourceVersion // It may have been labelled.
	if !deferred {
		record(p.Observed, decision, r.absence(), now)
	}
	r.Dispatcher.Report(r.reportOf(&base, p.Observed, deferred))
	if deferred {
		return reconcile.Result{}, nil
	}
	revoked, again := r.releaseCredentials(&p)
	wait, err := r.writeStatus(ctx, tj, &base)
	switch {
	case err != nil:
		return kube.RetryConflict(err)
	case wait > 0:
		return reconcile.Result{RequeueAfter: wait, Priority: new(dispatch.PriorityStarted)}, nil
	}
	r.announce(ctx, &base, p.Observed, decision)
	if revoked {
		if again, err = r.forgetCredentials(ctx, tj); err != nil {
			return kube.RetryConflict(err)
		}
	}
	return reconcile.Result{RequeueAfter: sooner(decision.RequeueAfter, again), Priority: new(dispatch.PriorityStarted)}, nil
}

// sooner returns the shorter of two times, of which zero means never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// writeStatus writes the status of a TenantJob if it differs from that of base. Wait is after how long to try again when it is not the
// turn of its namespace.
func (r *Reconciler) writeStatus(ctx context.Context, tj, base *v1alpha1.TenantJob) (wait time.Duration, err error) {
	if equality.Semantic.DeepEqual(tj, base) {
		return 0, nil
	}
	return r.shares.Write(ctx, kube.KeyOf(tj), func(ctx context.Context) error { return r.PatchStatus(ctx, tj, base) })
}

// absence is the time in which no process started anything before this one did.
func (r *Reconciler) absence() interval {
	from, until := r.Dispatcher.Absence()
	return interval{from, until}
}

// goesOn says whether a decision is to do nothing and to wait.
func goesOn(d job.Decision) bool {
	return d.Action == job.ActionNone && (d.Reason == "" || d.Status == metav1.ConditionUnknown)
}

// act carries a decision out and returns the one that stands afterwards.
func (r *Reconciler) act(ctx context.Context, p *pass, d job.Decision, now time.Time) (job.Decision, error) {
	switch d.Action {
	case job.ActionStart:
		return r.start(ctx, p, d, now)
	case job.ActionStop:
		return r.remove(ctx, p.TenantJob, p.Job, metav1.DeletePropagationForeground, now), nil
	case job.ActionRemove:
		return r.remove(ctx, p.TenantJob, p.TenantJob, metav1.DeletePropagationBackground, now), nil
	}
	ends := job.Ends(d) || p.TenantJob.DeletionTimestamp != nil
	if p.Job == nil && !ends && !job.IsOver(p.TenantJob) {
		r.Dispatcher.Wait(waitingFor(p.Observed, d))
	}
	return d, nil
}

// remove deletes a TenantJob or its Job. If that fails, the decision says why, and when to try again.
func (r *Reconciler) remove(
	ctx context.Context, tj *v1alpha1.TenantJob, obj client.Object, propagation metav1.DeletionPropagation, now time.Time,
) job.Decision {
	wait, err := r.shares.Write(ctx, kube.KeyOf(tj), func(ctx context.Context) error { return r.DeleteExact(ctx, obj, propagation) })
	if err == nil {
		return job.Decision{RequeueAfter: wait}
	}
	log.FromContext(ctx).Error(err, "Deletion failed", "tenantJob", klog.KObj(tj))
	since := tj.CreationTimestamp.Time
	if tj.Status.CompletionTime != nil {
		since = tj.Status.CompletionTime.Time
	}
	return job.Decision{
		Refused:      fmt.Sprintf("%s %s can't be deleted: %s", kube.KindOf(obj), obj.GetName(), kube.MessageOf(err)),
		RequeueAfter: job.RetryAfter(since, now),
	}
}

// reportOf is what the dispatcher has to know of a TenantJob. Base is how it was read.
func (r *Reconciler) reportOf(base *v1alpha1.TenantJob, o job.Observed, deferred bool) dispatch.Report {
	tj := o.TenantJob
	report := dispatch.Report{
		UID: tj.UID, Running: o.Job != nil, Deferred: deferred,
		Over:        job.IsOver(tj) || tj.DeletionTimestamp != nil,
		Settled:     (base.Status.JobRef != nil || job.IsOver(base)) && (o.Job == nil || r.cachedJob(tj) != nil),
		OverInCache: job.IsOver(base),
	}
	if report.Over {
		report.Outcome = childOutcome(tj, o.FanOut)
	}
	return report
}

// childOutcome is what came of a TenantJob that is over for the fan-out that it is the child of, also when its owner reference was
// removed. Nil when it is nobody's.
func childOutcome(tj *v1alpha1.TenantJob, fanOut *job.FanOut) *dispatch.ChildOutcome {
	owner := job.FanOutOf(tj)
	c := succeeded(tj)
	outcome := &dispatch.ChildOutcome{TenantJob: tj.UID, Tenant: tj.Spec.TenantRef.Name, Outcome: fanout.OutcomeOf(c.Status, c.Reason, c.Message)}
	switch {
	case c.Type == "", c.Reason == v1alpha1.ReasonTenantMismatch:
		return nil // One in another tenant's namespace is nobody's child, whatever it says of its owner.
	case fanOut != nil && fanOut.UID != "": // Anybody who may change the TenantJob can write another owner's UID.
		outcome.FanOut, outcome.UID = fanOut.Name, fanOut.UID
	case owner != nil:
		outcome.FanOut, outcome.UID = owner.Name, owner.UID
	default:
		return nil
	}
	return outcome
}

// announce counts a run that has ended, and emits an event when that was otherwise than well. Before is how the TenantJob
// was read.
func (r *Reconciler) announce(ctx context.Context, before *v1alpha1.TenantJob, o job.Observed, d job.Decision) {
	after := o.TenantJob
	if job.IsOver(before) || !job.IsOver(after) {
		return
	}
	log.FromContext(ctx).V(2).Info("Ended", "tenantJob", klog.KObj(after), "reason", d.Reason)
	tenant := countedFor(o)
	switch fanout.OutcomeOf(d.Status, d.Reason, "").Counter {
	case fanout.Succeeded:
		r.Metrics.Finished(tenant, metrics.OutcomeSucceeded)
	case fanout.Failed:
		r.Metrics.Finished(tenant, metrics.OutcomeFailed)
		r.Warn(after, d.Reason, "Run", d.Message)
	case fanout.Skipped:
		r.Metrics.Finished(tenant, metrics.OutcomeSkipped)
		r.Note(after, d.Reason, "Run", d.Message)
	}
}

// countedFor is the tenant whose metrics count a TenantJob: that of its namespace. One in another tenant's namespace than it names
// counts for nobody, or who may create it there would run up the other's failures.
func countedFor(o job.Observed) string {
	if o.Tenant == nil || o.Namespace == nil || o.Namespace.TenantUID != o.Tenant.UID {
		return ""
	}
	return o.Tenant.Name
}
