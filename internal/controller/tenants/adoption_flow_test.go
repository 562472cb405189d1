package tenants_test

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// adoptable is the spec of a Tenant that wants a namespace, with a label of its own on it.
func adoptable(namespace *corev1.Namespace, labels map[string]v1alpha1.LabelValue) v1alpha1.TenantSpec {
	return v1alpha1.TenantSpec{Namespace: &v1alpha1.TenantNamespace{Name: namespace.Name, Labels: labels}}
}

// newAdopted makes a Tenant that has adopted a namespace.
func newAdopted(t *testing.T, namespace *corev1.Namespace, spec v1alpha1.TenantSpec) *v1alpha1.Tenant {
	t.Helper()
	tenant := NewTenant(t, spec)
	Consent(t, namespace, tenant.Name)
	return tenant
}

func metadataOf(namespace *corev1.Namespace) []any {
	annotations := maps.Clone(namespace.Annotations)
	delete(annotations, v1alpha1.AnnotationAdoptBy)
	return []any{namespace.Labels, annotations}
}

// TestTenantReleaseRestoresLabels: a released namespace has the labels that it had, whoever has adopted it in between, and in
// whatever phase.
func TestTenantReleaseRestoresLabels(t *testing.T) {
	t.Parallel()
	namespace := NewNamespace(t, func(o *corev1.Namespace) {
		maps.Copy(o.Labels, map[string]string{
			"team": "theirs", "kind": "same",
			"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.30", "pod-security.kubernetes.io/audit": "privileged",
		})
	})
	want := metadataOf(Get(t, gomega.NewWithT(t), namespace))
	enforcing := func(o *v1alpha1.Tenant) { o.Spec.Enforcement = v1alpha1.EnforcementEnforce }
	auditing := func(o *v1alpha1.Tenant) { o.Spec.Enforcement = v1alpha1.EnforcementAudit }
	for name, step := range map[string]struct {
		labels map[string]v1alpha1.LabelValue
		phases []func(*v1alpha1.Tenant)
	}{
		"enforced":                         {map[string]v1alpha1.LabelValue{"team": "ours", "kind": "same", "new": "ours"}, nil},
		"without labels of the Tenant's":   {nil, nil},
		"audited, then enforced":           {nil, []func(*v1alpha1.Tenant){auditing, enforcing}},
		"enforced, then audited":           {map[string]v1alpha1.LabelValue{"team": "ours"}, []func(*v1alpha1.Tenant){enforcing, auditing}},
		"the Tenant's labels taken off it": {map[string]v1alpha1.LabelValue{"team": "ours"}, []func(*v1alpha1.Tenant){func(o *v1alpha1.Tenant) { o.Spec.Namespace.Labels = nil }}},
	} {
		t.Run(name, func(t *testing.T) {
			tenant := newAdopted(t, namespace, adoptable(namespace, step.labels))
			AwaitCondition(t, tenant, v1alpha1.ConditionReady, IsTrue, v1alpha1.ReasonReady, "")
			for _, change := range step.phases {
				Patch(t, tenant, change)
				AwaitCondition(t, tenant, v1alpha1.ConditionReady, IsTrue, v1alpha1.ReasonReady, "")
			}
			Remove(t, tenant)
			AwaitGone(t, tenant)
			now := Get(t, gomega.NewWithT(t), namespace)
			if diff := cmp.Diff(want, metadataOf(now)); diff != "" || now.DeletionTimestamp != nil {
				t.Errorf("(-was +is):\n%s", diff)
			}
		})
	}
}

// theirObjects are somebody's in a namespace, under the names of the operator's.
func theirObjects(namespace string) map[string]client.Object {
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: namespace, Name: name} }
	quantity := corev1.ResourceList{corev1.ResourcePods: resource.MustParse("7")}
	return map[string]client.Object{
		"ServiceAccount tenant-runner": &corev1.ServiceAccount{ObjectMeta: named("tenant-runner")},
		"ResourceQuota tenant-quota":   &corev1.ResourceQuota{ObjectMeta: named("tenant-quota"), Spec: corev1.ResourceQuotaSpec{Hard: quantity}},
		"LimitRange tenant-limits": &corev1.LimitRange{ObjectMeta: named("tenant-limits"), Spec: corev1.LimitRangeSpec{
			Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypePod, Max: corev1.ResourceList{"cpu": resource.MustParse("7")}}},
		}},
		"NetworkPolicy tenant-egress": &networkingv1.NetworkPolicy{ObjectMeta: named("tenant-egress"), Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "theirs"}}, PolicyTypes: []networkingv1.PolicyType{"Egress"},
		}},
		"RoleBinding tenantry-operator": &rbacv1.RoleBinding{
			ObjectMeta: named("tenantry-operator"), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		},
	}
}

