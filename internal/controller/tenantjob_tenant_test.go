package controller_test

import (
	"testing"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/kube"
)

func TestTenantJobMismatch(t *testing.T) {
	t.Parallel()
	acme, globex := newReadyTenant(t, v1alpha1.TenantSpec{}), newReadyTenant(t, v1alpha1.TenantSpec{})
	template := newReadyTemplate(t, nil)
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
			tj := newRun(t, acme, template, func(o *v1alpha1.TenantJob) {
				o.Namespace, o.Spec.TenantRef.Name = given.namespace, given.tenant
			})
			awaitSaid(t, tj, isFalse, v1alpha1.ReasonTenantMismatch, given.message)
			g := gomega.NewWithT(t)
			g.Expect(conditionOf(tj.Status.Conditions, v1alpha1.ConditionStalled).Status).To(gomega.Equal(isTrue))
			g.Expect(client.IgnoreNotFound(admin.Get(t.Context(), kube.KeyOf(tj), jobOf(tj)))).To(gomega.Succeed())
			g.Expect(jobOf(tj).UID).To(gomega.BeEmpty())
		})
	}
}

func TestTenantJobTenantIsNotReady(t *testing.T) {
	t.Parallel()
	template := newReadyTemplate(t, nil)
	t.Run("there is none, until it comes", func(t *testing.T) {
		t.Parallel()
		later := newReadyTenant(t, v1alpha1.TenantSpec{Namespace: &v1alpha1.TenantNamespace{DeletionPolicy: v1alpha1.NamespaceRetain}})
		namespace := namespaceOf(later)
		remove(t, later)
		awaitGone(t, later)
		t.Cleanup(func() { _ = admin.Delete(t.Context(), namespace) })
		tj := newTenantJob(t, later, template)
		awaitSaid(t, tj, unknown, v1alpha1.ReasonTenantNotReady, "there is no Tenant "+later.Name)
		g := gomega.NewWithT(t)
		g.Expect(conditionOf(tj.Status.Conditions, v1alpha1.ConditionReconciling).Status).To(gomega.Equal(isTrue))
		consent(t, get(t, g, namespace), later.Name)
		create(t, &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: later.Name}})
		awaitRunningPod(t, tj)
	})
	t.Run("its namespace is in conflict, until somebody consents", func(t *testing.T) {
		t.Parallel()
		namespace := newNamespace(t, func(*corev1.Namespace) {})
		tenant := newTenant(t, v1alpha1.TenantSpec{Namespace: &v1alpha1.TenantNamespace{Name: namespace.Name}})
		tj := newTenantJob(t, tenant, template)
		awaitSaid(t, tj, unknown, v1alpha1.ReasonTenantNotReady, "the namespace of tenant "+tenant.Name+" is not ready")
		consent(t, namespace, tenant.Name)
		awaitRunningPod(t, tj)
	})
	t.Run("both are made at the same moment", func(t *testing.T) {
		t.Parallel()
		tenant := newTenant(t, v1alpha1.TenantSpec{})
		eventually(t, func(g gomega.Gomega) { get(t, g, namespaceOf(tenant)) })
		awaitRunningPod(t, newTenantJob(t, tenant, newTemplate(t, nil)))
	})
}

