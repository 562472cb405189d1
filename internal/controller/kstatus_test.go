package controller_test

import (
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

func TestKstatus(t *testing.T) {
	t.Parallel()
	const current, inProgress, failed, terminating = status.CurrentStatus, status.InProgressStatus, status.FailedStatus, status.TerminatingStatus
	// is waits until an object is judged so. It goes by what the operator says, so the object is read anew.
	is := func(t *testing.T, obj client.Object, want status.Status) {
		t.Helper()
		Eventually(t, func(g gomega.Gomega) { g.Expect(Judged(t, Get(t, g, obj))).To(gomega.Equal(want)) })
	}
	fresh := func(t *testing.T, obj client.Object) {
		t.Helper()
		gomega.NewWithT(t).Expect(Judged(t, obj)).To(gomega.Equal(inProgress), "as the API server made it")
	}
	t.Run("Tenant", func(t *testing.T) {
		t.Parallel()
		tenant := NewTenant(t, v1alpha1.TenantSpec{})
		fresh(t, tenant)
		is(t, tenant, current)
		Patch(t, tenant, func(o *v1alpha1.Tenant) { o.Spec.Quota = &v1alpha1.TenantQuota{} })
		is(t, tenant, current)
	})
	t.Run("Tenant that is suspended", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
		pod := AwaitRunningPod(t, NewTenantJob(t, tenant, NewTemplate(t, Lingering)))
		Patch(t, tenant, Suspend)
		fresh(t, tenant)
		AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, Unknown, v1alpha1.ReasonStoppingJobs, "")
		gomega.NewWithT(t).Expect(Judged(t, tenant)).To(gomega.Equal(inProgress))
		LetGo(t, pod)
		AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, IsTrue, v1alpha1.ReasonSuspended, "")
		gomega.NewWithT(t).Expect(Judged(t, tenant)).To(gomega.Equal(current))
	})
	t.Run("Tenant whose namespace is somebody else's", func(t *testing.T) {
		t.Parallel()
		namespace := NewNamespace(t, func(*corev1.Namespace) {})
		is(t, NewTenant(t, v1alpha1.TenantSpec{Namespace: &v1alpha1.TenantNamespace{Name: namespace.Name}}), failed)
	})
	t.Run("Tenant that is being deleted", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
		pod := AwaitRunningPod(t, NewTenantJob(t, tenant, NewTemplate(t, Lingering)))
		Remove(t, tenant)
		is(t, tenant, terminating)
		LetGo(t, pod)
		AwaitGone(t, tenant)
	})
	t.Run("TenantJobTemplate", func(t *testing.T) {
		t.Parallel()
		template := NewTemplate(t, nil)
		fresh(t, template)
		is(t, template, current)
		Patch(t, template, func(o *v1alpha1.TenantJobTemplate) { PodSpec(o).NodeName = "node-1" })
		fresh(t, template)
		is(t, template, failed)
	})

	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	run := func(t *testing.T, change func(*v1alpha1.TenantJob)) *v1alpha1.TenantJob {
		t.Helper()
		tj := NewRun(t, tenant, NewTemplate(t, nil), change)
		fresh(t, tj)
		return tj
	}
	t.Run("TenantJob that completes", func(t *testing.T) {
		t.Parallel()
		tj := run(t, func(*v1alpha1.TenantJob) {})
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonRunning, "")
		gomega.NewWithT(t).Expect(Judged(t, tj)).To(gomega.Equal(inProgress))
		Finish(t, tj, corev1.PodSucceeded)
		AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
		gomega.NewWithT(t).Expect(Judged(t, tj)).To(gomega.Equal(current))
		Patch(t, tj, func(o *v1alpha1.TenantJob) { o.Spec.Cancel = new(true) })
		is(t, tj, current)
	})
	t.Run("TenantJob that fails", func(t *testing.T) {
		t.Parallel()
		tj := run(t, func(*v1alpha1.TenantJob) {})
		Finish(t, tj, corev1.PodFailed)
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonJobFailed, "")
		gomega.NewWithT(t).Expect(Judged(t, tj)).To(gomega.Equal(failed))
	})
	t.Run("TenantJob that waits, and is cancelled", func(t *testing.T) {
		t.Parallel()
		tj := run(t, func(o *v1alpha1.TenantJob) { o.Spec.NotBeforeTime = new(metav1.NewTime(time.Now().Add(time.Hour))) })
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonNotYetDue, "")
		gomega.NewWithT(t).Expect(Judged(t, tj)).To(gomega.Equal(inProgress))
		Patch(t, tj, func(o *v1alpha1.TenantJob) { o.Spec.Cancel = new(true) })
		fresh(t, tj)
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonCancelled, "")
		gomega.NewWithT(t).Expect(Judged(t, tj)).To(gomega.Equal(current))
	})
	t.Run("TenantJob without a template", func(t *testing.T) {
		t.Parallel()
		is(t, run(t, func(o *v1alpha1.TenantJob) { o.Spec.TemplateRef.Name = "nowhere" }), failed)
	})

	for _, obj := range []client.Object{
		&v1alpha1.CredentialProvider{Spec: v1alpha1.CredentialProviderSpec{Secret: &v1alpha1.SecretProvider{}}},
	} {
		gvk, _ := apiutil.GVKForObject(obj, Scheme)
		t.Run(gvk.Kind+", of which nobody says anything yet", func(t *testing.T) {
			t.Parallel()
			obj.SetName("kstatus")
			gomega.NewWithT(t).Expect(Judged(t, Create(t, obj))).To(gomega.Equal(current))
		})
	}
}
