package tenants_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// untouched fails if the operator has put anything on or into a namespace.
func untouched(t *testing.T, namespace *corev1.Namespace) {
	t.Helper()
	now := Get(t, gomega.NewWithT(t), namespace.DeepCopy())
	if diff := cmp.Diff([]any{namespace.Labels, namespace.Annotations}, []any{now.Labels, now.Annotations}); diff != "" {
		t.Errorf("the namespace was changed (-was +is):\n%s", diff)
	}
	if now.DeletionTimestamp != nil {
		t.Error("the namespace is being deleted")
	}
	var bindings rbacv1.RoleBindingList
	if err := Admin.List(t.Context(), &bindings, client.InNamespace(namespace.Name)); err != nil || len(bindings.Items) > 0 {
		t.Errorf("role bindings in it: %v, %v", bindings.Items, err)
	}
}

func TestTenantNamespaceConflict(t *testing.T) {
	t.Parallel()
	living := NewReadyTenant(t, v1alpha1.TenantSpec{})
	cases := map[string]struct {
		namespace func(tenant string) func(*corev1.Namespace)
		message   string
	}{
		"somebody's": {
			func(string) func(*corev1.Namespace) { return nil },
			"kubectl annotate",
		},
		"labels forged before the Tenant was made": {
			func(tenant string) func(*corev1.Namespace) {
				return func(o *corev1.Namespace) {
					o.Labels = map[string]string{"tenantry.dev/tenant": tenant, "tenantry.dev/managed": "true", "tenantry.dev/state": "active"}
				}
			},
			"was not made for this Tenant",
		},
		"left behind by an earlier Tenant": {
			func(tenant string) func(*corev1.Namespace) {
				return func(o *corev1.Namespace) {
					o.Labels = map[string]string{"tenantry.dev/tenant": tenant}
					o.Annotations = map[string]string{"tenantry.dev/tenant-uid": "older"}
				}
			},
			"earlier Tenant",
		},
		"consent for another": {
			func(string) func(*corev1.Namespace) {
				return func(o *corev1.Namespace) { o.Annotations = map[string]string{"tenantry.dev/adopt-by": "another"} }
			},
			"kubectl annotate --overwrite",
		},
		"labelled as another living tenant's, with consent": {
			func(tenant string) func(*corev1.Namespace) {
				return func(o *corev1.Namespace) {
					o.Labels = map[string]string{"tenantry.dev/tenant": living.Name}
					o.Annotations = map[string]string{"tenantry.dev/adopt-by": tenant}
				}
			},
			"delete Tenant " + living.Name,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenantName := fmt.Sprintf("t%d", Serial.Add(1))
			namespace := NewNamespace(t, tc.namespace(tenantName))
			tenant := Create(t, &v1alpha1.Tenant{
				ObjectMeta: metav1.ObjectMeta{Name: tenantName},
				Spec:       v1alpha1.TenantSpec{Namespace: &v1alpha1.TenantNamespace{Name: namespace.Name}},
			})
			AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNamespaceConflict, tc.message)
			AwaitCondition(t, tenant, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonNamespaceConflict, tc.message)
			if tenant.Status.Namespace != nil || tenant.Status.State != "" {
				t.Errorf("the status claims namespace %v in state %q", tenant.Status.Namespace, tenant.Status.State)
			}
			Remove(t, tenant)
			AwaitGone(t, tenant)
			untouched(t, namespace)
		})
	}
}

func TestTenantNeverAdoptsTheOperatorsNamespace(t *testing.T) {
	t.Parallel()
	namespace := Get(t, gomega.NewWithT(t), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: OperatorNamespace}})
	tenant := NewTenant(t, v1alpha1.TenantSpec{Namespace: &v1alpha1.TenantNamespace{Name: namespace.Name}})
	Consent(t, namespace, tenant.Name)
	AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNamespaceConflict, "never a tenant's")
	Remove(t, tenant)
	AwaitGone(t, tenant)
	now := Get(t, gomega.NewWithT(t), namespace.DeepCopy())
	if diff := cmp.Diff(namespace.Labels, now.Labels); diff != "" || now.DeletionTimestamp != nil {
		t.Errorf("the operator's namespace was changed (-was +is):\n%s", diff)
	}
}