func TestTenantJobTenantIsSuspended(t *testing.T) {
	t.Parallel()
	template := newReadyTemplate(t, nil)
	t.Run("it waits and goes on", func(t *testing.T) {
		t.Parallel()
		tenant := newReadyTenant(t, v1alpha1.TenantSpec{Suspend: new(true)})
		jobs := followJobs(t, tenant)
		tj := newTenantJob(t, tenant, template)
		awaitSaid(t, tj, unknown, v1alpha1.ReasonTenantSuspended, "it starts when the tenant is resumed")
		awaitCondition(t, tenant, v1alpha1.ConditionSuspended, isTrue, v1alpha1.ReasonSuspended, "")
		made, _ := jobs.made()
		gomega.NewWithT(t).Expect(made).To(gomega.BeEmpty())
		patch(t, tenant, resume)
		awaitRunningPod(t, tj)
	})
	t.Run("a fan-out's child does not wait", func(t *testing.T) {
		t.Parallel()
		tenants := newReadyTenants(t, 2)
		fanOut := newFanOut(t, template.Name, tenants, func(o *v1alpha1.TenantFanOut) {
			o.Spec.Strategy = &v1alpha1.FanOutStrategy{MaxConcurrent: new(intstr.FromInt32(1))}
		})
		var waits *v1alpha1.Tenant
		eventually(t, func(g gomega.Gomega) {
			for i, tenant := range tenants {
				if get(t, g, childIn(tenant, fanOut)).Status.JobRef != nil {
					waits = tenants[1-i]
				}
			}
			g.Expect(waits).NotTo(gomega.BeNil())
		})
		patch(t, waits, suspend)
		child := childIn(waits, fanOut)
		awaitSaid(t, child, isFalse, v1alpha1.ReasonTenantSuspended, "tenant "+waits.Name+" is suspended")
		gomega.NewWithT(t).Expect(conditionOf(child.Status.Conditions, v1alpha1.ConditionStalled)).To(gomega.BeZero())
	})
	t.Run("StoppedBySuspension", func(t *testing.T) {
		t.Parallel()
		tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
		tj := newTenantJob(t, tenant, template)
		pod := awaitRunningPod(t, tj)
		patch(t, tenant, suspend)
		awaitSaid(t, tj, isFalse, v1alpha1.ReasonStoppedBySuspension, "create another TenantJob when it is active again")
		awaitGone(t, pod)
		awaitGone(t, jobOf(tj))
	})
	t.Run("Drain lets a pod finish", func(t *testing.T) {
		t.Parallel()
		tenant := newReadyTenant(t, v1alpha1.TenantSpec{SuspendPolicy: v1alpha1.SuspendPolicyDrain})
		tj := newTenantJob(t, tenant, template)
		pod := awaitRunningPod(t, tj)
		patch(t, tenant, suspend)
		awaitSaid(t, tj, unknown, v1alpha1.ReasonRunning, "is being suspended; its running pods may finish")
		endPod(t, pod, corev1.PodSucceeded)
		awaitSaid(t, tj, isTrue, v1alpha1.ReasonCompleted, "")
	})
	t.Run("Drain stops a pod that does not run yet", func(t *testing.T) {
		t.Parallel()
		tenant := newReadyTenant(t, v1alpha1.TenantSpec{SuspendPolicy: v1alpha1.SuspendPolicyDrain})
		tj := newTenantJob(t, tenant, newReadyTemplate(t, pending))
		awaitSaid(t, tj, unknown, v1alpha1.ReasonStarting, "")
		patch(t, tenant, suspend)
		awaitSaid(t, tj, isFalse, v1alpha1.ReasonStoppedBySuspension, "")
		awaitGone(t, jobOf(tj))
	})
	t.Run("Drain stops what would need another pod", func(t *testing.T) {
		t.Parallel()
		tenant := newReadyTenant(t, v1alpha1.TenantSpec{SuspendPolicy: v1alpha1.SuspendPolicyDrain})
		tj := newTenantJob(t, tenant, newReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.JobTemplate.Spec.BackoffLimit = new(int32(3)) }))
		pod := awaitRunningPod(t, tj)
		patch(t, tenant, suspend)
		awaitSaid(t, tj, unknown, v1alpha1.ReasonRunning, "is being suspended")
		endPod(t, pod, corev1.PodFailed)
		awaitSaid(t, tj, isFalse, v1alpha1.ReasonStoppedBySuspension, "")
		awaitCondition(t, tenant, v1alpha1.ConditionSuspended, isTrue, v1alpha1.ReasonSuspended, "")
	})
}

func TestTenantJobTenantIsDeleted(t *testing.T) {
	t.Parallel()
	template := newReadyTemplate(t, lingering)
	tenant := newReadyTenant(t, atMost(1))
	running := newTenantJob(t, tenant, template)
	pod := awaitRunningPod(t, running)
	waiting := newTenantJob(t, tenant, template)
	awaitSaid(t, waiting, unknown, v1alpha1.ReasonQueued, "")
	remove(t, tenant)
	awaitSaid(t, waiting, isFalse, v1alpha1.ReasonTenantDeleted, "tenant "+tenant.Name+" is being deleted")
	awaitSaid(t, running, isFalse, v1alpha1.ReasonTenantDeleted, "tenant "+tenant.Name+" is being deleted")
	g := gomega.NewWithT(t)
	g.Expect(conditionOf(waiting.Status.Conditions, v1alpha1.ConditionStalled)).To(gomega.BeZero())
	letGo(t, pod)
	awaitGone(t, tenant)
}

// TestTenantJobSuspendedAtEveryMoment suspends a tenant while one run of it after the other starts: once it says so, there
// is no pod, and there comes none.
func TestTenantJobSuspendedAtEveryMoment(t *testing.T) {
	t.Parallel()
	template := newReadyTemplate(t, nil)
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
	for range 5 {
		var all []*v1alpha1.TenantJob
		for range 5 {
			all = append(all, newTenantJob(t, tenant, template))
		}
		patch(t, tenant, suspend)
		awaitCondition(t, tenant, v1alpha1.ConditionSuspended, isTrue, v1alpha1.ReasonSuspended, "")
		g := gomega.NewWithT(t)
		var pods corev1.PodList
		g.Expect(admin.List(t.Context(), &pods, client.InNamespace(tenant.NamespaceName()))).To(gomega.Succeed())
		g.Expect(pods.Items).To(gomega.BeEmpty())
		patch(t, tenant, resume)
		for _, tj := range all {
			eventually(t, func(g gomega.Gomega) {
				reason := conditionOf(get(t, g, tj).Status.Conditions, v1alpha1.ConditionSucceeded).Reason
				g.Expect(reason).To(gomega.BeElementOf(v1alpha1.ReasonRunning, v1alpha1.ReasonStoppedBySuspension))
			})
			remove(t, tj)
		}
	}
}