func specOf(obj client.Object) any {
	switch o := obj.(type) {
	case *corev1.ServiceAccount:
		return o.AutomountServiceAccountToken
	case *corev1.ResourceQuota:
		return o.Spec
	case *corev1.LimitRange:
		return o.Spec
	case *networkingv1.NetworkPolicy:
		return o.Spec
	case *rbacv1.RoleBinding:
		return []any{o.RoleRef, o.Subjects}
	}
	return nil
}

// TestTenantLeavesTheirObjectsAlone: an object that has a name of the operator's and is somebody else's is a conflict. It is
// neither changed nor deleted.
func TestTenantLeavesTheirObjectsAlone(t *testing.T) {
	t.Parallel()
	for key := range theirObjects("") {
		for name, labels := range map[string]map[string]string{
			"":                          nil,
			", the operator's label on": {v1alpha1.LabelManaged: "true", v1alpha1.LabelTenant: "forged"},
		} {
			t.Run(key+name, func(t *testing.T) {
				t.Parallel()
				namespace := NewNamespace(t, nil)
				theirs := theirObjects(namespace.Name)[key]
				theirs.SetLabels(labels)
				Create(t, theirs)
				tenant := newAdopted(t, namespace, adoptable(namespace, nil))
				for _, condition := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionStalled} {
					status := map[string]metav1.ConditionStatus{v1alpha1.ConditionReady: IsFalse, v1alpha1.ConditionStalled: IsTrue}[condition]
					AwaitCondition(t, tenant, condition, status, v1alpha1.ReasonNamespaceConflict, key)
				}
				waits := NewTenantJob(t, tenant, NewReadyTemplate(t, nil))
				AwaitOutcome(t, waits, v1alpha1.ReasonTenantNotReady)
				untouched := func() {
					t.Helper()
					now := Get(t, gomega.NewWithT(t), theirs.DeepCopyObject().(client.Object))
					was := []any{theirs.GetUID(), theirs.GetLabels(), specOf(theirs)}
					if diff := cmp.Diff(was, []any{now.GetUID(), now.GetLabels(), specOf(now)}); diff != "" {
						t.Errorf("it was changed (-was +is):\n%s", diff)
					}
				}
				untouched()
				Remove(t, tenant)
				AwaitGone(t, tenant)
				untouched()
				g := gomega.NewWithT(t)
				if labels == nil {
					g.Expect(childrenIn(t, g, namespace.Name)).To(gomega.BeEmpty())
				}

				again := newAdopted(t, namespace, adoptable(namespace, nil))
				AwaitCondition(t, again, v1alpha1.ConditionReady, IsFalse, v1alpha1.ReasonNamespaceConflict, key)
				Remove(t, theirs)
				AwaitCondition(t, again, v1alpha1.ConditionReady, IsTrue, v1alpha1.ReasonReady, "")
			})
		}
	}
}

// TestTenantTheirObjectsInAudit: what the operator does not need in a phase may have its name until it does.
func TestTenantTheirObjectsInAudit(t *testing.T) {
	t.Parallel()
	namespace := NewNamespace(t, nil)
	const before, later = "NetworkPolicy tenant-egress", "LimitRange tenant-limits"
	Create(t, theirObjects(namespace.Name)[before])
	spec := adoptable(namespace, nil)
	spec.Enforcement = v1alpha1.EnforcementAudit
	tenant := newAdopted(t, namespace, spec)
	AwaitCondition(t, tenant, v1alpha1.ConditionReady, IsTrue, v1alpha1.ReasonReady, "")
	Create(t, theirObjects(namespace.Name)[later])
	Patch(t, tenant, func(o *v1alpha1.Tenant) { o.Spec.Enforcement = v1alpha1.EnforcementEnforce })
	AwaitCondition(t, tenant, v1alpha1.ConditionReady, IsFalse, v1alpha1.ReasonNamespaceConflict, later+", "+before)
	Remove(t, tenant)
	AwaitGone(t, tenant)
	for _, key := range []string{before, later} {
		Get(t, gomega.NewWithT(t), theirObjects(namespace.Name)[key])
	}
}

