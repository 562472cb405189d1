package templates

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
)

// dryRun creates the Job and the pod of a run by dry run in the operator's namespace, which has the pod security level
// Restricted. It returns why the API server refuses them.
func (r *Reconciler) dryRun(ctx context.Context, template *v1alpha1.TenantJobTemplate) ([]job.Problem, error) {
	built := job.Build(job.Specimen(template, r.OperatorNamespace))
	built.OwnerReferences = nil
	podTemplate := built.Spec.Template.DeepCopy()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: built.Namespace, GenerateName: built.Name + "-", Labels: podTemplate.Labels, Annotations: podTemplate.Annotations,
		},
		Spec: podTemplate.Spec,
	}
	// The tenants' service account exists only in the tenants' namespaces.
	pod.Spec.ServiceAccountName = "default"

	strict := []client.CreateOption{client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict)}
	problems, err := problemsOf(r.Create(ctx, built, strict...), "spec.jobTemplate.")
	if err != nil || len(problems) > 0 {
		return problems, err
	}
	return problemsOf(r.Create(ctx, pod, strict...), "spec.jobTemplate.spec.template.")
}

// problemsOf returns what the template's author must change, according to the error of a dry run. It returns an error that does
// not concern the template. The prefix is the path of the object in the template.
func problemsOf(err error, prefix string) ([]job.Problem, error) {
	refusal := kube.RefusalOf(err)
	switch {
	case refusal == kube.NotRefused:
		return nil, nil
	case !refusal.IsAboutObject():
		return nil, fmt.Errorf("trying the template by dry run: %w", err)
	}
	message := kube.MessageOf(err)
	if _, violation, found := strings.Cut(message, "violates PodSecurity "); found {
		message = fmt.Sprintf("`%sspec` must conform to pod security level %s", prefix, violation)
		return []job.Problem{{Reason: v1alpha1.ReasonPodSecurity, Message: message}}, nil
	}
	var problems []job.Problem
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Details != nil {
		for _, cause := range status.Status().Details.Causes {
			message := fmt.Sprintf("`%s%s`: %s", prefix, cause.Field, cause.Message)
			problems = append(problems, job.Problem{Reason: v1alpha1.ReasonInvalidTemplate, Message: message})
		}
	}
	if len(problems) == 0 {
		message = fmt.Sprintf("`%s`: %s", strings.TrimSuffix(prefix, "."), message)
		problems = []job.Problem{{Reason: v1alpha1.ReasonInvalidTemplate, Message: message}}
	}
	return problems, nil
}
