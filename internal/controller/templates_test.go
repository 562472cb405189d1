package controller_test

import (
	"testing"

	"github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

func TestTenantJobTemplateReady(t *testing.T) {
	t.Parallel()
	template := NewTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		o.Spec.Parameters = []v1alpha1.Parameter{{Name: "payment", Tag: new(true), Required: new(true)}, {Name: "days", Default: new(v1alpha1.ParameterValue("3"))}}
		o.Spec.JobTemplate.Spec.ActiveDeadlineSeconds = new(int64(600))
	})
	AwaitReadiness(t, template, IsTrue, v1alpha1.ReasonReady, "the API server accepts its Job and its pod")
	g := gomega.NewWithT(t)
	g.Expect(template.Status.Conditions).To(gomega.HaveLen(1))
	var jobs batchv1.JobList
	var pods corev1.PodList
	g.Expect(Admin.List(t.Context(), &jobs, client.InNamespace(OperatorNamespace))).To(gomega.Succeed())
	g.Expect(Admin.List(t.Context(), &pods, client.InNamespace(OperatorNamespace))).To(gomega.Succeed())
	g.Expect(len(jobs.Items)+len(pods.Items)).To(gomega.BeZero(), "a dry run leaves nothing behind")
}

func TestTenantJobTemplateRefused(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]struct {
		change          func(*v1alpha1.TenantJobTemplate)
		reason, message string
	}{
		"a reserved variable": {
			func(o *v1alpha1.TenantJobTemplate) {
				PodSpec(o).Containers[0].Env = []corev1.EnvVar{{Name: "TENANT_ID", Value: "globex"}}
			},
			v1alpha1.ReasonReservedVariable,
			"`spec.jobTemplate.spec.template.spec.containers[main].env` must not set TENANT_ID",
		},
		"what a run may not say for itself": {
			func(o *v1alpha1.TenantJobTemplate) { PodSpec(o).ServiceAccountName = "admin" },
			v1alpha1.ReasonInvalidTemplate,
			"`spec.jobTemplate.spec.template.spec.serviceAccountName` must be left out",
		},
		"a Job that is invalid": {
			func(o *v1alpha1.TenantJobTemplate) { o.Spec.JobTemplate.Spec.Parallelism = new(int32(-1)) },
			v1alpha1.ReasonInvalidTemplate,
			"`spec.jobTemplate.spec.parallelism`: Invalid value: -1: must be greater than or equal to 0",
		},
		"all that is wrong with a Job": {
			func(o *v1alpha1.TenantJobTemplate) {
				o.Spec.JobTemplate.Spec.Parallelism, o.Spec.JobTemplate.Spec.BackoffLimit = new(int32(-1)), new(int32(-1))
			},
			v1alpha1.ReasonInvalidTemplate,
			"`spec.jobTemplate.spec.backoffLimit`: Invalid value: -1: must be greater than or equal to 0",
		},
		"a Job that never has a pod": {
			func(o *v1alpha1.TenantJobTemplate) { o.Spec.JobTemplate.Spec.Parallelism = new(int32(0)) },
			v1alpha1.ReasonInvalidTemplate,
			"`spec.jobTemplate.spec.parallelism` must be at least 1",
		},
		"an Indexed Job without completions": {
			func(o *v1alpha1.TenantJobTemplate) {
				o.Spec.JobTemplate.Spec.CompletionMode, o.Spec.JobTemplate.Spec.Parallelism = new(batchv1.IndexedCompletion), new(int32(3))
			},
			v1alpha1.ReasonInvalidTemplate,
			"`spec.jobTemplate.spec.completions`: Required value",
		},
		"no restartPolicy": {
			func(o *v1alpha1.TenantJobTemplate) { PodSpec(o).RestartPolicy = "" },
			v1alpha1.ReasonInvalidTemplate,
			"`spec.jobTemplate.spec.template.spec.restartPolicy`: Required value",
		},
		"no image": {
			func(o *v1alpha1.TenantJobTemplate) { PodSpec(o).Containers[0].Image = "" },
			v1alpha1.ReasonInvalidTemplate,
			"`spec.jobTemplate.spec.template.spec.containers[0].image`: Required value",
		},
		"a pod that is not secure": {
			func(o *v1alpha1.TenantJobTemplate) { PodSpec(o).Containers[0].SecurityContext = nil },
			v1alpha1.ReasonPodSecurity,
			"`spec.jobTemplate.spec.template.spec` must conform to pod security level \"restricted:latest\": allowPrivilegeEscalation != false",
		},
		"a pod that uses the host": {
			func(o *v1alpha1.TenantJobTemplate) { PodSpec(o).HostNetwork = true },
			v1alpha1.ReasonPodSecurity,
			"host namespaces (hostNetwork=true)",
		},
		"a label value that is none": {
			func(o *v1alpha1.TenantJobTemplate) {
				o.Spec.JobTemplate.Spec.Template.Labels = map[string]string{"app": "no label!"}
			},
			v1alpha1.ReasonInvalidTemplate,
			"`spec.jobTemplate.spec.template.labels`",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			template := NewTemplate(t, given.change)
			AwaitReadiness(t, template, IsFalse, given.reason, given.message)
			g := gomega.NewWithT(t)
			g.Expect(conditions.Get(template.Status.Conditions, v1alpha1.ConditionStalled).Status).To(gomega.Equal(IsTrue))
			Eventually(t, func(g gomega.Gomega) {
				var events eventsv1.EventList
				g.Expect(Admin.List(t.Context(), &events)).To(gomega.Succeed())
				var emitted []string
				for _, e := range events.Items {
					if e.Regarding.UID == template.UID {
						emitted = append(emitted, e.Type+" "+e.Reason)
					}
				}
				g.Expect(emitted).To(gomega.HaveExactElements("Warning " + given.reason))
			})
		})
	}
}

