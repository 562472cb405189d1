package tenants_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/internal/kube"
	tenantpkg "github.com/tenantry/tenantry/internal/tenant"
)

var childLists = []client.ObjectList{
	&corev1.ServiceAccountList{}, &corev1.ResourceQuotaList{}, &corev1.LimitRangeList{}, &networkingv1.NetworkPolicyList{}, &rbacv1.RoleBindingList{},
}

// managedIn returns what each managed object in a namespace says, by kind and name, and the namespace's own labels and
// annotations.
func managedIn(t *testing.T, g gomega.Gomega, namespace string) map[string]any {
	t.Helper()
	itself := Get(t, g, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	all := map[string]any{"labels": itself.Labels, "annotations": itself.Annotations}
	for _, empty := range childLists {
		list := empty.DeepCopyObject().(client.ObjectList)
		g.Expect(Admin.List(t.Context(), list, client.InNamespace(namespace), client.MatchingLabels{v1alpha1.LabelManaged: "true"})).To(gomega.Succeed())
		switch list := list.(type) {
		case *corev1.ServiceAccountList:
			for _, o := range list.Items {
				all[kube.KindOf(&o)+" "+o.Name] = []any{o.Labels, o.AutomountServiceAccountToken}
			}
		case *corev1.ResourceQuotaList:
			for _, o := range list.Items {
				all[kube.KindOf(&o)+" "+o.Name] = []any{o.Labels, o.Spec}
			}
		case *corev1.LimitRangeList:
			for _, o := range list.Items {
				all[kube.KindOf(&o)+" "+o.Name] = []any{o.Labels, o.Spec}
			}
		case *networkingv1.NetworkPolicyList:
			for _, o := range list.Items {
				all[kube.KindOf(&o)+" "+o.Name] = []any{o.Labels, o.Spec}
			}
		case *rbacv1.RoleBindingList:
			for _, o := range list.Items {
				all[kube.KindOf(&o)+" "+o.Name] = []any{o.Labels, o.RoleRef, o.Subjects}
			}
		}
	}
	return all
}

// childrenIn returns the kinds and names of what is managed in a namespace, sorted.
func childrenIn(t *testing.T, g gomega.Gomega, namespace string) []string {
	t.Helper()
	all := managedIn(t, g, namespace)
	delete(all, "labels")
	delete(all, "annotations")
	return slices.Sorted(maps.Keys(all))
}

func viewer(name string) v1alpha1.TenantMember {
	return v1alpha1.TenantMember{Role: v1alpha1.RoleViewer, Subject: v1alpha1.MemberSubject{Kind: v1alpha1.SubjectUser, Name: name}}
}

func TestTenantMakesItsNamespace(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{
		Namespace: &v1alpha1.TenantNamespace{Labels: map[string]v1alpha1.LabelValue{"team": "a"}},
		Members:   []v1alpha1.TenantMember{viewer("ann")},
	})
	g := gomega.NewWithT(t)
	namespace := Get(t, g, NamespaceOf(tenant))
	g.Expect(tenant.Status.Namespace).To(gomega.Equal(&v1alpha1.TenantNamespaceStatus{Name: namespace.Name, UID: namespace.UID}))
	g.Expect(tenant.Status.State).To(gomega.Equal("active"))
	g.Expect(namespace.OwnerReferences).To(gomega.BeEmpty())
	for key, value := range map[string]string{
		"tenantry.dev/tenant": tenant.Name, "tenantry.dev/managed": "true", "tenantry.dev/state": "active", "tenantry.dev/enforcement": "enforce",
		"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest", "team": "a",
	} {
		g.Expect(namespace.Labels).To(gomega.HaveKeyWithValue(key, value))
	}
	g.Expect(namespace.Annotations).To(gomega.HaveKeyWithValue("tenantry.dev/tenant-uid", string(tenant.UID)))
	g.Expect(childrenIn(t, g, tenant.NamespaceName())).To(gomega.Equal([]string{
		"LimitRange tenant-limits", "NetworkPolicy tenant-deny-all", "NetworkPolicy tenant-egress", "ResourceQuota tenant-quota",
		"RoleBinding tenant-viewers", "RoleBinding tenantry-operator", "ServiceAccount tenant-runner",
	}))
	AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionFalse, v1alpha1.ReasonActive, "")
	for _, c := range tenant.Status.Conditions {
		g.Expect(c.Type).NotTo(gomega.BeElementOf(v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled))
	}
}

