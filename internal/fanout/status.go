package fanout

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// maxConditionMessage is how much of a message is kept in a condition.
const maxConditionMessage = 1024

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

	c := conditions{&status.Conditions, fanOut.Generation, now}
	c.set(v1alpha1.ConditionPlanned, metav1.ConditionTrue, v1alpha1.ReasonSealed, fmt.Sprintf("%d tenants are planned", len(l.plan.Entries)))
	c.setPaused(d.Gate.pause)
	verdict := verdictOf(fanOut, l)
	if !l.Complete() {
		verdict = d.progress()
	}
	c.set(v1alpha1.ConditionSucceeded, verdict.status, verdict.reason, verdict.message)
	c.setProgress(d.Gate.pause, verdict)
	return status
}

// Unplanned is the status of a fan-out whose plan can't be sealed yet.
func Unplanned(fanOut *v1alpha1.TenantFanOut, why *SealError, now time.Time) v1alpha1.TenantFanOutStatus {
	status := *fanOut.Status.DeepCopy()
	status.ObservedGeneration = fanOut.Generation
	c := conditions{&status.Conditions, fanOut.Generation, now}
	c.set(v1alpha1.ConditionPlanned, metav1.ConditionFalse, why.Reason, why.Message)
	c.set(v1alpha1.ConditionSucceeded, metav1.ConditionUnknown, why.Reason, why.Message)
	if why.Passing {
		c.only(v1alpha1.ConditionReconciling, why.Reason, why.Message)
	} else {
		c.only(v1alpha1.ConditionStalled, why.Reason, why.Message)
	}
	return status
}

// Lost is the status of a fan-out of which nobody knows any more who has run. What it said last still stands.
func Lost(fanOut *v1alpha1.TenantFanOut, why string, now time.Time) v1alpha1.TenantFanOutStatus {
	status := *fanOut.Status.DeepCopy()
	status.ObservedGeneration = fanOut.Generation
	c := conditions{&status.Conditions, fanOut.Generation, now}
	c.set(v1alpha1.ConditionSucceeded, metav1.ConditionUnknown, v1alpha1.ReasonLedgerLost, why)
	c.only(v1alpha1.ConditionStalled, v1alpha1.ReasonLedgerLost, why)
	return status
}

// verdict is the condition Succeeded.
type verdict struct {
	status          metav1.ConditionStatus
	reason, message string
}

// verdictOf is how a complete fan-out has ended. True means that everyone who could run has, within the budget; that a
// person accepted failures beyond it does not change that.
func verdictOf(fanOut *v1alpha1.TenantFanOut, l *Ledger) verdict {
	ended := func(reason string) int { return l.marked[l.markOf(Outcome{Counter: Skipped, Reason: reason})] }
	failed, over := l.failed(), exceeded(fanOut, l.unforgiving())
	retry := fmt.Sprintf(": read `status.unsuccessfulTenants`, then retry them with `tenants.retryOf.name: %s`", fanOut.Name)
	switch {
	case ended(v1alpha1.ReasonSuperseded) > 0:
		return verdict{metav1.ConditionFalse, v1alpha1.ReasonSuperseded, l.sentence() + "; the next tick came before they all started"}
	case over != nil:
		return verdict{metav1.ConditionFalse, v1alpha1.ReasonTooManyFailed, l.sentence() + "; " + over.message + retry}
	case uncovered(fanOut, l):
		return verdict{metav1.ConditionFalse, v1alpha1.ReasonSomeFailed, l.sentence() + retry}
	case ended(v1alpha1.ReasonCancelled) > 0:
		return verdict{metav1.ConditionFalse, v1alpha1.ReasonCancelled, l.sentence() + "; a person cancelled some"}
	case failed > 0:
		return verdict{metav1.ConditionTrue, v1alpha1.ReasonCompletedWithFailures, l.sentence() + ", within the failure budget"}
	}
	return verdict{metav1.ConditionTrue, v1alpha1.ReasonCompleted, l.sentence()}
}

// progress is the condition Succeeded before the end. What holds it up is also its reason, since that is the column that
// a person sees.
func (d Decision) progress() verdict {
	if p := d.Gate.pause; p.reason != "" {
		return verdict{metav1.ConditionUnknown, p.reason, p.message}
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
	return verdict{metav1.ConditionUnknown, v1alpha1.ReasonRunning, message}
}

// conditions sets conditions of one object, all at the same time.
type conditions struct {
	list       *[]metav1.Condition
	generation int64
	now        time.Time
}

func (c conditions) set(conditionType string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(c.list, metav1.Condition{
		Type: conditionType, Status: status, Reason: reason, Message: shorten(message, maxConditionMessage),
		ObservedGeneration: c.generation, LastTransitionTime: metav1.NewTime(c.now),
	})
}

func (c conditions) setPaused(p pause) {
	if p.reason != "" {
		c.set(v1alpha1.ConditionPaused, metav1.ConditionTrue, p.reason, p.message)
		return
	}
	c.set(v1alpha1.ConditionPaused, metav1.ConditionFalse, v1alpha1.ReasonActive, "nothing holds it")
}

// setProgress says what kstatus and Argo CD read: Stalled when only a person can help, Reconciling while it works.
func (c conditions) setProgress(p pause, v verdict) {
	switch {
	case v.status == metav1.ConditionFalse, p.reason == v1alpha1.ReasonFailureBudgetExceeded:
		c.only(v1alpha1.ConditionStalled, v.reason, v.message)
	case v.status == metav1.ConditionUnknown && p.reason == "":
		c.only(v1alpha1.ConditionReconciling, v.reason, v.message)
	default:
		c.only("", "", "")
	}
}

// only sets one of Reconciling and Stalled and takes the other away: they are there only while they are True.
func (c conditions) only(conditionType, reason, message string) {
	for _, t := range []string{v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled} {
		if t == conditionType {
			c.set(t, metav1.ConditionTrue, reason, message)
		} else {
			meta.RemoveStatusCondition(c.list, t)
		}
	}
}
