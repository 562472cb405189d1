package fanout

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

// Status returns the fan-out's status after the decision. Write it only when Decision.Ledger is stored: a person who has
// read it must not see the counters go back.
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
	c.Set(v1alpha1.ConditionPlanned, metav1.ConditionTrue, v1alpha1.ReasonSealed, plannedMessage(len(l.plan.Entries)))
	setPaused(c, d.Gate.pause)
	result := finalResult(fanOut, l)
	if !l.Complete() {
		result = d.interimResult()
	}
	c.Set(v1alpha1.ConditionSucceeded, result.status, result.reason, result.message)
	c.SetProgress(progressOf(d.Gate.pause, result), result.reason, result.message)
	return status
}

// plannedMessage is the message of Planned=True.
func plannedMessage(tenants int) string {
	if tenants == 1 {
		return "1 tenant is planned"
	}
	return fmt.Sprintf("%d tenants are planned", tenants)
}

// Unplanned returns the status of a fan-out whose plan can't be sealed yet, for the reason that Seal returned, or that has ended
// without a plan. What kept it from being planned until then stays in the condition Planned.
func Unplanned(fanOut *v1alpha1.TenantFanOut, why *SealError, now time.Time) v1alpha1.TenantFanOutStatus {
	status := *fanOut.Status.DeepCopy()
	status.ObservedGeneration = fanOut.Generation
	c := conditions.Setter{List: &status.Conditions, Generation: fanOut.Generation, Now: now}
	if why.Final {
		end, cause := result{metav1.ConditionFalse, why.Reason, why.Message}, conditions.Get(status.Conditions, v1alpha1.ConditionPlanned)
		switch {
		case cause.Status != metav1.ConditionFalse:
			cause.Reason, cause.Message = why.Reason, why.Message
		case status.CompletionTime == nil:
			end.message += ": " + cause.Message
		}
		if status.CompletionTime == nil {
			status.CompletionTime = &metav1.Time{Time: now.UTC().Truncate(time.Second)}
		}
		c.Set(v1alpha1.ConditionPlanned, metav1.ConditionFalse, cause.Reason, cause.Message)
		c.Set(v1alpha1.ConditionSucceeded, end.status, end.reason, end.message)
		c.SetProgress(progressOf(pause{}, end), end.reason, end.message)
		return status
	}
	c.Set(v1alpha1.ConditionPlanned, metav1.ConditionFalse, why.Reason, why.Message)
	c.Set(v1alpha1.ConditionSucceeded, metav1.ConditionUnknown, why.Reason, why.Message)
	progress := conditions.Stalled
	if why.Transient {
		progress = conditions.Reconciling
	}
	c.SetProgress(progress, why.Reason, why.Message)
	return status
}

// EndedUnplanned returns how a fan-out has ended without a plan, nil when it has not. Such a fan-out is never planned.
func EndedUnplanned(fanOut *v1alpha1.TenantFanOut) *SealError {
	if fanOut.Status.CompletionTime == nil || planned(fanOut) {
		return nil
	}
	end := conditions.Get(fanOut.Status.Conditions, v1alpha1.ConditionSucceeded)
	return &SealError{Reason: end.Reason, Message: end.Message, Final: true}
}

// Lost returns the status of a fan-out whose plan or ledger is gone or damaged, so that it is unknown which tenants have
// run. It keeps the counters of the last status.
func Lost(fanOut *v1alpha1.TenantFanOut, why string, now time.Time) v1alpha1.TenantFanOutStatus {
	status := *fanOut.Status.DeepCopy()
	status.ObservedGeneration = fanOut.Generation
	c := conditions.Setter{List: &status.Conditions, Generation: fanOut.Generation, Now: now}
	c.Set(v1alpha1.ConditionSucceeded, metav1.ConditionUnknown, v1alpha1.ReasonLedgerLost, why)
	c.SetProgress(conditions.Stalled, v1alpha1.ReasonLedgerLost, why)
	return status
}