func TestTenantPutsBackWhatDrifts(t *testing.T) {
	Verifying(t)
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{
		Namespace: &v1alpha1.TenantNamespace{Labels: map[string]v1alpha1.LabelValue{"team": "a"}},
		Members:   []v1alpha1.TenantMember{viewer("ann")},
	})
	want := managedIn(t, gomega.NewWithT(t), tenant.NamespaceName())
	quota := &corev1.ResourceQuota{ObjectMeta: Within(tenant, "tenant-quota")}
	limits := &corev1.LimitRange{ObjectMeta: Within(tenant, "tenant-limits")}
	denyAll := &networkingv1.NetworkPolicy{ObjectMeta: Within(tenant, "tenant-deny-all")}
	egress := &networkingv1.NetworkPolicy{ObjectMeta: Within(tenant, "tenant-egress")}
	runner := &corev1.ServiceAccount{ObjectMeta: Within(tenant, "tenant-runner")}
	viewers := &rbacv1.RoleBinding{ObjectMeta: Within(tenant, "tenant-viewers")}
	ours := &rbacv1.RoleBinding{ObjectMeta: Within(tenant, "tenantry-operator")}
	everything := []networkingv1.NetworkPolicyIngressRule{{}}
	anywhere := []networkingv1.NetworkPolicyEgressRule{{}}

	cases := map[string]func(t *testing.T){
		"service account deleted": func(t *testing.T) { Remove(t, runner) },
		"token mounted": func(t *testing.T) {
			Patch(t, runner, func(o *corev1.ServiceAccount) { o.AutomountServiceAccountToken = nil })
		},
		"quota deleted": func(t *testing.T) { Remove(t, quota) },
		"quota raised": func(t *testing.T) {
			Patch(t, quota, func(o *corev1.ResourceQuota) { o.Spec.Hard["services.nodeports"] = resource.MustParse("9") })
		},
		"quota of something added": func(t *testing.T) {
			Patch(t, quota, func(o *corev1.ResourceQuota) { o.Spec.Hard["pods"] = resource.MustParse("0") })
		},
		"quota replaced by a scoped": func(t *testing.T) {
			Remove(t, quota)
			Create(t, &corev1.ResourceQuota{
				ObjectMeta: Within(tenant, quota.Name),
				Spec:       corev1.ResourceQuotaSpec{Scopes: []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeBestEffort}, Hard: corev1.ResourceList{"pods": resource.MustParse("0")}},
			})
		},
		"limits deleted": func(t *testing.T) { Remove(t, limits) },
		"limits changed": func(t *testing.T) {
			Patch(t, limits, func(o *corev1.LimitRange) { o.Spec.Limits[0].DefaultRequest["cpu"] = resource.MustParse("9") })
		},
		"everything let in": func(t *testing.T) {
			Patch(t, denyAll, func(o *networkingv1.NetworkPolicy) { o.Spec.Ingress = everything })
		},
		"everything let out": func(t *testing.T) {
			Patch(t, denyAll, func(o *networkingv1.NetworkPolicy) { o.Spec.Egress = anywhere })
		},
		"nothing selected": func(t *testing.T) {
			Patch(t, denyAll, func(o *networkingv1.NetworkPolicy) { o.Spec.PodSelector.MatchLabels = map[string]string{"a": "b"} })
		},
		"policy deleted": func(t *testing.T) { Remove(t, denyAll) },
		"egress widened": func(t *testing.T) {
			Patch(t, egress, func(o *networkingv1.NetworkPolicy) { o.Spec.Egress = append(o.Spec.Egress, anywhere...) })
		},
		"members' binding deleted": func(t *testing.T) { Remove(t, viewers) },
		"member added by hand": func(t *testing.T) {
			Patch(t, viewers, func(o *rbacv1.RoleBinding) {
				o.Subjects = append(o.Subjects, rbacv1.Subject{Kind: "User", APIGroup: rbacv1.GroupName, Name: "eve"})
			})
		},
		"members' role changed": func(t *testing.T) {
			Remove(t, viewers)
			Create(t, &rbacv1.RoleBinding{ObjectMeta: Within(tenant, "tenant-viewers"), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"}})
		},
		"operator's binding deleted": func(t *testing.T) { Remove(t, ours) },
		"label of ours taken off": func(t *testing.T) {
			Patch(t, viewers, func(o *rbacv1.RoleBinding) { delete(o.Labels, v1alpha1.LabelManaged) })
		},
		"something passed off as ours": func(t *testing.T) {
			labels := map[string]string{v1alpha1.LabelManaged: "true", v1alpha1.LabelTenant: tenant.Name}
			Create(t, &rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Namespace: tenant.NamespaceName(), Name: "extra", Labels: labels},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"},
			})
		},
		"state changed": func(t *testing.T) {
			Patch(t, NamespaceOf(tenant), func(o *corev1.Namespace) { o.Labels[v1alpha1.LabelState] = "suspended" })
		},
		"pod security lowered": func(t *testing.T) {
			Patch(t, NamespaceOf(tenant), func(o *corev1.Namespace) { o.Labels["pod-security.kubernetes.io/enforce"] = "privileged" })
		},
		"another tenant's label": func(t *testing.T) {
			Patch(t, NamespaceOf(tenant), func(o *corev1.Namespace) { o.Labels[v1alpha1.LabelTenant] = "globex" })
		},
		"user's label taken off": func(t *testing.T) {
			Patch(t, NamespaceOf(tenant), func(o *corev1.Namespace) { delete(o.Labels, "team") })
		},
		// Without both it would be any namespace, in which the operator may write nothing.
		"every label taken off": func(t *testing.T) {
			Patch(t, NamespaceOf(tenant), func(o *corev1.Namespace) { o.Labels = map[string]string{corev1.LabelMetadataName: o.Name} })
		},
		"every annotation taken off": func(t *testing.T) {
			Patch(t, NamespaceOf(tenant), func(o *corev1.Namespace) { o.Annotations = nil })
		},
		"another owner": func(t *testing.T) {
			Patch(t, NamespaceOf(tenant), func(o *corev1.Namespace) { o.Annotations[v1alpha1.AnnotationTenantUID] = "x" })
		},
	}
	for name, tamper := range cases {
		t.Run(name, func(t *testing.T) {
			tamper(t)
			Eventually(t, func(g gomega.Gomega) {
				g.Expect(cmp.Diff(want, managedIn(t, g, tenant.NamespaceName()))).To(gomega.BeEmpty())
			})
		})
	}
}

