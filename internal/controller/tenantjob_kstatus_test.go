package controller_test

import (
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// judged is what kstatus, and so Flux and kapp, makes of an object as it was last read.
func judged(t *testing.T, obj client.Object) status.Status {
	t.Helper()
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: fields}
	gvk, err := apiutil.GVKForObject(obj, scheme)
	if err != nil {
		t.Fatal(err)
	}
	u.SetGroupVersionKind(gvk)
	result, err := status.Compute(u)
	if err != nil {
		t.Fatal(err)
	}
	return result.Status
}

func TestKstatus(t *testing.T) {
	t.Parallel()
	const current, inProgress, failed, terminating = status.CurrentStatus, status.InProgressStatus, status.FailedStatus, status.TerminatingStatus
	// is waits until an object is judged so. It goes by what the operator says, so the object is read anew.
	is := func(t *testing.T, obj client.Object, want status.Status) {
		t.Helper()
		eventually(t, func(g gomega.Gomega) { g.Expect(judged(t, get(t, g, obj))).To(gomega.Equal(want)) })
	}
	fresh := func(t *testing.T, obj client.Object) {
		t.Helper()
		gomega.NewWithT(t).Expect(judged(t, obj)).To(gomega.Equal(inProgress), "as the API server made it")
	}
	t.Run("Tenant", func(t *testing.T) {
		t.Parallel()
		tenant := newTenant(t, v1alpha1.TenantSpec{})
		fresh(t, tenant)
		is(t, tenant, current)
		patch(t, tenant, func(o *v1alpha1.Tenant) { o.Spec.Quota = &v1alpha1.TenantQuota{} })
		is(t, tenant, current)
	})
	t.Run("Tenant that is suspended", func(t *testing.T) {
		t.Parallel()
		tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
		pod := awaitRunningPod(t, newTenantJob(t, tenant, newTemplate(t, lingering)))
		patch(t, tenant, suspend)
		fresh(t, tenant)
		awaitCondition(t, tenant, v1alpha1.ConditionSuspended, unknown, v1alpha1.ReasonStoppingJobs, "")
		gomega.NewWithT(t).Expect(judged(t, tenant)).To(gomega.Equal(inProgress))
		letGo(t, pod)
		awaitCondition(t, tenant, v1alpha1.ConditionSuspended, isTrue, v1alpha1.ReasonSuspended, "")
		gomega.NewWithT(t).Expect(judged(t, tenant)).To(gomega.Equal(current))
	})
	t.Run("Tenant whose namespace is somebody else's", func(t *testing.T) {
		t.Parallel()
		namespace := newNamespace(t, func(*corev1.Namespace) {})
		is(t, newTenant(t, v1alpha1.TenantSpec{Namespace: &v1alpha1.TenantNamespace{Name: namespace.Name}}), failed)
	})
	t.Run("Tenant that is being deleted", func(t *testing.T) {
		t.Parallel()
		tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
		pod := awaitRunningPod(t, newTenantJob(t, tenant, newTemplate(t, lingering)))
		remove(t, tenant)
		is(t, tenant, terminating)
		letGo(t, pod)
		awaitGone(t, tenant)
	})
	t.Run("TenantJobTemplate", func(t *testing.T) {
		t.Parallel()
		template := newTemplate(t, nil)
		fresh(t, template)
		is(t, template, current)
		patch(t, template, func(o *v1alpha1.TenantJobTemplate) { podSpec(o).NodeName = "node-1" })
		fresh(t, template)
		is(t, template, failed)
	})

	tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
	run := func(t *testing.T, change func(*v1alpha1.TenantJob)) *v1alpha1.TenantJob {
		t.Helper()
		tj := newRun(t, tenant, newTemplate(t, nil), change)
		fresh(t, tj)
		return tj
	}
	t.Run("TenantJob that completes", func(t *testing.T) {
		t.Parallel()
		tj := run(t, func(*v1alpha1.TenantJob) {})
		awaitSaid(t, tj, unknown, v1alpha1.ReasonRunning, "")
		gomega.NewWithT(t).Expect(judged(t, tj)).To(gomega.Equal(inProgress))
		finish(t, tj, corev1.PodSucceeded)
		awaitSaid(t, tj, isTrue, v1alpha1.ReasonCompleted, "")
		gomega.NewWithT(t).Expect(judged(t, tj)).To(gomega.Equal(current))
		patch(t, tj, func(o *v1alpha1.TenantJob) { o.Spec.Cancel = new(true) })
		is(t, tj, current)
	})
	t.Run("TenantJob that fails", func(t *testing.T) {
		t.Parallel()
		tj := run(t, func(*v1alpha1.TenantJob) {})
		finish(t, tj, corev1.PodFailed)
		awaitSaid(t, tj, isFalse, v1alpha1.ReasonJobFailed, "")
		gomega.NewWithT(t).Expect(judged(t, tj)).To(gomega.Equal(failed))
	})
	t.Run("TenantJob that waits, and is cancelled", func(t *testing.T) {
		t.Parallel()
		tj := run(t, func(o *v1alpha1.TenantJob) { o.Spec.NotBeforeTime = new(metav1.NewTime(time.Now().Add(time.Hour))) })
		awaitSaid(t, tj, unknown, v1alpha1.ReasonNotYetDue, "")
		gomega.NewWithT(t).Expect(judged(t, tj)).To(gomega.Equal(inProgress))
		patch(t, tj, func(o *v1alpha1.TenantJob) { o.Spec.Cancel = new(true) })
		fresh(t, tj)
		awaitSaid(t, tj, isFalse, v1alpha1.ReasonCancelled, "")
		gomega.NewWithT(t).Expect(judged(t, tj)).To(gomega.Equal(current))
	})
	t.Run("TenantJob without a template", func(t *testing.T) {
		t.Parallel()
		is(t, run(t, func(o *v1alpha1.TenantJob) { o.Spec.TemplateRef.Name = "nowhere" }), failed)
	})

	for _, obj := range []client.Object{
		&v1alpha1.CredentialProvider{Spec: v1alpha1.CredentialProviderSpec{Secret: &v1alpha1.SecretProvider{}}},
	} {
		gvk, _ := apiutil.GVKForObject(obj, scheme)
		t.Run(gvk.Kind+", of which nobody says anything yet", func(t *testing.T) {
			t.Parallel()
			obj.SetName("kstatus")
			gomega.NewWithT(t).Expect(judged(t, create(t, obj))).To(gomega.Equal(current))
		})
	}
}
