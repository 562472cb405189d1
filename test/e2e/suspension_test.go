package e2e

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

var _ = Describe("Suspending a tenant", func() {
	It("stops what runs and holds what comes, until it is resumed", func(ctx SpecContext) {
		template := givenTemplate(ctx, "check-expired-sessions", toEndSlowly)
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		globex := givenTenant(ctx, "globex", v1alpha1.TenantSpec{})
		stopped := dispatch(ctx, acme, template, "stopped", endless)
		spared := dispatch(ctx, globex, template, "spared", endless)
		runs(ctx, stopped)
		runs(ctx, spared)

		change(ctx, acme, suspend)
		pending := expectSuspended(ctx, acme, metav1.ConditionUnknown)
		Expect(pending.Reason).To(BeElementOf(v1alpha1.ReasonStoppingJobs, v1alpha1.ReasonDeletingPods))
		Expect(pending.Message).To(ContainSubstring("stopped"), "it says what it waits for")
		expectSuspended(ctx, acme, metav1.ConditionTrue)
		Expect(livePods(ctx, acme.NamespaceName())).To(BeEmpty(), "Suspended=True is said when no pod is left, and not before")
		Expect(acme.Status.State).To(Equal(v1alpha1.StateSuspended))
		expectReason(ctx, stopped, v1alpha1.ReasonStoppedBySuspension)

		By("giving the suspended tenant work")
		held := dispatch(ctx, acme, template, "held", none)
		waiting := expectReason(ctx, held, v1alpha1.ReasonTenantSuspended)
		Expect(waiting.Status).To(Equal(metav1.ConditionUnknown))
		Expect(waiting.Message).To(And(ContainSubstring(acme.Name), ContainSubstring("suspended"), ContainSubstring("resumed")))
		Expect(jobsIn(ctx, acme.NamespaceName())).NotTo(ContainElement(held.Name))
		intruder := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: acme.NamespaceName(), Name: "intruder"}, Spec: samplePod("probe")}
		Expect(kube.Create(ctx, intruder)).To(MatchError(isForbidden, "IsForbidden"), "not even an administrator starts a pod")

		By("resuming")
		change(ctx, acme, resume)
		expectSuspended(ctx, acme, metav1.ConditionFalse)
		expectReason(ctx, held, v1alpha1.ReasonCompleted)
		expectReason(ctx, stopped, v1alpha1.ReasonStoppedBySuspension) // a run that has ended is not started again
		Expect(jobsIn(ctx, acme.NamespaceName())).NotTo(ContainElement(stopped.Name))
		expectReason(ctx, spared, v1alpha1.ReasonRunning)
	})

	It("lets what runs finish when it is to drain", func(ctx SpecContext) {
		template := givenTemplate(ctx, "check-expired-sessions")
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{SuspendPolicy: v1alpha1.SuspendPolicyDrain})
		running := dispatch(ctx, acme, template, "running", parameters{"runSeconds": "12"})
		runs(ctx, running)

		change(ctx, acme, suspend)
		Expect(expectSuspended(ctx, acme, metav1.ConditionUnknown).Reason).To(Equal(v1alpha1.ReasonDrainingJobs))
		held := dispatch(ctx, acme, template, "held", none)
		expectReason(ctx, held, v1alpha1.ReasonTenantSuspended)
		expectSuspended(ctx, acme, metav1.ConditionTrue)
		Expect(livePods(ctx, acme.NamespaceName())).To(BeEmpty())
		expectReason(ctx, running, v1alpha1.ReasonCompleted)
		pod := podOf(ctx, running)
		Expect(logOf(ctx, &pod)).To(ContainSubstring("msg=done"))
	})

	It("makes one that was suspended before it did anything wait too", func(ctx SpecContext) {
		template := givenTemplate(ctx, "check-expired-sessions")
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{Suspend: new(true)})
		held := dispatch(ctx, acme, template, "held", none)
		expectReason(ctx, held, v1alpha1.ReasonTenantSuspended)
		expectSuspended(ctx, acme, metav1.ConditionTrue)
		var namespace corev1.Namespace
		Expect(kube.Get(ctx, client.ObjectKey{Name: acme.NamespaceName()}, &namespace)).To(Succeed())
		Expect(namespace.Labels).To(HaveKeyWithValue(v1alpha1.LabelState, v1alpha1.StateSuspended))

		change(ctx, held, func(tj *v1alpha1.TenantJob) { tj.Spec.Cancel = new(true) })
		expectReason(ctx, held, v1alpha1.ReasonCancelled)
		Expect(jobsIn(ctx, acme.NamespaceName())).To(BeEmpty())
	})
})