func TestTenantRestartWritesNothing(t *testing.T) {
	Verifying(t)
	tenants := []*v1alpha1.Tenant{
		NewReadyTenant(t, v1alpha1.TenantSpec{Members: []v1alpha1.TenantMember{viewer("ann")}}),
		NewReadyTenant(t, v1alpha1.TenantSpec{Enforcement: v1alpha1.EnforcementAudit}),
		NewReadyTenant(t, v1alpha1.TenantSpec{Suspend: new(true), Isolation: &v1alpha1.TenantIsolation{
			Egress: []networkingv1.NetworkPolicyEgressRule{{Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt32(443))}}}},
		}}),
	}
	AwaitCondition(t, tenants[2], v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "")
	var before []*v1alpha1.Tenant
	for _, tenant := range tenants {
		Eventually(t, func(g gomega.Gomega) {
			Get(t, g, tenant)
			g.Expect(conditions.Get(tenant.Status.Conditions, v1alpha1.ConditionEnforced).Reason).To(gomega.BeElementOf(v1alpha1.ReasonPoliciesInForce, "Audit"))
			if !tenant.Suspended() {
				g.Expect(conditions.Get(tenant.Status.Conditions, v1alpha1.ConditionWorkloadsConform).Status).To(gomega.Equal(metav1.ConditionTrue))
			}
		})
		before = append(before, tenant.DeepCopy())
	}
	Operator.Stop()
	if err := Operator.Start(); err != nil {
		t.Fatal(err)
	}
	// By then each has been reconciled, and verified.
	for _, tenant := range tenants {
		Eventually(t, func(g gomega.Gomega) {
			g.Expect(Operator.Requests()).To(gomega.ContainElement("GET /api/v1/namespaces/" + tenant.NamespaceName() + "/limitranges"))
		})
	}
	Eventually(t, func(g gomega.Gomega) {
		last := tenants[len(tenants)-1]
		g.Expect(Operator.Requests()).To(gomega.ContainElement("GET /api/v1/namespaces/" + last.NamespaceName() + "/pods"))
	})
	writes := slices.DeleteFunc(Operator.Requests(), func(request string) bool { return strings.HasPrefix(request, "GET ") })
	if len(writes) > 0 {
		t.Errorf("wrote %v", writes)
		for i := range tenants {
			t.Log(cmp.Diff(before[i].Status, Get(t, gomega.NewWithT(t), tenants[i]).Status))
		}
	}
}

