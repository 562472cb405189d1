package jobs_test

import (
	"testing"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/internal/kube"
)

func TestTenantJobMismatch(t *testing.T) {
	t.Parallel()
	acme, globex := NewReadyTenant(t, v1alpha1.TenantSpec{}), NewReadyTenant(t, v1alpha1.TenantSpec{})
	template := NewReadyTemplate(t, nil)
	for name, given := range map[string]struct {
		namespace, tenant, message string
	}{
		"in another tenant's namespace": {
			globex.NamespaceName(), acme.Name,
			"namespace " + globex.NamespaceName() + " is tenant " + globex.Name + "'s: `spec.tenantRef.name` must be " + globex.Name,
		},
		"in another tenant's namespace, for one that does not exist": {
			globex.NamespaceName(), "nobody", "`spec.tenantRef.name` must be " + globex.Name,
		},
		"in nobody's namespace": {
			"default", acme.Name, "namespace default is not tenant " + acme.Name + "'s: create the TenantJob in namespace " + acme.NamespaceName(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tj := NewRun(t, acme, template, func(o *v1alpha1.TenantJob) {
				o.Namespace, o.Spec.TenantRef.Name = given.namespace, given.tenant
			})
			AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonTenantMismatch, given.message)
			g := gomega.NewWithT(t)
			g.Expect(conditions.Get(tj.Status.Conditions, v1alpha1.ConditionStalled).Status).To(gomega.Equal(IsTrue))
			g.Expect(client.IgnoreNotFound(Admin.Get(t.Context(), kube.KeyOf(tj), JobOf(tj)))).To(gomega.Succeed())
			g.Expect(JobOf(tj).UID).To(gomega.BeEmpty())
		})
	}
}

func TestTenantJobTenantIsNotReady(t *testing.T) {
	t.Parallel()
	template := NewReadyTemplate(t, nil)
	t.Run("there is none, until it comes", func(t *testing.T) {
		t.Parallel()
		later := NewReadyTenant(t, v1alpha1.TenantSpec{Namespace: &v1alpha1.TenantNamespace{DeletionPolicy: v1alpha1.NamespaceRetain}})
		namespace := NamespaceOf(later)
		Remove(t, later)
		AwaitGone(t, later)
		t.Cleanup(func() { _ = Admin.Delete(t.Context(), namespace) })
		tj := NewTenantJob(t, later, template)
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonTenantNotReady, "there is no Tenant "+later.Name)
		g := gomega.NewWithT(t)
		g.Expect(conditions.Get(tj.Status.Conditions, v1alpha1.ConditionReconciling).Status).To(gomega.Equal(IsTrue))
		Consent(t, Get(t, g, namespace), later.Name)
		Create(t, &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: later.Name}})
		AwaitRunningPod(t, tj)
	})
	t.Run("its namespace is in conflict, until somebody consents", func(t *testing.T) {
		t.Parallel()
		namespace := NewNamespace(t, func(*corev1.Namespace) {})
		tenant := NewTenant(t, v1alpha1.TenantSpec{Namespace: &v1alpha1.TenantNamespace{Name: namespace.Name}})
		tj := NewTenantJob(t, tenant, template)
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonTenantNotReady, "the namespace of tenant "+tenant.Name+" is not ready")
		Consent(t, namespace, tenant.Name)
		AwaitRunningPod(t, tj)
	})
	t.Run("both are made at the same moment", func(t *testing.T) {
		t.Parallel()
		tenant := NewTenant(t, v1alpha1.TenantSpec{})
		Eventually(t, func(g gomega.Gomega) { Get(t, g, NamespaceOf(tenant)) })
		AwaitRunningPod(t, NewTenantJob(t, tenant, NewTemplate(t, nil)))
	})
}

