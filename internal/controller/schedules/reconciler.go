// Package schedules is the controller of TenantSchedules: it makes the fan-outs of the ticks that have come.
package schedules

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/schedule"
)

// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantschedules,verbs=get;list;watch
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantschedules/status,verbs=patch
// Its fan-outs' owner references block its deletion, which needs the right to change its finalizers.
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantschedules/finalizers,verbs=update
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantfanouts,verbs=create;get;list;watch;delete

// Reconciler reconciles TenantSchedules.
type Reconciler struct {
	kube.Client
	Clock clock.PassiveClock
}

// SetupWithManager adds the controller to a manager, whose cache must have the indexes of kube.IndexFanOuts.
func (r *Reconciler) SetupWithManager(mgr manager.Manager, opts controller.Options) error {
	edited := predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{})
	return builder.ControllerManagedBy(mgr).
		Named("tenantschedule").
		For(&v1alpha1.TenantSchedule{}, builder.WithPredicates(edited)).
		Owns(&v1alpha1.TenantFanOut{}, builder.WithPredicates(kube.Changed(result))).
		WithOptions(opts).
		Complete(reconcile.AsReconciler(r.Client.Client, r))
}

// result is what a TenantSchedule looks at in its fan-outs: not how far they are.
func result(obj client.Object) any {
	fanOut := obj.(*v1alpha1.TenantFanOut)
	for _, c := range fanOut.Status.Conditions {
		if c.Type == v1alpha1.ConditionSucceeded && c.Status != metav1.ConditionUnknown {
			return []any{c.Status, c.Reason, c.Message, fanOut.Status.CompletionTime}
		}
	}
	return nil
}

// Reconcile makes the fan-outs of the ticks that have come, and says what became of them. To die anywhere in it loses no
// tick: those that are due are found again from the fan-outs that exist, and what is missed is counted with the same write
// that remembers it.
func (r *Reconciler) Reconcile(ctx context.Context, ts *v1alpha1.TenantSchedule) (reconcile.Result, error) {
	o, err := r.observe(ctx, ts)
	if err != nil || o.Schedule == nil || o.Schedule.DeletionTimestamp != nil {
		return reconcile.Result{}, err
	}
	ts = o.Schedule
	base := ts.DeepCopy()
	plan := schedule.Decide(o.Observed)
	made, conflicts, makeErr := r.makeFanOuts(ctx, ts, plan.Due)
	o.Runs = append(o.Runs, made...)
	plan.Missed = plan.Missed.Add(conflicts)

	record(o, plan)
	if err := r.PatchStatus(ctx, ts, base); err != nil {
		return kube.RetryConflict(errors.Join(err, makeErr))
	}
	r.announce(base, ts, plan.Missed)
	after, cleanErr := r.clean(ctx, o, plan.RequeueAfter)
	if err := errors.Join(makeErr, cleanErr); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: after}, nil
}

// makeFanOuts makes those of some ticks, oldest first. It stops at the first that can't be made now; those before it have
// been dealt with.
func (r *Reconciler) makeFanOuts(ctx context.Context, ts *v1alpha1.TenantSchedule, ticks []time.Time) (
	made []schedule.Run, conflicts schedule.Missed, err error,
) {
	for _, tick := range ticks {
		fanOut, isNew, err := r.makeFanOut(ctx, ts, tick, ticks[len(ticks)-1])
		if err != nil {
			return made, conflicts, err
		}
		if !metav1.IsControlledBy(fanOut, ts) {
			conflicts = conflicts.Add(schedule.Missed{Count: 1, Last: tick, Reason: schedule.MissedNameConflict})
			continue
		}
		if isNew {
			// Naming the fan-out keeps the events of several ticks from being folded into one.
			r.Events.Eventf(ts, fanOut, corev1.EventTypeNormal, "ScheduledFanOut", "Schedule",
				"made TenantFanOut %s for %s", fanOut.Name, tick.UTC().Format(time.RFC3339))
		}
		run, _ := schedule.RunOf(ts, fanOut)
		made = append(made, run)
	}
	return made, conflicts, nil
}

// makeFanOut returns the fan-out that has a tick's name, whoever made it.
func (r *Reconciler) makeFanOut(ctx context.Context, ts *v1alpha1.TenantSchedule, tick, newest time.Time) (
	fanOut *v1alpha1.TenantFanOut, isNew bool, err error,
) {
	fanOut = schedule.FanOut(ts, tick, newest)
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

// clean deletes the fan-outs beyond the history limits, and returns when to look again.
func (r *Reconciler) clean(ctx context.Context, o observed, after time.Duration) (time.Duration, error) {
	ts := o.Schedule
	if ts.Status.LastScheduleTime == nil {
		return after, nil
	}
	for _, run := range schedule.Surplus(&ts.Spec, o.Runs, ts.Status.LastScheduleTime.Time) {
		retries, err := kube.FanOutsAwaitingSource(ctx, r.Client, run.Name)
		if err != nil {
			return after, err
		}
		if len(retries) > 0 {
			after = schedule.MaxRequeueAfter
			continue
		}
		fanOut := &v1alpha1.TenantFanOut{ObjectMeta: metav1.ObjectMeta{Name: run.Name, UID: run.UID}}
		if err := r.DeleteExact(ctx, fanOut, metav1.DeletePropagationBackground); err != nil {
			return after, err
		}
	}
	return after, nil
}