// Failing returns the status of a fan-out about which the API server refuses what the operator writes. It keeps everything else of the
// last status.
func Failing(fanOut *v1alpha1.TenantFanOut, why string, now time.Time) v1alpha1.TenantFanOutStatus {
	status := *fanOut.Status.DeepCopy()
	c := conditions.Setter{List: &status.Conditions, Generation: fanOut.Generation, Now: now}
	message := "retrying: " + why
	if status.CompletionTime == nil {
		c.Set(v1alpha1.ConditionSucceeded, metav1.ConditionUnknown, v1alpha1.ReasonProgressing, message)
	}
	c.SetProgress(conditions.Reconciling, v1alpha1.ReasonProgressing, message)
	return status
}

// result is a value of the condition Succeeded.
type result struct {
	status          metav1.ConditionStatus
	reason, message string
}

// finalResult returns the condition Succeeded of a complete fan-out. True means that no tenant failed, or that the failures
// are within the budget. Failures that a person has accepted count here. A tenant that was skipped counts against nobody else:
// the fan-out was superseded when it did not get to as many tenants as it got to, or was paused.
func finalResult(fanOut *v1alpha1.TenantFanOut, l *Ledger) result {
	skippedFor := func(reason string) int { return l.marked[l.markOf(Outcome{Counter: Skipped, Reason: reason})] }
	failed, over := l.failed(), exceeded(fanOut, l.withNoneAccepted())
	superseded, c := skippedFor(v1alpha1.ReasonSuperseded), l.counts(0)
	isCutShort := superseded >= int(c.Succeeded+c.Failed) || over != nil || suspended(fanOut)
	summary := l.summary()
	if superseded > 0 && !isCutShort {
		summary += fmt.Sprintf("; the next tick came before %d of them started", superseded)
	}
	retry := fmt.Sprintf(": read `status.unsuccessfulTenants`, then retry them with `tenants.retryOf.name: %s`", fanOut.Name)
	switch {
	case superseded > 0 && isCutShort:
		return result{metav1.ConditionFalse, v1alpha1.ReasonSuperseded, summary + "; the next tick came before they all started"}
	case over != nil:
		return result{metav1.ConditionFalse, v1alpha1.ReasonTooManyFailed, summary + "; " + over.message + retry}
	case failedWithoutBudget(fanOut, l):
		return result{metav1.ConditionFalse, v1alpha1.ReasonSomeFailed, summary + retry}
	case skippedFor(v1alpha1.ReasonCancelled) > 0:
		return result{metav1.ConditionFalse, v1alpha1.ReasonCancelled, summary + "; a person cancelled some"}
	case failed > 0:
		return result{metav1.ConditionTrue, v1alpha1.ReasonCompletedWithFailures, summary + ", within the failure budget"}
	}
	return result{metav1.ConditionTrue, v1alpha1.ReasonCompleted, summary}
}

// interimResult returns the condition Succeeded of a fan-out that is not complete. While the fan-out is paused, the reason
// is that of the pause, since kubectl shows this reason in a column.
func (d Decision) interimResult() result {
	if p := d.Gate.pause; p.reason != "" {
		return result{metav1.ConditionUnknown, p.reason, p.message}
	}
	message := "the last tenants may start"
	if wave := d.Ledger.plan.waveName(d.Gate.wave); wave != "" {
		message = fmt.Sprintf("wave %s may start", wave)
	} else if len(d.Ledger.plan.Waves) == 0 {
		message = "its tenants may start"
	}
	if d.delay != "" {
		message += "; " + d.delay
	}
	return result{metav1.ConditionUnknown, v1alpha1.ReasonRunning, message}
}

// setPaused sets the condition Paused.
func setPaused(c conditions.Setter, p pause) {
	if p.reason != "" {
		c.Set(v1alpha1.ConditionPaused, metav1.ConditionTrue, p.reason, p.message)
		return
	}
	c.Set(v1alpha1.ConditionPaused, metav1.ConditionFalse, v1alpha1.ReasonActive, "nothing holds it")
}

// progressOf returns the progress of a fan-out that kstatus shows.
func progressOf(p pause, r result) conditions.Progress {
	switch {
	case r.status == metav1.ConditionFalse, p.reason == v1alpha1.ReasonFailureBudgetExceeded:
		return conditions.Stalled
	case r.status == metav1.ConditionUnknown && p.reason == "":
		return conditions.Reconciling
	}
	return conditions.Current
}
