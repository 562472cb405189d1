// Package templates is the controller of TenantJobTemplates: it says whether a template can run.
package templates

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
)

// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantjobtemplates/status,verbs=patch
// The dry runs, in the operator's own namespace.
// +kubebuilder:rbac:groups="",namespace=tenantry-system,resources=pods,verbs=create
// +kubebuilder:rbac:groups=batch,namespace=tenantry-system,resources=jobs,verbs=create

// checkAgainAfter is when a template that can't run is looked at again: what it lacks, a PriorityClass say, may have come.
const checkAgainAfter = 5 * time.Minute

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
		Complete(reconcile.AsReconciler(r.Client.Client, r))
}

// Reconcile says whether a template can run.
func (r *Reconciler) Reconcile(ctx context.Context, template *v1alpha1.TenantJobTemplate) (reconcile.Result, error) {
	if template.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	base := template.DeepCopy()
	problems := job.Problems(template)
	if len(problems) == 0 {
		var err error
		if problems, err = r.dryRun(ctx, template); err != nil {
			return reconcile.Result{}, err
		}
	}
	result := recordReady(template, problems)
	if err := r.PatchStatus(ctx, template, base); err != nil {
		return kube.RetryConflict(err)
	}
	if before := conditions.Ready(base.Status.Conditions); len(problems) > 0 && before != conditions.Ready(template.Status.Conditions) {
		r.Warn(template, problems[0].Reason, "Validate", problems[0].Message)
	}
	return result, nil
}

// recordReady puts what is wrong with a template into its status.
func recordReady(template *v1alpha1.TenantJobTemplate, problems []job.Problem) reconcile.Result {
	status, reason, message, standing := metav1.ConditionTrue, v1alpha1.ReasonReady, "the API server accepts its Job and its pod", conditions.Current
	result := reconcile.Result{}
	if len(problems) > 0 {
		messages := make([]string, 0, len(problems))
		for _, p := range problems {
			messages = append(messages, p.Message)
		}
		status, reason, message, standing = metav1.ConditionFalse, problems[0].Reason, strings.Join(messages, "; "), conditions.Stalled
		result.RequeueAfter = checkAgainAfter
	}
	template.Status.ObservedGeneration = template.Generation
	set := conditions.Of(&template.Status.Conditions, template.Generation)
	set.Set(v1alpha1.ConditionReady, status, reason, message)
	set.SetProgress(standing, reason, message)
	return result
}

// dryRun asks the API server whether it would accept the Job and the pod of a run, in the operator's namespace, which has
// the pod security level Restricted.
func (r *Reconciler) dryRun(ctx context.Context, template *v1alpha1.TenantJobTemplate) ([]job.Problem, error) {
	run, values := job.Specimen(template, r.OperatorNamespace)
	specimen := job.Build(run, values)
	specimen.OwnerReferences = nil
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: specimen.Namespace, GenerateName: specimen.Name + "-", Labels: specimen.Spec.Template.Labels, Annotations: specimen.Spec.Template.Annotations},
		Spec:       *specimen.Spec.Template.Spec.DeepCopy(),
	}
	// The tenants' service account is in the tenants' namespaces only.
	pod.Spec.ServiceAccountName = "default"

	strict := []client.CreateOption{client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict)}
	problems, err := problemsOf(r.Create(ctx, specimen, strict...), "spec.jobTemplate.")
	if err != nil || len(problems) > 0 {
		return problems, err
	}
	return problemsOf(r.Create(ctx, pod, strict...), "spec.jobTemplate.spec.template.")
}

// problemsOf sorts what the API server answered into what the template's author must change and what is not the
// template's fault.
func problemsOf(err error, prefix string) ([]job.Problem, error) {
	refusal := kube.RefusalOf(err)
	switch {
	case refusal == kube.NotRefused:
		return nil, nil
	case !refusal.IsAboutObject():
		return nil, fmt.Errorf("trying the template by dry run: %w", err)
	}
	var status apierrors.APIStatus
	errors.As(err, &status)
	message := status.Status().Message
	if _, violation, found := strings.Cut(message, "violates PodSecurity "); found {
		return []job.Problem{{Reason: v1alpha1.ReasonPodSecurity, Message: "`" + prefix + "spec` must conform to pod security level " + violation}}, nil
	}
	var problems []job.Problem
	if details := status.Status().Details; details != nil {
		for _, cause := range details.Causes {
			problems = append(problems, job.Problem{Reason: v1alpha1.ReasonInvalidTemplate, Message: fmt.Sprintf("`%s%s`: %s", prefix, cause.Field, cause.Message)})
		}
	}
	if len(problems) == 0 {
		problems = []job.Problem{{Reason: v1alpha1.ReasonInvalidTemplate, Message: "`" + strings.TrimSuffix(prefix, ".") + "`: " + message}}
	}
	return problems, nil
}
