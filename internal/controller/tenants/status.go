package tenants

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/tenant"
)

// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// record sets the status of a Tenant to what a decision says.
func record(t *v1alpha1.Tenant, d tenant.Decision) {
	status := &t.Status
	status.ObservedGeneration = t.Generation
	recordDeletedCopies(status, d.DeletedCopies)
	if d.Running != nil {
		status.Running = d.Running
	}
	if d.Namespace != nil {
		status.Namespace, status.State = d.Namespace.Ref, d.Namespace.State
	}
	set := conditions.Of(&status.Conditions, t.Generation)
	if d.Ready != (tenant.Condition{}) {
		set.Set(v1alpha1.ConditionReady, d.Ready.Status, d.Ready.Reason, d.Ready.Message)
	}
	if d.Suspended != (tenant.Condition{}) {
		set.Set(v1alpha1.ConditionSuspended, d.Suspended.Status, d.Suspended.Reason, d.Suspended.Message)
	}
	if d.Enforced != (tenant.Condition{}) {
		set.Set(v1alpha1.ConditionEnforced, d.Enforced.Status, d.Enforced.Reason, d.Enforced.Message)
	}
	if d.Conform != (tenant.Condition{}) {
		set.Set(v1alpha1.ConditionWorkloadsConform, d.Conform.Status, d.Conform.Reason, d.Conform.Message)
	}
	if d.Progress != (tenant.Progress{}) {
		set.SetProgress(d.Progress.State, d.Progress.Reason, d.Progress.Message)
	}
}

// announce logs and emits an event when a Tenant was suspended or resumed, or when a person has to help it.
func (r *Reconciler) announce(ctx context.Context, before, after *v1alpha1.Tenant) {
	was, is := before.Status.Conditions, after.Status.Conditions
	ready, changed := conditions.Changed(was, is, v1alpha1.ConditionReady)
	if changed && (ready.Reason == v1alpha1.ReasonNamespaceConflict || ready.Reason == v1alpha1.ReasonInvalidSpec) {
		r.Warn(after, ready.Reason, "Reconcile", ready.Message)
	}
	suspended, changed := conditions.Changed(was, is, v1alpha1.ConditionSuspended)
	switch {
	case !changed:
	case suspended.Status == metav1.ConditionTrue:
		log.FromContext(ctx).V(2).Info("Suspended", "tenant", klog.KObj(after))
		r.Note(after, "Suspended", "Suspend", suspended.Message)
	case suspended.Status == metav1.ConditionFalse && conditions.Get(was, v1alpha1.ConditionSuspended).Status != "":
		log.FromContext(ctx).V(2).Info("Resumed", "tenant", klog.KObj(after))
		r.Note(after, "Resumed", "Resume", suspended.Message)
	}
}
