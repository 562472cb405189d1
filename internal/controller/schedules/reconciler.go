// Package schedules is the controller of TenantSchedules: it creates the fan-outs of the ticks that are due.
package schedules

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/schedule"
)

// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantschedules,verbs=get;list;watch
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantschedules/status,verbs=patch
// Its fan-outs' owner references block its deletion, which needs the right to change its finalizers.
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantschedules/finalizers,verbs=update
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantfanouts,verbs=create;get;list;watch;delete
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantjobtemplates,verbs=get;list;watch

// Reconciler reconciles TenantSchedules.
type Reconciler struct {
	kube.Client
	Clock clock.PassiveClock

	time serverTime
	refusedDeletions
}

// SetupWithManager adds the controller to a manager, whose cache must have the indexes of kube.IndexFanOuts.
func (r *Reconciler) SetupWithManager(mgr manager.Manager, opts controller.Options) error {
	// A failure must not delay the next tick for long.
	opts.RateLimiter = workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](5*time.Millisecond, schedule.MaxRequeueAfter)
	edited := predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{})
	return builder.ControllerManagedBy(mgr).
		Named("tenantschedule").
		For(&v1alpha1.TenantSchedule{}, builder.WithPredicates(edited)).
		Owns(&v1alpha1.TenantFanOut{}, builder.WithPredicates(kube.Changed(fanOutResult))).
		Watches(&v1alpha1.TenantJobTemplate{}, handler.EnqueueRequestsFromMapFunc(r.ofTemplate),
			builder.WithPredicates(kube.Changed(kube.TemplateChange))).
		WithOptions(opts).
		Complete(kube.BackOff(reconcile.AsReconciler(r.Client.Client, r)))
}

// ofTemplate enqueues the schedules whose fan-outs run a template.
func (r *Reconciler) ofTemplate(ctx context.Context, template client.Object) []reconcile.Request {
	var all v1alpha1.TenantScheduleList
	if err := r.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		log.FromContext(ctx).Error(err, "Listing TenantSchedules from the cache")
	}
	var requests []reconcile.Request
	for i := range all.Items {
		if ts := &all.Items[i]; ts.Spec.FanOutTemplate.Spec.TemplateRef.Name == template.GetName() {
			requests = append(requests, reconcile.Request{NamespacedName: kube.KeyOf(ts)})
		}
	}
	return requests
}

// fanOutResult is what a TenantSchedule depends on in its fan-outs: how they ended, and not how far they are.
func fanOutResult(obj client.Object) any {
	status := obj.(*v1alpha1.TenantFanOut).Status
	c := conditions.Get(status.Conditions, v1alpha1.ConditionSucceeded)
	if c.Status != metav1.ConditionTrue && c.Status != metav1.ConditionFalse {
		return nil
	}
	return []any{c.Status, c.Reason, c.Message, status.CompletionTime}
}

// Reconcile creates the fan-outs of the ticks that are due, and writes the status. If the operator stops at any point in it,
// no tick is lost: the next reconcile knows from the fan-outs that exist which ticks are due, and missed ticks are counted in
// the same write that records that they were.
func (r *Reconciler) Reconcile(ctx context.Context, ts *v1alpha1.TenantSchedule) (reconcile.Result, error) {
	o, err := r.observe(ctx, ts)
	if err != nil && o.Refused != "" {
		return reconcile.Result{}, errors.Join(err, r.reportRefused(ctx, o))
	}
	if err != nil || o.Schedule == nil || o.Schedule.DeletionTimestamp != nil {
		return reconcile.Result{}, err
	}
	ts = o.Schedule
	base := ts.DeepCopy()
	decision := schedule.Decide(o.Observed)
	created, conflicts, createErr := r.createFanOuts(ctx, ts, decision.Due, schedule.TogetherOf(decision.Due, o.Runs))
	o.Runs = append(o.Runs, created...)
	decision.Missed = decision.Missed.Add(conflicts)
	if isRefusal(createErr) {
		o.Refused = kube.MessageOf(createErr)
	}

	setStatus(o, decision)
	if err := r.PatchStatus(ctx, ts, base); err != nil {
		return kube.RetryConflict(errors.Join(err, createErr))
	}
	r.emitEvents(ctx, base, ts, decision.Missed)
	after, err := r.deleteSurplus(ctx, o, decision.RequeueAfter)
	if err := errors.Join(createErr, err); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: after}, nil
}

