package controller

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

// Reasons of events that are none of a condition.
const (
	eventWaveOpened = "WaveOpened"
	eventResumed    = "Resumed"
)

// tell emits events about what a person wants to know of a fan-out: never one for each tenant.
func (r *tenantFanOutReconciler) tell(after, before *v1alpha1.TenantFanOut) {
	passing := !isPlanned(after) && conditions.Get(after.Status.Conditions, v1alpha1.ConditionReconciling).Status == metav1.ConditionTrue
	if c, isNew := conditions.Changed(before.Status.Conditions, after.Status.Conditions, v1alpha1.ConditionPlanned); isNew && !passing {
		r.record(after, eventTypeOf(isPlanned(after)), c.Reason, "Plan", c.Message)
	}
	r.tellProgress(after, before)
	c, isNew := conditions.Changed(before.Status.Conditions, after.Status.Conditions, v1alpha1.ConditionSucceeded)
	switch {
	case !isNew:
	case c.Reason == v1alpha1.ReasonLedgerLost:
		r.warn(after, c.Reason, "Run", c.Message)
	case c.Status != metav1.ConditionUnknown:
		r.record(after, eventTypeOf(c.Status == metav1.ConditionTrue), c.Reason, "Complete", c.Message)
	}
}

// tellProgress is about waves and pauses.
func (r *tenantFanOutReconciler) tellProgress(after, before *v1alpha1.TenantFanOut) {
	c, isNew := conditions.Changed(before.Status.Conditions, after.Status.Conditions, v1alpha1.ConditionPaused)
	paused := c.Status == metav1.ConditionTrue
	if wave := after.Status.Wave; wave != "" && wave != before.Status.Wave && !paused {
		r.note(after, eventWaveOpened, "OpenWave", fmt.Sprintf("wave %s may start", wave))
	}
	switch {
	case !isNew:
	case paused:
		r.record(after, eventTypeOf(c.Reason == v1alpha1.ReasonSuspended), c.Reason, "Pause", c.Message)
	case conditions.Get(before.Status.Conditions, v1alpha1.ConditionPaused).Status == metav1.ConditionTrue && after.Status.CompletionTime == nil:
		r.note(after, eventResumed, "Resume", "it goes on")
	}
}

func eventTypeOf(good bool) string {
	if good {
		return corev1.EventTypeNormal
	}
	return corev1.EventTypeWarning
}