func TestTenantMembers(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	viewers := &rbacv1.RoleBinding{ObjectMeta: Within(tenant, "tenant-viewers")}
	steps := []struct {
		members []v1alpha1.TenantMember
		want    []string
	}{
		{[]v1alpha1.TenantMember{viewer("ann")}, []string{"ann"}},
		{[]v1alpha1.TenantMember{viewer("ann"), viewer("bob")}, []string{"ann", "bob"}},
		{[]v1alpha1.TenantMember{viewer("bob")}, []string{"bob"}},
	}
	for _, step := range steps {
		Patch(t, tenant, func(o *v1alpha1.Tenant) { o.Spec.Members = step.members })
		Eventually(t, func(g gomega.Gomega) {
			var got []string
			for _, subject := range Get(t, g, viewers).Subjects {
				got = append(got, subject.Name)
			}
			g.Expect(got).To(gomega.Equal(step.want))
		})
	}
	Patch(t, tenant, func(o *v1alpha1.Tenant) { o.Spec.Members = nil })
	AwaitGone(t, viewers)
}

func TestTenantMemberTemplates(t *testing.T) {
	t.Parallel()
	tenant := NewTenant(t, v1alpha1.TenantSpec{})
	Patch(t, tenant, func(o *v1alpha1.Tenant) { o.Labels = map[string]string{"chosen": tenant.Name} })
	template := NewTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		o.Spec.MemberDispatch = &v1alpha1.MemberDispatch{TenantSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"chosen": tenant.Name}}}
	})
	listed := func(want any) {
		t.Helper()
		Eventually(t, func(g gomega.Gomega) {
			g.Expect(Get(t, g, NamespaceOf(tenant)).Annotations).To(gomega.WithTransform(
				func(all map[string]string) string { return all[v1alpha1.AnnotationMemberTemplates] }, gomega.Equal(want)))
		})
	}
	listed(template.Name)
	Patch(t, tenant, func(o *v1alpha1.Tenant) { o.Labels = nil })
	listed("")
	Patch(t, tenant, func(o *v1alpha1.Tenant) { o.Labels = map[string]string{"chosen": tenant.Name} })
	listed(template.Name)
	Remove(t, template)
	listed("")
}

func TestTenantPhases(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{Enforcement: v1alpha1.EnforcementAudit})
	emitted := []string{"ResourceQuota tenant-quota", "RoleBinding tenantry-operator", "ServiceAccount tenant-runner"}
	enforced := []string{
		"LimitRange tenant-limits", "NetworkPolicy tenant-deny-all", "NetworkPolicy tenant-egress", "ResourceQuota tenant-quota",
		"RoleBinding tenantry-operator", "ServiceAccount tenant-runner",
	}
	for _, step := range []struct {
		phase    v1alpha1.Enforcement
		children []string
		security []string
	}{
		{v1alpha1.EnforcementAudit, emitted, []string{"audit", "audit-version", "warn", "warn-version"}},
		{v1alpha1.EnforcementWarn, emitted, []string{"audit", "audit-version", "warn", "warn-version"}},
		{v1alpha1.EnforcementEnforce, enforced, []string{"enforce", "enforce-version"}},
		{v1alpha1.EnforcementAudit, emitted, []string{"audit", "audit-version", "warn", "warn-version"}},
	} {
		Patch(t, tenant, func(o *v1alpha1.Tenant) { o.Spec.Enforcement = step.phase })
		Eventually(t, func(g gomega.Gomega) {
			g.Expect(childrenIn(t, g, tenant.NamespaceName())).To(gomega.Equal(step.children))
			var security []string
			labels := Get(t, g, NamespaceOf(tenant)).Labels
			for key := range labels {
				if mode, ok := strings.CutPrefix(key, "pod-security.kubernetes.io/"); ok {
					security = append(security, mode)
				}
			}
			g.Expect(security).To(gomega.ConsistOf(step.security))
			g.Expect(labels).To(gomega.HaveKeyWithValue("tenantry.dev/enforcement", strings.ToLower(string(step.phase))))
		})
	}
}