// reportRefused writes into the status that the API server refuses all fan-outs of the operator. Its time is unknown then, so nothing
// is decided about ticks.
func (r *Reconciler) reportRefused(ctx context.Context, o observed) error {
	ts := o.Schedule
	base := ts.DeepCopy()
	setReady(o, schedule.Decision{})
	if err := r.PatchStatus(ctx, ts, base); err != nil {
		return err
	}
	r.emitEvents(ctx, base, ts, schedule.Missed{})
	return nil
}

// createFanOuts creates the fan-outs of some ticks, oldest first. It stops at the first that can't be created now, and returns
// the ones before it. A tick whose name is taken by an object that is not the schedule's is a conflict.
func (r *Reconciler) createFanOuts(ctx context.Context, ts *v1alpha1.TenantSchedule, ticks []time.Time, together schedule.Together) (
	runs []schedule.Run, conflicts schedule.Missed, err error,
) {
	for _, tick := range ticks {
		fanOut, isNew, err := r.createFanOut(ctx, ts, tick, together)
		if err != nil {
			return runs, conflicts, err
		}
		if !metav1.IsControlledBy(fanOut, ts) {
			conflicts = conflicts.Add(schedule.Missed{Count: 1, Last: tick, Reason: schedule.MissedNameConflict})
			continue
		}
		if isNew {
			// Naming the fan-out keeps the events of several ticks from being combined into one.
			r.Events.Eventf(ts, fanOut, corev1.EventTypeNormal, "ScheduledFanOut", "Schedule",
				"made TenantFanOut %s for %s", fanOut.Name, tick.UTC().Format(time.RFC3339))
			log.FromContext(ctx).V(2).Info("Created the fan-out of a tick", "tenantSchedule", klog.KObj(ts),
				"tenantFanOut", klog.KObj(fanOut), "tick", tick)
		}
		run, _ := schedule.RunOf(ts, fanOut)
		runs = append(runs, run)
	}
	return runs, conflicts, nil
}

// createFanOut creates the fan-out of a tick. When an object has its name already, createFanOut returns that one.
func (r *Reconciler) createFanOut(ctx context.Context, ts *v1alpha1.TenantSchedule, tick time.Time, together schedule.Together) (
	fanOut *v1alpha1.TenantFanOut, isNew bool, err error,
) {
	fanOut = schedule.FanOut(ts, tick, together)
	err = r.Create(ctx, fanOut, client.FieldOwner(kube.FieldManager))
	if err == nil {
		return fanOut, true, nil
	}
	name := schedule.TickName(ts.Name, tick)
	if apierrors.IsAlreadyExists(err) {
		fanOut = &v1alpha1.TenantFanOut{}
		if err = r.Live.Get(ctx, client.ObjectKey{Name: name}, fanOut); err == nil {
			return fanOut, false, nil
		}
	}
	return nil, false, fmt.Errorf("creating TenantFanOut %s: %w", name, err)
}

// deleteSurplus deletes the fan-outs beyond the history limits, except those that another fan-out waits to retry. One that can't be
// deleted keeps no other, and no tick. It returns when to reconcile again.
func (r *Reconciler) deleteSurplus(ctx context.Context, o observed, after time.Duration) (time.Duration, error) {
	ts := o.Schedule
	if ts.Status.LastScheduleTime == nil {
		return after, nil
	}
	soon := func() {
		if after == 0 {
			after = schedule.MaxRequeueAfter
		}
	}
	for _, run := range schedule.Surplus(&ts.Spec, o.Runs, ts.Status.LastScheduleTime.Time) {
		retries, err := kube.FanOutsAwaitingSource(ctx, r.Client, run.Name)
		if err != nil {
			return after, err
		}
		if len(retries) > 0 {
			soon()
			continue
		}
		fanOut := &v1alpha1.TenantFanOut{ObjectMeta: metav1.ObjectMeta{Name: run.Name, UID: run.UID}}
		if r.isRefused(run.UID, r.Clock.Now()) {
			soon()
			continue
		}
		if err := r.DeleteExact(ctx, fanOut, metav1.DeletePropagationBackground); err != nil {
			log.FromContext(ctx).Error(err, "Deletion failed", "tenantFanOut", klog.KObj(fanOut))
			r.addRefused(run.UID, r.Clock.Now())
			soon()
		}
	}
	return after, nil
}
