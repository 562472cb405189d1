package controller

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Reasons of events that are none of a condition.
const (
	eventWaveOpened = "WaveOpened"
	eventResumed    = "Resumed"
)

// tell emits events about what a person wants to know of a fan-out: never one for each tenant.
func (r *tenantFanOutReconciler) tell(after, before *v1alpha1.TenantFanOut) {
	passing := !isPlanned(after) && saidOf(after, v1alpha1.ConditionReconciling).Status == metav1.ConditionTrue
	if c, isNew := newsOf(after, before, v1alpha1.ConditionPlanned); isNew && !passing {
		r.record(after, eventTypeOf(isPlanned(after)), c.Reason, "Plan", c.Message)
	}
	r.tellProgress(after, before)
	c, isNew := newsOf(after, before, v1alpha1.ConditionSucceeded)
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
	c, isNew := newsOf(after, before, v1alpha1.ConditionPaused)
	paused := c.Status == metav1.ConditionTrue
	if wave := after.Status.Wave; wave != "" && wave != before.Status.Wave && !paused {
		r.note(after, eventWaveOpened, "OpenWave", fmt.Sprintf("wave %s may start", wave))
	}
	switch {
	case !isNew:
	case paused:
		r.record(after, eventTypeOf(c.Reason == v1alpha1.ReasonSuspended), c.Reason, "Pause", c.Message)
	case saidOf(before, v1alpha1.ConditionPaused).Status == metav1.ConditionTrue && after.Status.CompletionTime == nil:
		r.note(after, eventResumed, "Resume", "it goes on")
	}
}

// newsOf is a condition, and whether it is another than before.
func newsOf(after, before *v1alpha1.TenantFanOut, conditionType string) (metav1.Condition, bool) {
	c, was := saidOf(after, conditionType), saidOf(before, conditionType)
	return c, c.Status != was.Status || c.Reason != was.Reason
}

// saidOf is a condition of a fan-out, or the zero value.
func saidOf(fanOut *v1alpha1.TenantFanOut, conditionType string) metav1.Condition {
	if c := meta.FindStatusCondition(fanOut.Status.Conditions, conditionType); c != nil {
		return *c
	}
	return metav1.Condition{}
}

func eventTypeOf(good bool) string {
	if good {
		return corev1.EventTypeNormal
	}
	return corev1.EventTypeWarning
}
