package jobs_test

import (
	"testing"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// TestTenantJobOutlivesEdits: what somebody does to a template while TenantJobs wait ends none of them, and they start when it
// is undone.
func TestTenantJobOutlivesEdits(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	declares := func(names ...string) func(*v1alpha1.TenantJobTemplate) {
		return func(o *v1alpha1.TenantJobTemplate) {
			o.Spec.Parameters = nil
			for _, name := range names {
				o.Spec.Parameters = append(o.Spec.Parameters, v1alpha1.Parameter{Name: name, Default: new(v1alpha1.ParameterValue("30"))})
			}
		}
	}
	gives := func(o *v1alpha1.TenantJob) {
		o.Spec.Parameters = map[string]v1alpha1.ParameterValue{"idleMinutes": "5"}
	}

	t.Run("in a queue", func(t *testing.T) {
		t.Parallel()
		queue := Create(t, &v1alpha1.TenantQueue{ObjectMeta: metav1.ObjectMeta{GenerateName: "edited-"}, Spec: v1alpha1.TenantQueueSpec{Suspend: new(true)}})
		template := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
			o.Spec.QueueRef = &v1alpha1.LabelReference{Name: queue.Name}
			declares("idleMinutes", "runSeconds")(o)
		})
		plain, given := NewTenantJob(t, tenant, template), NewRun(t, tenant, template, gives)
		for _, tj := range []*v1alpha1.TenantJob{plain, given} {
			AwaitStatus(t, tj, Unknown, v1alpha1.ReasonQueued, "is suspended")
		}

		Patch(t, template, declares("minutes", "runSeconds"))
		AwaitStatus(t, given, Unknown, v1alpha1.ReasonTemplateNotReady, "`parameters.idleMinutes` must be left out: the template declares minutes, runSeconds; correct the template")
		Patch(t, template, declares())
		AwaitStatus(t, given, Unknown, v1alpha1.ReasonTemplateNotReady, "the template declares no parameters; correct the template")
		Patch(t, template, func(o *v1alpha1.TenantJobTemplate) {
			declares("idleMinutes")(o)
			o.Spec.Credentials = []v1alpha1.TemplateCredential{{Name: "database"}}
		})
		for _, tj := range []*v1alpha1.TenantJob{plain, given} {
			AwaitStatus(t, tj, Unknown, v1alpha1.ReasonIssuingCredentials, "has no credential database")
		}
		Patch(t, template, func(o *v1alpha1.TenantJobTemplate) { o.Spec.Credentials = nil })
		for _, tj := range []*v1alpha1.TenantJob{plain, given} {
			AwaitStatus(t, tj, Unknown, v1alpha1.ReasonQueued, "is suspended")
		}

		Patch(t, queue, func(o *v1alpha1.TenantQueue) { o.Spec.Suspend = nil })
		for _, tj := range []*v1alpha1.TenantJob{plain, given} {
			AwaitRunningPod(t, tj)
			AwaitStatus(t, tj, Unknown, v1alpha1.ReasonRunning, "")
			gomega.NewWithT(t).Expect(tj.Status.TemplateGeneration).To(gomega.Equal(template.Generation), "the generation that it runs")
		}
	})

	t.Run("before the template has accepted it", func(t *testing.T) {
		t.Parallel()
		template := NewTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
			o.Spec.Parameters = []v1alpha1.Parameter{{Name: "idleMinutes", Pattern: "["}}
		})
		tj := NewRun(t, tenant, template, gives)
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonTemplateNotReady, "must have an RE2 expression")
		awaitLaterSecond(t, tj)
		Patch(t, template, declares()) // An edit that only removes fields, of which the API server records no time.
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonTemplateNotReady, "`parameters.idleMinutes` must be left out")
		late := NewRun(t, tenant, template, gives)
		AwaitStatus(t, late, IsFalse, v1alpha1.ReasonInvalidParameters, "`parameters.idleMinutes` must be left out")
		Patch(t, template, declares("idleMinutes"))
		AwaitRunningPod(t, tj)
	})

	t.Run("when the template is created again", func(t *testing.T) {
		t.Parallel()
		template := NewTemplate(t, declares("idleMinutes"))
		Remove(t, template)
		tj := NewRun(t, tenant, template, gives)
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonTemplateNotFound, "")
		awaitLaterSecond(t, tj)
		again := &v1alpha1.TenantJobTemplate{ObjectMeta: metav1.ObjectMeta{Name: template.Name}, Spec: template.Spec}
		declares("minutes")(again)
		Create(t, again)
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonTemplateNotReady, "the template declares minutes; correct the template")
		Patch(t, again, declares("idleMinutes"))
		AwaitRunningPod(t, tj)
	})
}

// awaitLaterSecond returns when the clock of the API server shows a later second than that in which an object was created.
func awaitLaterSecond(t *testing.T, obj client.Object) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: obj.GetNamespace(), GenerateName: "clock-"}}
		g.Expect(Admin.Create(t.Context(), probe, client.DryRunAll)).To(gomega.Succeed())
		g.Expect(probe.CreationTimestamp.After(obj.GetCreationTimestamp().Time)).To(gomega.BeTrue())
	})
}
