package e2e

import (
	"context"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

var _ = Describe("What the operator keeps for a tenant", func() {
	It("is put back when somebody changes or deletes it", func(ctx SpecContext) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{
			Members: []v1alpha1.TenantMember{{
				Role: v1alpha1.RoleViewer, Subject: v1alpha1.MemberSubject{Kind: v1alpha1.SubjectUser, Name: "audrey@acme.example"},
			}},
			Namespace: &v1alpha1.TenantNamespace{Labels: map[string]v1alpha1.LabelValue{"team": "billing"}},
			Quota:     &v1alpha1.TenantQuota{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("10")}},
		})
		before := keptFor(ctx, acme)
		Expect(before).To(And(
			HaveKey("*v1.ServiceAccount "+v1alpha1.RunnerServiceAccount),
			ContainElement(BeAssignableToTypeOf(&corev1.ResourceQuotaSpec{})), ContainElement(BeAssignableToTypeOf(&corev1.LimitRangeSpec{})),
			ContainElement(BeAssignableToTypeOf(&networkingv1.NetworkPolicySpec{})), ContainElement(BeAssignableToTypeOf([]rbacv1.Subject{})),
			ContainElement(And(HaveKeyWithValue("pod-security.kubernetes.io/enforce", "restricted"), HaveKeyWithValue("team", "billing"))),
		))

		By("changing it")
		for _, obj := range objectsKeptFor(ctx, acme) {
			spoil(obj)
			expectDone(kube.Update(ctx, obj))
		}
		Eventually(ctx, keptFor).WithArguments(acme).Should(Equal(before))

		By("deleting it")
		for _, obj := range objectsKeptFor(ctx, acme) {
			if _, ok := obj.(*corev1.Namespace); !ok {
				expectDone(kube.Delete(ctx, obj))
			}
		}
		Eventually(ctx, keptFor).WithArguments(acme).Should(Equal(before))
		expectReady(ctx, acme)

		By("running something in it")
		run := dispatch(ctx, acme, givenTemplate(ctx, "check-expired-sessions"), "run", none)
		expectReason(ctx, run, v1alpha1.ReasonCompleted)
	})
})

// expectDone accepts that an admission policy refuses a change that the operator would otherwise revert.
func expectDone(err error) {
	GinkgoHelper()
	Expect(err).To(Or(Succeed(), MatchError(isForbidden, "IsForbidden")))
}

// objectsKeptFor lists the namespace of a tenant and all objects that the operator keeps in it.
func objectsKeptFor(ctx context.Context, tenant *v1alpha1.Tenant) []client.Object {
	GinkgoHelper()
	namespace := &corev1.Namespace{}
	Expect(kube.Get(ctx, client.ObjectKey{Name: tenant.NamespaceName()}, namespace)).To(Succeed())
	objects := []client.Object{namespace}

	kept := []client.ListOption{client.InNamespace(namespace.Name), client.MatchingLabels{v1alpha1.LabelManaged: "true"}}
	var (
		accounts corev1.ServiceAccountList
		quotas   corev1.ResourceQuotaList
		limits   corev1.LimitRangeList
		policies networkingv1.NetworkPolicyList
		bindings rbacv1.RoleBindingList
	)
	for _, list := range []client.ObjectList{&accounts, &quotas, &limits, &policies, &bindings} {
		Expect(kube.List(ctx, list, kept...)).To(Succeed())
	}
	objects = appendAll(objects, accounts.Items)
	objects = appendAll(objects, quotas.Items)
	objects = appendAll(objects, limits.Items)
	objects = appendAll(objects, policies.Items)
	return appendAll(objects, bindings.Items)
}

func appendAll[T any, P interface {
	*T
	client.Object
}](objects []client.Object, items []T) []client.Object {
	for i := range items {
		objects = append(objects, P(&items[i]))
	}
	return objects
}

// keptFor returns the part of each object that the operator keeps for a tenant, by kind and name.
func keptFor(ctx context.Context, tenant *v1alpha1.Tenant) map[string]any {
	GinkgoHelper()
	kept := map[string]any{}
	for _, obj := range objectsKeptFor(ctx, tenant) {
		kept[fmt.Sprintf("%T %s", obj, obj.GetName())] = says(obj)
	}
	return kept
}

// says returns the part of an object that the operator keeps.
func says(obj client.Object) any {
	switch obj := obj.(type) {
	case *corev1.Namespace:
		return obj.Labels
	case *corev1.ServiceAccount:
		return obj.AutomountServiceAccountToken
	case *corev1.ResourceQuota:
		return &obj.Spec
	case *corev1.LimitRange:
		return &obj.Spec
	case *networkingv1.NetworkPolicy:
		return &obj.Spec
	case *rbacv1.RoleBinding:
		return obj.Subjects
	}
	return nil
}

// spoil changes the part of an object that the operator keeps.
func spoil(obj client.Object) {
	switch obj := obj.(type) {
	case *corev1.Namespace:
		obj.Labels["pod-security.kubernetes.io/enforce"] = "privileged"
		obj.Labels["team"] = "other"
		delete(obj.Labels, v1alpha1.LabelState)
	case *corev1.ServiceAccount:
		obj.AutomountServiceAccountToken = new(true)
	case *corev1.ResourceQuota:
		obj.Spec.Hard[corev1.ResourcePods] = resource.MustParse("1000")
	case *corev1.LimitRange:
		obj.Spec.Limits = nil
	case *networkingv1.NetworkPolicy:
		obj.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{}}
	case *rbacv1.RoleBinding:
		obj.Subjects = append(obj.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "mallory"})
	}
}
