// Package templates is the controller of TenantJobTemplates: it finds out whether a template can run.
package templates

import (
	"context"
	"errors"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
)

// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantjobtemplates/status,verbs=patch
// Dry runs, in the operator's own namespace.
// +kubebuilder:rbac:groups="",namespace=tenantry-system,resources=pods,verbs=create
// +kubebuilder:rbac:groups=batch,namespace=tenantry-system,resources=jobs,verbs=create

// recheckInterval is how often a template that can't run is checked again: what it lacks, a PriorityClass for example, may
// have been created since.
const recheckInterval = 5 * time.Minute

// Reconciler reconciles TenantJobTemplates.
type Reconciler struct {
	kube.Client
	// OperatorNamespace is where templates are tried by dry run.
	OperatorNamespace string
}

// SetupWithManager adds the controller to a manager.
func (r *Reconciler) SetupWithManager(mgr manager.Manager, opts controller.Options) error {
	return builder.ControllerManagedBy(mgr).
		Named("tenantjobtemplate").
		For(&v1alpha1.TenantJobTemplate{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(opts).
		Complete(kube.BackOff(reconcile.AsReconciler(r.Client.Client, r)))
}

// Reconcile checks whether a template can run, and writes the answer into its status.
func (r *Reconciler) Reconcile(ctx context.Context, template *v1alpha1.TenantJobTemplate) (reconcile.Result, error) {
	if template.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	base := template.DeepCopy()
	problems := job.Problems(template)
	if len(problems) == 0 {
		var err error
		if problems, err = r.dryRun(ctx, template); err != nil {
			return reconcile.Result{}, errors.Join(err, r.reportUnchecked(ctx, template, base, err))
		}
	}
	setReady(template, problems)
	if err := r.PatchStatus(ctx, template, base); err != nil {
		return kube.RetryConflict(err)
	}
	r.emitEvents(ctx, template, base, problems)
	if len(problems) > 0 {
		return reconcile.Result{RequeueAfter: recheckInterval}, nil
	}
	return reconcile.Result{}, nil
}

// reportUnchecked writes into the status why it is unknown whether a template can run. What was found out about the present spec stays.
func (r *Reconciler) reportUnchecked(ctx context.Context, template, base *v1alpha1.TenantJobTemplate, err error) error {
	ready := conditions.Get(template.Status.Conditions, v1alpha1.ConditionReady)
	if ready.ObservedGeneration == template.Generation && ready.Status != metav1.ConditionUnknown {
		return nil
	}
	message := "retrying: " + err.Error()
	template.Status.ObservedGeneration = template.Generation
	set := conditions.Of(&template.Status.Conditions, template.Generation)
	set.Set(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonProgressing, message)
	set.SetProgress(conditions.Reconciling, v1alpha1.ReasonProgressing, message)
	return r.PatchStatus(ctx, template, base)
}

// setReady sets the status of a template with these problems.
func setReady(template *v1alpha1.TenantJobTemplate, problems []job.Problem) {
	status, reason, progress := metav1.ConditionTrue, v1alpha1.ReasonReady, conditions.Current
	message := "the API server accepts its Job and its pod"
	if len(problems) > 0 {
		messages := make([]string, 0, len(problems))
		for _, p := range problems {
			messages = append(messages, p.Message)
		}
		status, reason, progress = metav1.ConditionFalse, problems[0].Reason, conditions.Stalled
		message = strings.Join(messages, "; ")
	}
	template.Status.ObservedGeneration = template.Generation
	set := conditions.Of(&template.Status.Conditions, template.Generation)
	set.Set(v1alpha1.ConditionReady, status, reason, message)
	set.SetProgress(progress, reason, message)
}

// emitEvents logs a line when the condition Ready has changed, and emits an event when it has and the template can't run.
func (r *Reconciler) emitEvents(ctx context.Context, after, before *v1alpha1.TenantJobTemplate, problems []job.Problem) {
	logger := log.FromContext(ctx).V(2)
	switch {
	case conditions.Ready(before.Status.Conditions) == conditions.Ready(after.Status.Conditions):
	case len(problems) > 0:
		r.Warn(after, problems[0].Reason, "Validate", problems[0].Message)
		logger.Info("Found the template not ready", "tenantJobTemplate", klog.KObj(after), "reason", problems[0].Reason)
	default:
		logger.Info("Found the template ready", "tenantJobTemplate", klog.KObj(after))
	}
}