// TestTenantJobTemplateIndexed: an Indexed template is tried under a name that a run can have, and one with a podFailurePolicy with the
// operator's podReplacementPolicy.
func TestTenantJobTemplateIndexed(t *testing.T) {
	t.Parallel()
	AwaitReadiness(t, NewTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		spec := &o.Spec.JobTemplate.Spec
		spec.CompletionMode, spec.Completions, spec.Parallelism = new(batchv1.IndexedCompletion), new(int32(1000)), new(int32(3))
		spec.BackoffLimitPerIndex, spec.MaxFailedIndexes = new(int32(1)), new(int32(1))
		spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
			Action:      batchv1.PodFailurePolicyActionFailIndex,
			OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}},
		}}}
	}), IsTrue, v1alpha1.ReasonReady, "")
}

// TestTenantJobTemplateUnknownField: the API server drops a field that it does not know, unless it is asked to be strict.
func TestTenantJobTemplateUnknownField(t *testing.T) {
	t.Parallel()
	misspelt := func() *unstructured.Unstructured {
		template := NewTemplate(t, nil)
		Remove(t, template)
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&v1alpha1.TenantJobTemplate{
			ObjectMeta: metav1.ObjectMeta{Name: template.Name}, Spec: template.Spec,
		})
		if err != nil {
			t.Fatal(err)
		}
		obj := &unstructured.Unstructured{Object: fields}
		obj.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("TenantJobTemplate"))
		path := []string{"spec", "jobTemplate", "spec", "template", "spec", "containers"}
		containers, _, _ := unstructured.NestedSlice(obj.Object, path...)
		main := containers[0].(map[string]any)
		main["imege"] = main["image"]
		delete(main, "image")
		if err := unstructured.SetNestedSlice(obj.Object, containers, path...); err != nil {
			t.Fatal(err)
		}
		return obj
	}
	err := Admin.Create(t.Context(), misspelt(), client.FieldValidation(metav1.FieldValidationStrict))
	gomega.NewWithT(t).Expect(err).To(gomega.MatchError(gomega.ContainSubstring("unknown field \"spec.jobTemplate.spec.template.spec.containers[0].imege\"")))
	obj := Create(t, misspelt())
	template := &v1alpha1.TenantJobTemplate{ObjectMeta: metav1.ObjectMeta{Name: obj.GetName()}}
	AwaitReadiness(t, template, IsFalse, v1alpha1.ReasonInvalidTemplate, "`spec.jobTemplate.spec.template.spec.containers[0].image`: Required value")
}

func TestTenantJobTemplateChecksAgain(t *testing.T) {
	t.Parallel()
	t.Run("when it changes", func(t *testing.T) {
		t.Parallel()
		template := NewReadyTemplate(t, nil)
		since := conditions.Get(template.Status.Conditions, v1alpha1.ConditionReady).LastTransitionTime
		Patch(t, template, func(o *v1alpha1.TenantJobTemplate) { o.Spec.Description = "Reports." })
		AwaitReadiness(t, template, IsTrue, v1alpha1.ReasonReady, "")
		gomega.NewWithT(t).Expect(conditions.Get(template.Status.Conditions, v1alpha1.ConditionReady).LastTransitionTime).To(gomega.Equal(since))
		Patch(t, template, func(o *v1alpha1.TenantJobTemplate) { PodSpec(o).NodeName = "node-1" })
		AwaitReadiness(t, template, IsFalse, v1alpha1.ReasonInvalidTemplate, "nodeName")
		Patch(t, template, func(o *v1alpha1.TenantJobTemplate) { PodSpec(o).NodeName = "" })
		AwaitReadiness(t, template, IsTrue, v1alpha1.ReasonReady, "")
		gomega.NewWithT(t).Expect(template.Status.Conditions).To(gomega.HaveLen(1))
	})
	t.Run("what it lacked has come", func(t *testing.T) {
		t.Parallel()
		priority := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "urgent"}, Value: 1000}
		template := NewTemplate(t, func(o *v1alpha1.TenantJobTemplate) { PodSpec(o).PriorityClassName = priority.Name })
		AwaitReadiness(t, template, IsFalse, v1alpha1.ReasonInvalidTemplate, "no PriorityClass with name urgent was found")
		Create(t, priority)
		Patch(t, template, func(o *v1alpha1.TenantJobTemplate) { o.Spec.Description = "Urgent." })
		AwaitReadiness(t, template, IsTrue, v1alpha1.ReasonReady, "")
	})
}
