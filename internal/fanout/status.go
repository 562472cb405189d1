package fanout

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

// Status is the fan-out's status after the decision. It may be written once Decision.Ledger is stored, and not before:
// what a person has read must not be forgotten.
func (d Decision) Status(now time.Time) v1alpha1.TenantFanOutStatus {
	fanOut, l := d.Gate.fanOut, d.Ledger
	status := *fanOut.Status.DeepCopy()
	status.ObservedGeneration = fanOut.Generation
	status.Counts = l.counts(d.Running)
	status.Reasons = l.reasons()
	status.UnsuccessfulTenants = l.unsuccessful()
	status.TemplateGeneration = l.plan.TemplateGeneration
	status.Wave = l.plan.waveName(d.Gate.wave)
	status.StartTime = &metav1.Time{Time: l.plan.SealTime}
	status.CompletionTime = nil
	if !l.completionTime.IsZero() {
		status.CompletionTime = &metav1.Time{Time: l.completionTime}
	}

	c := conditions.Setter{List: &status.Conditions, Generation: fanOut.Generation, Now: now}
	c.Set(v1alpha1.ConditionPlanned, metav1.ConditionTrue, v1alpha1.ReasonSealed, fmt.Sprintf("%d tenants are planned", len(l.plan.Entries)))
	setPaused(c, d.Gate.pause)
	end := endedAs(fanOut, l)
	if !l.Complete() {
		end = d.progress()
	}
	c.Set(v1alpha1.ConditionSucceeded, end.status, end.reason, end.message)
	c.SetProgress(progressOf(d.Gate.pause, end), end.reason, end.message)
	return status
}

// Unplanned is the status of a fan-out whose plan can't be sealed yet.
func Unplanned(fanOut *v1alpha1.TenantFanOut, why *SealError, now time.Time) v1alpha1.TenantFanOutStatus {
	status := *fanOut.Status.DeepCopy()
	status.ObservedGeneration = fanOut.Generation
	c := conditions.Setter{List: &status.Conditions, Generation: fanOut.Generation, Now: now}
	c.Set(v1alpha1.ConditionPlanned, metav1.ConditionFalse, why.Reason, why.Message)
	c.Set(v1alpha1.ConditionSucceeded, metav1.ConditionUnknown, why.Reason, why.Message)
	progress := conditions.Stalled
	if why.Passing {
		progress = conditions.Reconciling
	}
	c.SetProgress(progress, why.Reason, why.Message)
	return status
}

// Lost is the status of a fan-out of which nobody knows any more who has run. What it said last still stands.
func Lost(fanOut *v1alpha1.TenantFanOut, why string, now time.Time) v1alpha1.TenantFanOutStatus {
	status := *fanOut.Status.DeepCopy()
	status.ObservedGeneration = fanOut.Generation
	c := conditions.Setter{List: &status.Conditions, Generation: fanOut.Generation, Now: now}
	c.Set(v1alpha1.ConditionSucceeded, metav1.ConditionUnknown, v1alpha1.ReasonLedgerLost, why)
	c.SetProgress(conditions.Stalled, v1alpha1.ReasonLedgerLost, why)
	return status
}

// succeeded is the condition Succeeded.
type succeeded struct {
	status          metav1.ConditionStatus
	reason, message string
}

// endedAs is how a complete fan-out has ended. True means that everyone who could run has, within the budget; that a
// person accepted failures beyond it does not change that.
func endedAs(fanOut *v1alpha1.TenantFanOut, l *Ledger) succeeded {
	ended := func(reason string) int { return l.marked[l.markOf(Outcome{Counter: Skipped, Reason: reason})] }
	failed, over := l.failed(), exceeded(fanOut, l.unforgiving())
	retry := fmt.Sprintf(": read `status.unsuccessfulTenants`, then retry them with `tenants.retryOf.name: %s`", fanOut.Name)
	switch {
	case ended(v1alpha1.ReasonSuperseded) > 0:
		return succeeded{metav1.ConditionFalse, v1alpha1.ReasonSuperseded, l.sentence() + "; the next tick came before they all started"}
	case over != nil:
		return succeeded{metav1.ConditionFalse, v1alpha1.ReasonTooManyFailed, l.sentence() + "; " + over.message + retry}
	case uncovered(fanOut, l):
		return succeeded{metav1.ConditionFalse, v1alpha1.ReasonSomeFailed, l.sentence() + retry}
	case ended(v1alpha1.ReasonCancelled) > 0:
		return succeeded{metav1.ConditionFalse, v1alpha1.ReasonCancelled, l.sentence() + "; a person cancelled some"}
	case failed > 0:
		return succeeded{metav1.ConditionTrue, v1alpha1.ReasonCompletedWithFailures, l.sentence() + ", within the failure budget"}
	}
	return succeeded{metav1.ConditionTrue, v1alpha1.ReasonCompleted, l.sentence()}
}

// progress is the condition Succeeded before the end. What holds it up is also its reason, since that is the column that
// a person sees.
func (d Decision) progress() succeeded {
	if p := d.Gate.pause; p.reason != "" {
		return succeeded{metav1.ConditionUnknown, p.reason, p.message}
	}
	message := "the last tenants may start"
	if wave := d.Ledger.plan.waveName(d.Gate.wave); wave != "" {
		message = fmt.Sprintf("wave %s may start", wave)
	} else if len(d.Ledger.plan.Waves) == 0 {
		message = "its tenants may start"
	}
	if d.PutOff != "" {
		message += "; " + d.PutOff
	}
	return succeeded{metav1.ConditionUnknown, v1alpha1.ReasonRunning, message}
}

// setPaused sets Paused.
func setPaused(c conditions.Setter, p pause) {
	if p.reason != "" {
		c.Set(v1alpha1.ConditionPaused, metav1.ConditionTrue, p.reason, p.message)
		return
	}
	c.Set(v1alpha1.ConditionPaused, metav1.ConditionFalse, v1alpha1.ReasonActive, "nothing holds it")
}

// progressOf is how a fan-out stands that is paused, or not, and whose condition Succeeded is this.
func progressOf(p pause, s succeeded) conditions.Progress {
	switch {
	case s.status == metav1.ConditionFalse, p.reason == v1alpha1.ReasonFailureBudgetExceeded:
		return conditions.Stalled
	case s.status == metav1.ConditionUnknown && p.reason == "":
		return conditions.Reconciling
	}
	return conditions.Current
}
