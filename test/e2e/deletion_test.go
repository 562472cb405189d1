package e2e

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

var _ = Describe("Deleting a tenant", func() {
	DescribeTable("while its jobs run leaves nothing behind",
		func(ctx SpecContext, propagation metav1.DeletionPropagation) {
			template := givenTemplate(ctx, "check-expired-sessions", toEndSlowly)
			acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
			done := dispatch(ctx, acme, template, "done", none)
			running := dispatch(ctx, acme, template, "running", endless)
			runs(ctx, running)
			expectReason(ctx, done, v1alpha1.ReasonCompleted)

			Expect(kube.Delete(ctx, acme, client.PropagationPolicy(propagation))).To(Succeed())
			expectGone(ctx, acme)
			Expect(kube.Get(ctx, client.ObjectKey{Name: acme.NamespaceName()}, &corev1.Namespace{})).To(MatchError(isNotFound, "IsNotFound"))
			Expect(livePods(ctx, acme.NamespaceName())).To(BeEmpty())
		},
		Entry("in the background", metav1.DeletePropagationBackground),
		Entry("in the foreground", metav1.DeletePropagationForeground),
	)

	It("makes room for another one of its name, who is not taken for it", func(ctx SpecContext) {
		template := givenTemplate(ctx, "check-expired-sessions")
		first := givenTenant(ctx, "acme", v1alpha1.TenantSpec{ExternalID: "first"})
		second := first.DeepCopy()
		second.ObjectMeta = metav1.ObjectMeta{Name: first.Name}
		second.Spec.ExternalID = "second"
		Expect(kube.Delete(ctx, first)).To(Succeed())
		expectGone(ctx, first)

		create(ctx, second)
		expectReady(ctx, second)
		tj := dispatch(ctx, second, template, "nightly", none)
		expectReason(ctx, tj, v1alpha1.ReasonCompleted)
		Expect(tj.Status.TenantUID).To(And(Equal(second.UID), Not(Equal(first.UID))))
		pod := podOf(ctx, tj)
		Expect(logOf(ctx, &pod)).To(And(ContainSubstring("tenantID=second"), ContainSubstring("tenantUID="+string(second.UID))))
	})

	It("whose namespace is to be retained takes off it what was ours", func(ctx SpecContext) {
		acme := givenRetained(ctx)
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: acme.NamespaceName()}}
		keepsake := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "keepsake"}}
		Expect(kube.Create(ctx, keepsake)).To(Succeed())
		runs(ctx, dispatch(ctx, acme, givenTemplate(ctx, "check-expired-sessions", toEndSlowly), "running", endless))

		Expect(kube.Delete(ctx, acme)).To(Succeed())
		expectGone(ctx, acme)
		expectThought(ctx)
		expectReleased(ctx, namespace)
		Expect(livePods(ctx, namespace.Name)).To(BeEmpty())
		Expect(kube.Get(ctx, client.ObjectKeyFromObject(keepsake), keepsake)).To(Succeed())
	})

	It("whose namespace is to be retained takes off it what was ours, also when many go at once", func(ctx SpecContext) {
		var tenants []*v1alpha1.Tenant
		for range 8 {
			tenants = append(tenants, givenRetained(ctx))
		}
		for _, tenant := range tenants {
			Expect(kube.Delete(ctx, tenant)).To(Succeed())
		}
		for _, tenant := range tenants {
			expectGone(ctx, tenant)
		}
		expectThought(ctx)
		for _, tenant := range tenants {
			expectReleased(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenant.NamespaceName()}})
		}
	})

	It("gives a namespace back that was there before", func(ctx SpecContext) {
		legacy := newTenant("legacy", v1alpha1.TenantSpec{})
		legacy.Spec.Namespace = &v1alpha1.TenantNamespace{Name: "billing-of-" + legacy.Name}
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: legacy.NamespaceName(), Labels: map[string]string{"team": "billing"},
			Annotations: map[string]string{v1alpha1.AnnotationAdoptBy: legacy.Name},
		}}
		Expect(kube.Create(ctx, namespace)).To(Succeed())
		DeferCleanup(func(ctx SpecContext) { Expect(client.IgnoreNotFound(kube.Delete(ctx, namespace))).To(Succeed()) })
		create(ctx, legacy)
		expectReady(ctx, legacy)
		Expect(legacy.Status.Namespace.UID).To(Equal(namespace.UID))
		run := dispatch(ctx, legacy, givenTemplate(ctx, "check-expired-sessions"), "run", none)
		expectReason(ctx, run, v1alpha1.ReasonCompleted)

		Expect(kube.Delete(ctx, legacy)).To(Succeed())
		expectGone(ctx, legacy)
		expectThought(ctx)
		expectReleased(ctx, namespace)
		Expect(namespace.Labels).To(HaveKeyWithValue("team", "billing"))
	})
})

// givenRetained creates a Tenant whose namespace is retained when it is deleted. The namespace is deleted when the spec
// ends.
func givenRetained(ctx context.Context) *v1alpha1.Tenant {
	GinkgoHelper()
	tenant := givenTenant(ctx, "acme", v1alpha1.TenantSpec{Namespace: &v1alpha1.TenantNamespace{DeletionPolicy: v1alpha1.NamespaceRetain}})
	DeferCleanup(func(ctx SpecContext) {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenant.NamespaceName()}}
		Expect(client.IgnoreNotFound(kube.Delete(ctx, namespace))).To(Succeed())
	})
	return tenant
}

// expectGone waits until a Tenant is gone.
func expectGone(ctx context.Context, tenant *v1alpha1.Tenant) {
	GinkgoHelper()
	Eventually(ctx, func(ctx context.Context) error {
		return kube.Get(ctx, client.ObjectKeyFromObject(tenant), &v1alpha1.Tenant{})
	}).Should(MatchError(isNotFound, "IsNotFound"), "%s", deferred(ctx, tenant))
}

// expectThought waits until the operator has reconciled again after the last event: it creates one more tenant and waits
// until that is Ready. So the spec also sees what the operator does with a cache that is behind.
func expectThought(ctx context.Context) {
	GinkgoHelper()
	givenTenant(ctx, "another", v1alpha1.TenantSpec{})
}

// expectReleased checks that a namespace has nothing of a tenant any more.
func expectReleased(ctx context.Context, namespace *corev1.Namespace) {
	GinkgoHelper()
	Expect(kube.Get(ctx, client.ObjectKeyFromObject(namespace), namespace)).To(Succeed())
	Expect(namespace.DeletionTimestamp).To(BeNil())
	for _, keys := range []map[string]string{namespace.Labels, namespace.Annotations} {
		for key := range keys {
			// This annotation was set by the platform, so it stays.
			if key != v1alpha1.AnnotationAdoptBy {
				Expect(key).NotTo(HavePrefix("tenantry.dev/"))
			}
		}
	}
	for _, list := range []client.ObjectList{
		&networkingv1.NetworkPolicyList{}, &rbacv1.RoleBindingList{}, &corev1.ResourceQuotaList{}, &corev1.LimitRangeList{},
		&corev1.ServiceAccountList{}, &batchv1.JobList{}, &v1alpha1.TenantJobList{},
	} {
		Expect(kube.List(ctx, list, client.InNamespace(namespace.Name), client.HasLabels{v1alpha1.LabelTenant})).To(Succeed())
		Expect(list).To(HaveField("Items", BeEmpty()))
	}
}