func TestTenantJobTenantIsSuspended(t *testing.T) {
	t.Parallel()
	template := NewReadyTemplate(t, nil)
	t.Run("it waits and goes on", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, v1alpha1.TenantSpec{Suspend: new(true)})
		jobs := FollowJobs(t, tenant)
		tj := NewTenantJob(t, tenant, template)
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonTenantSuspended, "it starts when the tenant is resumed")
		AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, IsTrue, v1alpha1.ReasonSuspended, "")
		made, _ := jobs.Made()
		gomega.NewWithT(t).Expect(made).To(gomega.BeEmpty())
		Patch(t, tenant, Resume)
		AwaitRunningPod(t, tj)
	})
	t.Run("a fan-out's child does not wait", func(t *testing.T) {
		t.Parallel()
		tenants := NewReadyTenants(t, 2)
		fanOut := NewFanOut(t, template.Name, tenants, func(o *v1alpha1.TenantFanOut) {
			o.Spec.Strategy = &v1alpha1.FanOutStrategy{MaxConcurrent: new(intstr.FromInt32(1))}
		})
		var waits *v1alpha1.Tenant
		Eventually(t, func(g gomega.Gomega) {
			for i, tenant := range tenants {
				if Get(t, g, ChildIn(tenant, fanOut)).Status.JobRef != nil {
					waits = tenants[1-i]
				}
			}
			g.Expect(waits).NotTo(gomega.BeNil())
		})
		Patch(t, waits, Suspend)
		child := ChildIn(waits, fanOut)
		AwaitStatus(t, child, IsFalse, v1alpha1.ReasonTenantSuspended, "tenant "+waits.Name+" is suspended")
		gomega.NewWithT(t).Expect(conditions.Get(child.Status.Conditions, v1alpha1.ConditionStalled)).To(gomega.BeZero())
	})
	t.Run("StoppedBySuspension", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
		tj := NewTenantJob(t, tenant, template)
		pod := AwaitRunningPod(t, tj)
		Patch(t, tenant, Suspend)
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonStoppedBySuspension, "create another TenantJob when it is active again")
		AwaitGone(t, pod)
		AwaitGone(t, JobOf(tj))
	})
	t.Run("Drain lets a pod finish", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, v1alpha1.TenantSpec{SuspendPolicy: v1alpha1.SuspendPolicyDrain})
		tj := NewTenantJob(t, tenant, template)
		pod := AwaitRunningPod(t, tj)
		Patch(t, tenant, Suspend)
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonRunning, "is being suspended; its running pods may finish")
		EndPod(t, pod, corev1.PodSucceeded)
		AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
	})
	t.Run("Drain stops a pod that does not run yet", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, v1alpha1.TenantSpec{SuspendPolicy: v1alpha1.SuspendPolicyDrain})
		tj := NewTenantJob(t, tenant, NewReadyTemplate(t, pending))
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonStarting, "")
		Patch(t, tenant, Suspend)
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonStoppedBySuspension, "")
		AwaitGone(t, JobOf(tj))
	})
	t.Run("Drain stops what would need another pod", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, v1alpha1.TenantSpec{SuspendPolicy: v1alpha1.SuspendPolicyDrain})
		tj := NewTenantJob(t, tenant, NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.JobTemplate.Spec.BackoffLimit = new(int32(3)) }))
		pod := AwaitRunningPod(t, tj)
		Patch(t, tenant, Suspend)
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonRunning, "is being suspended")
		EndPod(t, pod, corev1.PodFailed)
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonStoppedBySuspension, "")
		AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, IsTrue, v1alpha1.ReasonSuspended, "")
	})
}

func TestTenantJobTenantIsDeleted(t *testing.T) {
	t.Parallel()
	template := NewReadyTemplate(t, Lingering)
	tenant := NewReadyTenant(t, AtMost(1))
	running := NewTenantJob(t, tenant, template)
	pod := AwaitRunningPod(t, running)
	waiting := NewTenantJob(t, tenant, template)
	AwaitStatus(t, waiting, Unknown, v1alpha1.ReasonQueued, "")
	Remove(t, tenant)
	AwaitStatus(t, waiting, IsFalse, v1alpha1.ReasonTenantDeleted, "tenant "+tenant.Name+" is being deleted")
	AwaitStatus(t, running, IsFalse, v1alpha1.ReasonTenantDeleted, "tenant "+tenant.Name+" is being deleted")
	g := gomega.NewWithT(t)
	g.Expect(conditions.Get(waiting.Status.Conditions, v1alpha1.ConditionStalled)).To(gomega.BeZero())
	LetGo(t, pod)
	AwaitGone(t, tenant)
}

// TestTenantJobSuspendedAtEveryMoment suspends a tenant while one run of it after the other starts: once it says so, there
// is no pod, and there comes none.
func TestTenantJobSuspendedAtEveryMoment(t *testing.T) {
	t.Parallel()
	template := NewReadyTemplate(t, nil)
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	for range 5 {
		var all []*v1alpha1.TenantJob
		for range 5 {
			all = append(all, NewTenantJob(t, tenant, template))
		}
		Patch(t, tenant, Suspend)
		AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, IsTrue, v1alpha1.ReasonSuspended, "")
		g := gomega.NewWithT(t)
		var pods corev1.PodList
		g.Expect(Admin.List(t.Context(), &pods, client.InNamespace(tenant.NamespaceName()))).To(gomega.Succeed())
		g.Expect(pods.Items).To(gomega.BeEmpty())
		Patch(t, tenant, Resume)
		for _, tj := range all {
			Eventually(t, func(g gomega.Gomega) {
				reason := conditions.Get(Get(t, g, tj).Status.Conditions, v1alpha1.ConditionSucceeded).Reason
				g.Expect(reason).To(gomega.BeElementOf(v1alpha1.ReasonRunning, v1alpha1.ReasonStoppedBySuspension))
			})
			Remove(t, tj)
		}
	}
}
