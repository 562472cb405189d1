package fanouts

import (
	"fmt"

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
func (r *Reconciler) tell(after, before *v1alpha1.TenantFanOut) {
	passing := !isPlanned(after) && conditions.Get(after.Status.Conditions, v1alpha1.ConditionReconciling).Status == metav1.ConditionTrue
	if c, isNew := conditions.Changed(before.Status.Conditions, after.Status.Conditions, v1alpha1.ConditionPlanned); isNew && !passing {
		r.Event(after, isPlanned(after), c.Reason, "Plan", c.Message)
	}
	r.tellProgress(after, before)
	c, isNew := conditions.Changed(before.Status.Conditions, after.Status.Conditions, v1alpha1.ConditionSucceeded)
	switch {
	case !isNew:
	case c.Reason == v1alpha1.ReasonLedgerLost:
		r.Warn(after, c.Reason, "Run", c.Message)
	case c.Status != metav1.ConditionUnknown:
		r.Event(after, c.Status == metav1.ConditionTrue, c.Reason, "Complete", c.Message)
	}
}

// tellProgress is about waves and pauses.
func (r *Reconciler) tellProgress(after, before *v1alpha1.TenantFanOut) {
	c, isNew := conditions.Changed(before.Status.Conditions, after.Status.Conditions, v1alpha1.ConditionPaused)
	paused := c.Status == metav1.ConditionTrue
	if wave := after.Status.Wave; wave != "" && wave != before.Status.Wave && !paused {
		r.Note(after, eventWaveOpened, "OpenWave", fmt.Sprintf("wave %s may start", wave))
	}
	switch {
	case !isNew:
	case paused:
		r.Event(after, c.Reason == v1alpha1.ReasonSuspended, c.Reason, "Pause", c.Message)
	case conditions.Get(before.Status.Conditions, v1alpha1.ConditionPaused).Status == metav1.ConditionTrue && after.Status.CompletionTime == nil:
		r.Note(after, eventResumed, "Resume", "it goes on")
	}
}
