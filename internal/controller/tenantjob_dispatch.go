package controller

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/queue"
)

// WriteTimeout is how long the making of a Job may take. It is less than what is left of a lease when its leader stops
// trying to renew it, so that no start of an old leader arrives when a new one counts.
const WriteTimeout = 5 * time.Second

// candidate is what the dispatcher has to know of a TenantJob that may start but for limits.
func (r *tenantJobReconciler) candidate(ctx context.Context, o job.Observed, now time.Time) (queue.Job, error) {
	j := described(o)
	j.MaxWait = job.MaxWait(o.TenantJob, o.Template)
	j.Waited = waited(&o.TenantJob.Status, now)
	if j.Schedule == "" {
		return j, nil
	}
	schedule, err := found(ctx, r.Client, types.NamespacedName{Name: j.Schedule}, &v1alpha1.TenantSchedule{})
	if schedule != nil {
		j.Overlap = schedule.Spec.ConcurrencyPolicy
	}
	return j, err
}

// waitingFor is a TenantJob that waits for what a decision says, or for what nobody needs to be told.
func waitingFor(o job.Observed, d job.Decision) queue.Job {
	j := described(o)
	if j.Held = d.Message; j.Held == "" {
		j.Held = "it is being looked at"
	}
	return j
}

func laterOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// described is what a TenantJob that waits says of itself.
func described(o job.Observed) queue.Job {
	tj := o.TenantJob
	j := queue.Job{UID: tj.UID, Key: keyOf(tj), Tenant: tj.Spec.TenantRef.Name, Template: tj.Spec.TemplateRef.Name, Created: tj.CreationTimestamp.Time}
	if o.FanOut != nil {
		j.FanOut, j.Schedule = tj.Labels[v1alpha1.LabelFanOut], tj.Labels[v1alpha1.LabelSchedule]
	}
	if due := tj.Spec.NotBeforeTime; due != nil {
		j.NotBefore = due.Time
	}
	if o.Template != nil {
		j.Queue, j.Priority = o.Template.QueueName(), o.Template.Spec.Priority
	}
	return j
}

// saidOfQueue is what a TenantJob's condition says of the limit that holds it. Empty when it says nothing of one.
func saidOfQueue(tj *v1alpha1.TenantJob) string {
	c := meta.FindStatusCondition(tj.Status.Conditions, v1alpha1.ConditionSucceeded)
	if c == nil || c.Reason != v1alpha1.ReasonQueued {
		return ""
	}
	return c.Message
}

// waited is how long limits have held a TenantJob, by its status.
func waited(status *v1alpha1.TenantJobStatus, now time.Time) time.Duration {
	before := time.Duration(status.QueuedSeconds) * time.Second
	if status.QueuedTime != nil {
		before += max(0, now.Sub(status.QueuedTime.Time))
	}
	return before
}

// childOutcome is what came of a TenantJob that is over for the fan-out that it is the child of. Nil when it is nobody's.
func childOutcome(tj *v1alpha1.TenantJob) *ChildOutcome {
	owner := job.FanOutOf(tj)
	c := meta.FindStatusCondition(tj.Status.Conditions, v1alpha1.ConditionSucceeded)
	// One in another tenant's namespace is nobody's child, whatever it says of its owner.
	if owner == nil || c == nil || c.Reason == v1alpha1.ReasonTenantMismatch {
		return nil
	}
	return &ChildOutcome{
		FanOut: owner.Name, UID: owner.UID, Tenant: tj.Spec.TenantRef.Name, Outcome: fanout.OutcomeOf(c.Status, c.Reason, c.Message),
	}
}