func TestTenantUserLabels(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{Namespace: &v1alpha1.TenantNamespace{Labels: map[string]v1alpha1.LabelValue{"team": "a"}}})
	Patch(t, tenant, func(o *v1alpha1.Tenant) { o.Spec.Namespace.Labels = nil })
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(Get(t, g, NamespaceOf(tenant)).Labels).NotTo(gomega.HaveKey("team"))
	})
}

func TestTenantInvalidSpec(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		change func(*v1alpha1.TenantSpec)
		want   string
	}{
		"egress": {
			func(s *v1alpha1.TenantSpec) {
				s.Isolation = &v1alpha1.TenantIsolation{Egress: []networkingv1.NetworkPolicyEgressRule{{Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt32(70000))}}}}}
			},
			"change `spec.isolation.egress`",
		},
		"quota": {
			func(s *v1alpha1.TenantSpec) {
				s.Quota = &v1alpha1.TenantQuota{Hard: corev1.ResourceList{"requests.bananas": resource.MustParse("1")}}
			},
			"change `spec.quota.hard`",
		},
		"container defaults": {
			func(s *v1alpha1.TenantSpec) {
				s.Quota = &v1alpha1.TenantQuota{ContainerDefaults: &v1alpha1.ContainerDefaults{
					Requests: corev1.ResourceList{"cpu": resource.MustParse("2")}, Limits: corev1.ResourceList{"cpu": resource.MustParse("1")},
				}}
			},
			"change `spec.quota.containerDefaults`",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
			Patch(t, tenant, func(o *v1alpha1.Tenant) {
				tc.change(&o.Spec)
				o.Spec.Members = []v1alpha1.TenantMember{viewer("ann")}
			})
			AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonInvalidSpec, tc.want)
			AwaitCondition(t, tenant, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonInvalidSpec, tc.want)
			// What is right is done all the same, and a broken tenant can still be suspended.
			g := gomega.NewWithT(t)
			Get(t, g, &rbacv1.RoleBinding{ObjectMeta: Within(tenant, "tenant-viewers")})
			g.Expect(Get(t, g, NamespaceOf(tenant)).Annotations).NotTo(gomega.HaveKey(v1alpha1.AnnotationDesiredHash), "it is not all there")
			Patch(t, tenant, func(o *v1alpha1.Tenant) { o.Spec.Suspend = new(true) })
			AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "")
			Patch(t, tenant, func(o *v1alpha1.Tenant) { o.Spec = v1alpha1.TenantSpec{} })
			AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
		})
	}
}

