package tenants_test

import (
	"testing"

	"github.com/onsi/gomega"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

func TestTenantDeletion(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		policy      v1alpha1.NamespaceDeletionPolicy
		propagation metav1.DeletionPropagation
		spec        func(*v1alpha1.TenantSpec)
	}{
		"background":                  {v1alpha1.NamespaceDelete, metav1.DeletePropagationBackground, nil},
		"foreground":                  {v1alpha1.NamespaceDelete, metav1.DeletePropagationForeground, nil},
		"retained, background":        {v1alpha1.NamespaceRetain, metav1.DeletePropagationBackground, nil},
		"retained, foreground":        {v1alpha1.NamespaceRetain, metav1.DeletePropagationForeground, nil},
		"retained, audit":             {v1alpha1.NamespaceRetain, metav1.DeletePropagationBackground, func(s *v1alpha1.TenantSpec) { s.Enforcement = v1alpha1.EnforcementAudit }},
		"one that was meant to drain": {v1alpha1.NamespaceDelete, metav1.DeletePropagationBackground, func(s *v1alpha1.TenantSpec) { s.SuspendPolicy = v1alpha1.SuspendPolicyDrain }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := v1alpha1.TenantSpec{Namespace: &v1alpha1.TenantNamespace{DeletionPolicy: tc.policy}}
			if tc.spec != nil {
				tc.spec(&spec)
			}
			tenant := NewReadyTenant(t, spec)
			template := NewTemplate(t, Lingering)
			running, done := NewTenantJob(t, tenant, template), NewTenantJob(t, tenant, NewTemplate(t, nil))
			pod, last := AwaitRunningPod(t, running), AwaitRunningPod(t, done)
			EndPod(t, last, corev1.PodSucceeded)
			AwaitOutcome(t, done, v1alpha1.ReasonCompleted)
			foreign := Create(t, &corev1.ConfigMap{ObjectMeta: Within(tenant, "foreign")})

			Remove(t, tenant, client.PropagationPolicy(tc.propagation))
			AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonStoppingJobs, running.Name)
			AwaitCondition(t, tenant, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonStoppingJobs, running.Name)
			g := gomega.NewWithT(t)
			namespace := Get(t, g, NamespaceOf(tenant))
			g.Expect(namespace.Labels[v1alpha1.LabelState]).To(gomega.Equal("deleting"))
			g.Expect(namespace.DeletionTimestamp).To(gomega.BeNil(), "deleted before its jobs were stopped")
			AwaitOutcome(t, running, v1alpha1.ReasonTenantDeleted)
			LetGo(t, pod)
			AwaitGone(t, tenant)
			for _, obj := range []client.Object{running, done, pod, last} {
				AwaitGone(t, obj)
			}
			if tc.policy == v1alpha1.NamespaceDelete {
				AwaitGone(t, namespace)
				return
			}
			Get(t, g, namespace)
			Get(t, g, foreign)
			g.Expect(namespace.Labels).To(gomega.Equal(map[string]string{corev1.LabelMetadataName: namespace.Name}))
			g.Expect(namespace.Annotations).To(gomega.BeEmpty())
			g.Expect(childrenIn(t, g, namespace.Name)).To(gomega.BeEmpty())
		})
	}
}

func TestTenantDeletionSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	t.Run("a TenantJob with a stranger's finalizer", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
		tj := NewTenantJob(t, tenant, NewTemplate(t, nil))
		Patch(t, tj, func(o *v1alpha1.TenantJob) { o.Finalizers = append(o.Finalizers, "example.com/hold") })
		AwaitRunningPod(t, tj)
		Remove(t, tenant)
		AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonDeletingNamespace, tj.Name+" (held by finalizer example.com/hold")
		Patch(t, tj, func(o *v1alpha1.TenantJob) { o.Finalizers = nil })
		AwaitGone(t, tenant)
	})
	t.Run("something else with a stranger's finalizer", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
		release := hold(t, tenant.NamespaceName())
		Remove(t, tenant)
		AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonDeletingNamespace, "configmaps. has 1 resource instances")
		AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonDeletingNamespace, "example.com/hold")
		release()
		AwaitGone(t, tenant)
	})
}

func TestTenantMadeAgain(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	was := tenant.Status.Namespace.UID
	again := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: tenant.Name}}
	release := hold(t, tenant.NamespaceName())
	Remove(t, tenant)
	AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonDeletingNamespace, "")
	// Somebody is in a hurry.
	Patch(t, tenant, func(o *v1alpha1.Tenant) { o.Finalizers = nil })
	AwaitGone(t, tenant)
	Create(t, again)
	AwaitCondition(t, again, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNamespaceTerminating, "")
	release()
	AwaitCondition(t, again, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	g := gomega.NewWithT(t)
	namespace := Get(t, g, NamespaceOf(again))
	g.Expect(namespace.UID).NotTo(gomega.Equal(was))
	g.Expect(namespace.Annotations).To(gomega.HaveKeyWithValue("tenantry.dev/tenant-uid", string(again.UID)))
}

func TestTenantDeletedWithoutItsNamespace(t *testing.T) {
	t.Parallel()
	cases := map[string]func(t *testing.T, tenant *v1alpha1.Tenant){
		"the namespace was deleted by force": func(t *testing.T, tenant *v1alpha1.Tenant) { Remove(t, NamespaceOf(tenant)) },
		"its rights were taken away": func(t *testing.T, tenant *v1alpha1.Tenant) {
			Create(t, barePod(tenant, "straggler", nil))
			Remove(t, &rbacv1.RoleBinding{ObjectMeta: Within(tenant, "tenantry-operator")})
			Eventually(t, func(g gomega.Gomega) {
				review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
					User:               "system:serviceaccount:" + OperatorNamespace + ":tenantry",
					ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: tenant.NamespaceName(), Verb: "delete", Resource: "pods"},
				}}
				g.Expect(Admin.Create(t.Context(), review)).To(gomega.Succeed())
				g.Expect(review.Status.Allowed).To(gomega.BeFalse())
			})
		},
		"its labels were taken off": func(t *testing.T, tenant *v1alpha1.Tenant) {
			Patch(t, NamespaceOf(tenant), func(o *corev1.Namespace) { o.Labels = nil })
		},
	}
	for name, damage := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
			namespace := NamespaceOf(tenant)
			damage(t, tenant)
			Remove(t, tenant)
			AwaitGone(t, tenant)
			AwaitGone(t, namespace)
		})
	}
}