// TestTenantPutsBackWhatDriftsInAnAdoptedNamespace: what is the operator's own stays so without its label.
func TestTenantPutsBackWhatDriftsInAnAdoptedNamespace(t *testing.T) {
	Verifying(t)
	namespace := NewNamespace(t, nil)
	tenant := newAdopted(t, namespace, adoptable(namespace, nil))
	AwaitCondition(t, tenant, v1alpha1.ConditionReady, IsTrue, v1alpha1.ReasonReady, "")
	want := managedIn(t, gomega.NewWithT(t), namespace.Name)
	denyAll := &networkingv1.NetworkPolicy{ObjectMeta: Within(tenant, "tenant-deny-all")}
	for name, tamper := range map[string]func(t *testing.T){
		"label taken off": func(t *testing.T) {
			Patch(t, denyAll, func(o *networkingv1.NetworkPolicy) {
				o.Labels, o.Spec.Egress = nil, []networkingv1.NetworkPolicyEgressRule{{}}
			})
		},
		"deleted": func(t *testing.T) { Remove(t, denyAll) },
		"pod security lowered": func(t *testing.T) {
			Patch(t, namespace, func(o *corev1.Namespace) { o.Labels["pod-security.kubernetes.io/enforce"] = "privileged" })
		},
		"what is remembered taken off": func(t *testing.T) {
			Patch(t, namespace, func(o *corev1.Namespace) { delete(o.Annotations, v1alpha1.AnnotationBeforeAdoption) })
		},
		"everything taken off": func(t *testing.T) {
			Patch(t, namespace, func(o *corev1.Namespace) {
				o.Annotations = map[string]string{"theirs": "annotation", v1alpha1.AnnotationAdoptBy: tenant.Name}
				o.Labels = map[string]string{corev1.LabelMetadataName: o.Name, "theirs": "label"}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			tamper(t)
			Eventually(t, func(g gomega.Gomega) {
				g.Expect(cmp.Diff(want, managedIn(t, g, namespace.Name))).To(gomega.BeEmpty())
			})
		})
	}
}

// TestTenantNeverDeletesAnAdoptedNamespace: not even when nothing on the namespace says any more that it was adopted.
func TestTenantNeverDeletesAnAdoptedNamespace(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*corev1.Namespace){
		"the consent taken off": func(o *corev1.Namespace) { delete(o.Annotations, v1alpha1.AnnotationAdoptBy) },
		"both annotations taken off": func(o *corev1.Namespace) {
			delete(o.Annotations, v1alpha1.AnnotationAdoptBy)
			delete(o.Annotations, v1alpha1.AnnotationAdopted)
		},
		"everything but the consent taken off": func(o *corev1.Namespace) {
			o.Annotations = map[string]string{v1alpha1.AnnotationAdoptBy: o.Annotations[v1alpha1.AnnotationAdoptBy]}
			o.Labels = map[string]string{corev1.LabelMetadataName: o.Name}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := NewNamespace(t, nil)
			tenant := newAdopted(t, namespace, adoptable(namespace, nil))
			AwaitCondition(t, tenant, v1alpha1.ConditionReady, IsTrue, v1alpha1.ReasonReady, "")
			if !tenant.Status.Namespace.Adopted {
				t.Error("the status does not say that the namespace was adopted")
			}
			Patch(t, namespace, change)
			Remove(t, tenant)
			AwaitGone(t, tenant)
			g := gomega.NewWithT(t)
			g.Expect(Get(t, g, namespace).DeletionTimestamp).To(gomega.BeNil())
			g.Expect(childrenIn(t, g, namespace.Name)).To(gomega.BeEmpty())
		})
	}
}