// TestTenantExternalIDIsUnique: of two Tenants with one external id the younger is not ready, until the other is gone.
func TestTenantExternalIDIsUnique(t *testing.T) {
	t.Parallel()
	older := NewReadyTenant(t, v1alpha1.TenantSpec{ExternalID: "shared-" + fmt.Sprint(Serial.Add(1))})
	younger := NewTenant(t, v1alpha1.TenantSpec{ExternalID: older.Spec.ExternalID})
	AwaitCondition(t, younger, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonInvalidSpec, "Tenant "+older.Name+" has")
	waits := NewTenantJob(t, younger, NewReadyTemplate(t, nil))
	AwaitOutcome(t, waits, v1alpha1.ReasonTenantNotReady)
	gomega.NewWithT(t).Expect(Get(t, gomega.NewWithT(t), older).Status.Conditions).To(gomega.ContainElement(gomega.And(
		gomega.HaveField("Type", v1alpha1.ConditionReady), gomega.HaveField("Status", metav1.ConditionTrue))))

	byDefault := NewTenant(t, v1alpha1.TenantSpec{ExternalID: older.Name}) // which is nobody's id: the older one has named another
	AwaitCondition(t, byDefault, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")

	Remove(t, older)
	AwaitGone(t, older)
	AwaitCondition(t, younger, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	AwaitRunningPod(t, waits)
}

// TestTenantDatabaseIsUnique: of two Tenants that name one database as their own, the one keeps it that has it, whatever providers they
// name and in whatever order things are written.
func TestTenantDatabaseIsUnique(t *testing.T) {
	t.Parallel()
	const names = "must be the tenant's own, and Tenant "
	server := fmt.Sprintf("db%d.example.com", Serial.Add(1))
	provider := func(name, host string) {
		Create(t, &v1alpha1.CredentialProvider{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.CredentialProviderSpec{
			Postgres: &v1alpha1.PostgresProvider{AdminSecretRef: v1alpha1.LocalReference{Name: "absent"}, Host: host, Database: "billing"},
		}})
	}
	own := func(provider, database, schema string) v1alpha1.TenantSpec {
		return v1alpha1.TenantSpec{Credentials: []v1alpha1.TenantCredential{{
			Name: "database", ProviderRef: v1alpha1.LocalReference{Name: provider}, Postgres: &v1alpha1.TenantPostgres{Database: database, Schema: schema},
		}}}
	}
	first, second := fmt.Sprintf("first-%d", Serial.Add(1)), fmt.Sprintf("second-%d", Serial.Add(1))
	oldest := NewReadyTenant(t, v1alpha1.TenantSpec{})
	older, younger := NewReadyTenant(t, own(first, "", "acme")), NewReadyTenant(t, own(first, "", "acme"))
	provider(first, server) // Before, nobody could have anything there.
	Eventually(t, func(g gomega.Gomega) {
		if len(Get(t, g, younger).Status.Databases) > 0 { // Both are as old, and so its name has decided.
			older, younger = younger, older
		}
		g.Expect(Get(t, g, older).Status.Databases).To(gomega.ConsistOf(v1alpha1.TenantDatabase{Server: server + ":5432", Database: "billing", Schema: "acme"}))
	})
	AwaitCondition(t, younger, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonInvalidSpec, names+older.Name)

	provider(second, strings.ToUpper(server))
	Patch(t, oldest, func(tenant *v1alpha1.Tenant) { tenant.Spec = own(second, "billing", "") })
	AwaitCondition(t, oldest, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonInvalidSpec, names+older.Name)
	Patch(t, younger, func(tenant *v1alpha1.Tenant) { tenant.Spec = own(second, "globex", "") })
	AwaitCondition(t, younger, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	AwaitCondition(t, older, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")

	for _, tenant := range []*v1alpha1.Tenant{older, younger} {
		Patch(t, tenant, func(tenant *v1alpha1.Tenant) { tenant.Spec = v1alpha1.TenantSpec{} })
	}
	AwaitCondition(t, oldest, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
}

// TestTenantDNSEgress: a tenant's pods reach the DNS where the operator is told that it is, and every namespace learns of a change. It
// stops the operator of all tests, and so is not parallel.
func TestTenantDNSEgress(t *testing.T) {
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	policy := &networkingv1.NetworkPolicy{ObjectMeta: Within(tenant, "tenant-egress")}
	g := gomega.NewWithT(t)
	g.Expect(cmp.Diff(tenantpkg.DefaultDNSEgress(), Get(t, g, policy).Spec.Egress)).To(gomega.BeEmpty())

	WithoutOperator(t)
	elsewhere, err := tenantpkg.ParseDNSEgress(`[{to: [{ipBlock: {cidr: 169.254.20.10/32}}], ports: [{protocol: UDP, port: 53}, {port: 53}]}]`)
	g.Expect(err).NotTo(gomega.HaveOccurred())
	(&OtherOperator{DNSEgress: elsewhere}).Start(t)
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(cmp.Diff(elsewhere, Get(t, g, policy).Spec.Egress)).To(gomega.BeEmpty())
	})
}

// TestTenantQuotaKnowsItsUse: Kubernetes does not count TenantJobs in the first half minute after their kind was installed. A quota
// whose use is unknown refuses them all, so the operator says how many there are.
func TestTenantQuotaKnowsItsUse(t *testing.T) {
	const count = "count/tenantjobs.tenantry.dev"
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	tj := NewTenantJob(t, tenant, NewReadyTemplate(t, nil))
	AwaitRunningPod(t, tj)
	quota := &corev1.ResourceQuota{ObjectMeta: Within(tenant, "tenant-quota")}
	Verifying(t)
	for _, used := range []corev1.ResourceList{nil, {corev1.ResourceServicesNodePorts: resource.MustParse("0")}} {
		Get(t, gomega.NewWithT(t), quota)
		quota.Status.Used = used
		if err := Admin.Status().Update(t.Context(), quota); err != nil {
			t.Fatal(err)
		}
		Eventually(t, func(g gomega.Gomega) {
			n, isKnown := Get(t, g, quota).Status.Used[count]
			g.Expect(isKnown).To(gomega.BeTrue())
			g.Expect(n.Value()).To(gomega.Equal(int64(1)))
		})
	}
}
