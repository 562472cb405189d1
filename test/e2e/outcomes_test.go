package e2e

import (
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// refusedAfter is how long a Job may be without a pod before its run counts as refused.
const refusedAfter = 2 * time.Minute

var _ = Describe("A TenantJob", func() {
	It("for a tenant whose the namespace is not never becomes a Job", func(ctx SpecContext) {
		template := givenTemplate(ctx, "check-expired-sessions")
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		globex := givenTenant(ctx, "globex", v1alpha1.TenantSpec{})
		wrong := newTenantJob(globex, template, "wrong", none)
		wrong.Namespace = acme.NamespaceName()
		Expect(kube.Create(ctx, wrong)).To(And(MatchError(isForbidden, "IsForbidden"), MatchError(ContainSubstring("`spec.tenantRef.name` must be "+acme.Name))))
		Expect(jobsIn(ctx, acme.NamespaceName())).To(BeEmpty())
		Expect(jobsIn(ctx, globex.NamespaceName())).To(BeEmpty())
	})

	It("with a parameter that its template does not know, or no template, says so", func(ctx SpecContext) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		template := givenTemplate(ctx, "check-expired-sessions")
		unknown := dispatch(ctx, acme, template, "unknown", parameters{"nonsense": "1"})
		Expect(expectReason(ctx, unknown, v1alpha1.ReasonInvalidParameters).Message).To(ContainSubstring("nonsense"))

		absent := template.DeepCopy()
		absent.Name = "absent-" + template.Name
		orphan := dispatch(ctx, acme, absent, "orphan", none)
		Expect(expectReason(ctx, orphan, v1alpha1.ReasonTemplateNotFound).Message).To(ContainSubstring(absent.Name))
		Expect(jobsIn(ctx, acme.NamespaceName())).To(BeEmpty())
	})

	It("waits for a limit and says which, and runs when it may", func(ctx SpecContext) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{Jobs: &v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(1))}})
		template := givenTemplate(ctx, "check-expired-sessions")
		first := dispatch(ctx, acme, template, "first", endless)
		pod := runs(ctx, first)
		second := dispatch(ctx, acme, template, "second", none)
		Expect(expectReason(ctx, second, v1alpha1.ReasonQueued).Message).To(ContainSubstring("maxConcurrent"))
		Expect(jobsIn(ctx, acme.NamespaceName())).To(ConsistOf(first.Name))

		By("cancelling the one that runs")
		change(ctx, first, func(tj *v1alpha1.TenantJob) { tj.Spec.Cancel = new(true) })
		expectReason(ctx, first, v1alpha1.ReasonCancelled)
		expectReason(ctx, second, v1alpha1.ReasonCompleted)
		Expect(livePods(ctx, acme.NamespaceName())).NotTo(ContainElement(pod.Name))
		Expect(podsOf(ctx, first)).To(BeEmpty())
	})

	It("that is deleted while it runs takes its pod along", func(ctx SpecContext) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		template := givenTemplate(ctx, "check-expired-sessions", toEndSlowly)
		deleted := dispatch(ctx, acme, template, "deleted", endless)
		runs(ctx, deleted)
		Expect(kube.Delete(ctx, deleted)).To(Succeed())
		Eventually(ctx, func() []corev1.Pod { return podsOf(ctx, deleted) }).Should(BeEmpty())
		Eventually(ctx, func() []string { return jobsIn(ctx, acme.NamespaceName()) }).Should(BeEmpty())

		By("making it again under its name")
		again := dispatch(ctx, acme, template, "deleted", none)
		expectReason(ctx, again, v1alpha1.ReasonCompleted)
	})

	It("whose pods fail is tried again as often as its template says, and then has failed", func(ctx SpecContext) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		template := givenTemplate(ctx, "check-expired-sessions", func(spec *v1alpha1.TenantJobTemplateSpec) {
			spec.JobTemplate.Spec.BackoffLimit = new(int32(1))
		})
		failing := dispatch(ctx, acme, template, "failing", parameters{"simulateFailure": "true"})
		Expect(expectReason(ctx, failing, v1alpha1.ReasonJobFailed).Message).To(ContainSubstring("exited with code 1"))
		Expect(podsOf(ctx, failing)).To(HaveLen(2))
		Expect(failing.Status.Conditions).To(ContainElement(And(
			HaveField("Type", v1alpha1.ConditionStalled), HaveField("Status", metav1.ConditionTrue))))
	})

	It("that runs longer than its template allows is stopped", func(ctx SpecContext) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		template := givenTemplate(ctx, "check-expired-sessions", func(spec *v1alpha1.TenantJobTemplateSpec) {
			spec.JobTemplate.Spec.ActiveDeadlineSeconds = new(int64(5))
		})
		late := dispatch(ctx, acme, template, "late", endless)
		expectReason(ctx, late, v1alpha1.ReasonDeadlineExceeded)
		Eventually(ctx, func() []string { return livePods(ctx, acme.NamespaceName()) }).Should(BeEmpty())
	})

	It("whose image can't be had says so in the words of the kubelet", func(ctx SpecContext) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		image := func(name string, policy corev1.PullPolicy) func(*v1alpha1.TenantJobTemplateSpec) {
			return func(spec *v1alpha1.TenantJobTemplateSpec) {
				container := &spec.JobTemplate.Spec.Template.Spec.Containers[0]
				container.Image, container.ImagePullPolicy = name, policy
			}
		}
		const nowhere = "registry.invalid/hotspot:dev"
		pulled := dispatch(ctx, acme, givenTemplate(ctx, "probe", image(nowhere, corev1.PullIfNotPresent)), "pulled", none)
		never := dispatch(ctx, acme, givenTemplate(ctx, "probe", image(nowhere, corev1.PullNever)), "never", none)
		expectMessage(ctx, pulled, v1alpha1.ReasonStarting, Or(ContainSubstring("ErrImagePull"), ContainSubstring("ImagePullBackOff")))
		expectMessage(ctx, never, v1alpha1.ReasonStarting, ContainSubstring("ErrImageNeverPull"))
	})

	// The operator waits for two minutes, since a quota may have room again by then.
	It("whose pods are refused fails after two minutes", SpecPriority(1), func(ctx SpecContext) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{Quota: &v1alpha1.TenantQuota{Hard: corev1.ResourceList{
			corev1.ResourcePods: resource.MustParse("0"),
		}}})
		template := givenTemplate(ctx, "check-expired-sessions")
		refused := dispatch(ctx, acme, template, "refused", none)
		expectMessage(ctx, refused, v1alpha1.ReasonStarting, And(ContainSubstring("exceeded quota"), ContainSubstring("raise `spec.quota.hard` of the Tenant")))

		Eventually(ctx, succeeded).WithArguments(refused).WithTimeout(refusedAfter + patience).Should(And(
			HaveField("Status", metav1.ConditionFalse), HaveField("Reason", v1alpha1.ReasonPodsRefused),
			HaveField("Message", ContainSubstring("exceeded quota"))))
		Eventually(ctx, func() []string { return jobsIn(ctx, acme.NamespaceName()) }).Should(BeEmpty(), "its Job should not try for ever")
	})
})
