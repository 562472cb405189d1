package fanouts

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

// Reasons of events that are not reasons of a condition.
const (
	eventWaveOpened = "WaveOpened"
	eventResumed    = "Resumed"
)

// emitEvents emits an event and logs a line for each change of the status that matters to a person. It never does so for
// single tenants.
func (r *Reconciler) emitEvents(ctx context.Context, after, before *v1alpha1.TenantFanOut) {
	r.emitPlanned(after, before)
	r.emitWave(ctx, after, before)
	r.emitPaused(ctx, after, before)
	r.emitSucceeded(ctx, after, before)
}

// emitPlanned says that the plan is sealed, or why it can't be. It omits causes that pass without a person's help.
func (r *Reconciler) emitPlanned(after, before *v1alpha1.TenantFanOut) {
	c, isNew := conditions.Changed(before.Status.Conditions, after.Status.Conditions, v1alpha1.ConditionPlanned)
	isReconciling := conditions.Get(after.Status.Conditions, v1alpha1.ConditionReconciling).Status == metav1.ConditionTrue
	if isNew && (isPlanned(after) || !isReconciling) {
		r.Event(after, isPlanned(after), c.Reason, "Plan", c.Message)
	}
}

func (r *Reconciler) emitWave(ctx context.Context, after, before *v1alpha1.TenantFanOut) {
	if wave := after.Status.Wave; wave != "" && wave != before.Status.Wave && !isPaused(after) {
		r.Note(after, eventWaveOpened, "OpenWave", fmt.Sprintf("wave %s may start", wave))
		log.FromContext(ctx).V(2).Info("Opened wave", "tenantFanOut", klog.KObj(after), "wave", wave)
	}
}

func (r *Reconciler) emitPaused(ctx context.Context, after, before *v1alpha1.TenantFanOut) {
	logger := log.FromContext(ctx).V(2)
	c, isNew := conditions.Changed(before.Status.Conditions, after.Status.Conditions, v1alpha1.ConditionPaused)
	switch {
	case !isNew:
	case isPaused(after):
		r.Event(after, c.Reason == v1alpha1.ReasonSuspended, c.Reason, "Pause", c.Message)
		logger.Info("Paused", "tenantFanOut", klog.KObj(after), "reason", c.Reason)
	case isPaused(before) && after.Status.CompletionTime == nil:
		r.Note(after, eventResumed, "Resume", "it goes on")
		logger.Info("Resumed", "tenantFanOut", klog.KObj(after))
	}
}

func (r *Reconciler) emitSucceeded(ctx context.Context, after, before *v1alpha1.TenantFanOut) {
	c, isNew := conditions.Changed(before.Status.Conditions, after.Status.Conditions, v1alpha1.ConditionSucceeded)
	switch {
	case !isNew:
	case c.Reason == v1alpha1.ReasonLedgerLost:
		r.Warn(after, c.Reason, "Run", c.Message)
	case c.Status != metav1.ConditionUnknown:
		r.Event(after, c.Status == metav1.ConditionTrue, c.Reason, "Complete", c.Message)
		log.FromContext(ctx).V(2).Info("Completed", "tenantFanOut", klog.KObj(after), "reason", c.Reason)
	}
}

func isPaused(fanOut *v1alpha1.TenantFanOut) bool {
	return conditions.Get(fanOut.Status.Conditions, v1alpha1.ConditionPaused).Status == metav1.ConditionTrue
}