func TestTenantAdoption(t *testing.T) {
	t.Parallel()
	namespace := NewNamespace(t, func(o *corev1.Namespace) {
		o.Labels["team"] = "a" // The Tenant wants the same.
		o.Labels["pod-security.kubernetes.io/enforce"] = "privileged"
	})
	theirs := Create(t, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "theirs"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
	})
	tenant := NewTenant(t, v1alpha1.TenantSpec{
		Enforcement: v1alpha1.EnforcementAudit,
		Namespace:   &v1alpha1.TenantNamespace{Name: namespace.Name, Labels: map[string]v1alpha1.LabelValue{"team": "a", "kind": "b"}},
	})
	AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNamespaceConflict, "adopt-by="+tenant.Name)
	Consent(t, namespace, tenant.Name)
	AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	Eventually(t, func(g gomega.Gomega) {
		labels := Get(t, g, namespace).Labels
		g.Expect(labels).To(gomega.HaveKeyWithValue("theirs", "label"))
		g.Expect(labels).To(gomega.HaveKeyWithValue("kind", "b"))
		g.Expect(labels).To(gomega.HaveKeyWithValue("pod-security.kubernetes.io/enforce", "privileged"))
		g.Expect(namespace.Annotations).To(gomega.HaveKeyWithValue("tenantry.dev/adopted", "true"))
		g.Expect(namespace.Annotations).To(gomega.HaveKeyWithValue("theirs", "annotation"))
	})
	AwaitEvents(t, tenant, "NamespaceConflict", "NamespaceAdopted")
	Remove(t, tenant)
	AwaitGone(t, tenant)
	g := gomega.NewWithT(t)
	Get(t, g, namespace)
	want := []any{
		map[string]string{"theirs": "label", "team": "a", "pod-security.kubernetes.io/enforce": "privileged", corev1.LabelMetadataName: namespace.Name},
		map[string]string{"theirs": "annotation", "tenantry.dev/adopt-by": tenant.Name},
	}
	if diff := cmp.Diff(want, []any{namespace.Labels, namespace.Annotations}); diff != "" {
		t.Errorf("after the release (-want +got):\n%s", diff)
	}
	g.Expect(namespace.DeletionTimestamp).To(gomega.BeNil())
	g.Expect(childrenIn(t, g, namespace.Name)).To(gomega.BeEmpty())
	Get(t, g, theirs)
}

// hold keeps a namespace from going by something in it that somebody holds, and returns what lets it go.
func hold(t *testing.T, namespace string) func() {
	t.Helper()
	held := Create(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "held", Finalizers: []string{"example.com/hold"}}})
	return func() {
		_ = Admin.Patch(t.Context(), held, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)))
	}
}

func TestTenantNamespaceTerminating(t *testing.T) {
	t.Parallel()
	namespace := NewNamespace(t, nil)
	release := hold(t, namespace.Name)
	Remove(t, namespace)
	tenant := NewTenant(t, v1alpha1.TenantSpec{Namespace: &v1alpha1.TenantNamespace{Name: namespace.Name}})
	AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNamespaceTerminating, namespace.Name)
	AwaitCondition(t, tenant, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonNamespaceTerminating, "")
	release()
	AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
}

func TestTenantNamespaceDeletedByForce(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	was := tenant.Status.Namespace.UID
	release := hold(t, tenant.NamespaceName())
	Remove(t, NamespaceOf(tenant))
	AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNamespaceTerminating, "")
	release()
	Eventually(t, func(g gomega.Gomega) {
		namespace := Get(t, g, NamespaceOf(tenant))
		g.Expect(namespace.UID).NotTo(gomega.Equal(was))
		g.Expect(Get(t, g, tenant).Status.Namespace.UID).To(gomega.Equal(namespace.UID))
	})
	AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
}

// Somebody replaces the namespace between the operator's look at it and its write. It stops the operator of all tests.
func TestTenantNamespaceSwapped(t *testing.T) {
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	WithoutOperator(t)
	namespace := NamespaceOf(tenant)
	var once sync.Once
	swapping := &OtherOperator{Through: func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/namespaces/"+namespace.Name) {
			once.Do(func() {
				Remove(t, namespace)
				AwaitGone(t, namespace)
				Create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace.Name, Labels: map[string]string{"theirs": "label"}}})
			})
		}
		return next.RoundTrip(r)
	}}
	Patch(t, tenant, Suspend)
	swapping.Start(t)
	AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNamespaceConflict, "")
	labels := Get(t, gomega.NewWithT(t), namespace).Labels
	if diff := cmp.Diff(map[string]string{"theirs": "label", corev1.LabelMetadataName: namespace.Name}, labels); diff != "" {
		t.Errorf("the stranger's namespace was changed (-want +got):\n%s", diff)
	}
}
