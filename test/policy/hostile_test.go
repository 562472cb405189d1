package policy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/test/hostile"
)

// hostileRequests is how many requests the hostile member sends.
const hostileRequests = 1500

// A hostile member sends random requests to both tenants' namespaces. They never change or read anything of the other tenant, and the
// other tenant's runs start while they go on. TENANTRY_SEED repeats a sequence. In test/e2e there are pods and a database, too.
func TestHostileMember(t *testing.T) {
	random, seed := hostile.NewRand()
	t.Logf("TENANTRY_SEED=%d", seed)
	mallory := user{"mallory", nil}
	own := NewReadyTenant(t, v1alpha1.TenantSpec{
		Members: []v1alpha1.TenantMember{{Role: v1alpha1.RoleDispatcher, Subject: v1alpha1.MemberSubject{Kind: v1alpha1.SubjectUser, Name: mallory.name}}},
		Jobs:    &v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(3))},
	})
	Patch(t, own, func(o *v1alpha1.Tenant) { o.Labels = map[string]string{"hostile": "true"} })
	victim := NewReadyTenant(t, v1alpha1.TenantSpec{})
	open := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		o.Spec.MemberDispatch = &v1alpha1.MemberDispatch{TenantSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"hostile": "true"}}}
	})
	closed := NewReadyTemplate(t, nil)
	quiet := NewTenantJob(t, victim, closed)
	AwaitRunningPod(t, quiet)
	fanOut := NewFanOut(t, closed.Name, []*v1alpha1.Tenant{own, victim}, nil)
	AwaitRunningPod(t, ChildIn(victim, fanOut))
	AwaitRunningPod(t, ChildIn(own, fanOut))
	m := hostile.Member{
		Client: mallory.client(t), Name: mallory.name, Rand: random, Own: own, Victim: victim,
		Templates: []string{open.Name, closed.Name, "none"}, Names: []string{fanOut.Name, quiet.Name},
	}
	Eventually(t, func(g gomega.Gomega) { // The role binding, and the list of templates, take a moment.
		g.Expect(m.Create(t.Context(), tj(own, own, open, nil), client.DryRunAll)).To(gomega.Succeed())
	})
	before := everythingOf(t, victim)

	for i := range hostileRequests {
		if what, permitted, err := m.Request(t.Context()); err == nil && !permitted {
			t.Errorf("request %d was granted: %s", i, what)
		}
		if i%(hostileRequests/3) == hostileRequests/6 {
			AwaitRunningPod(t, NewTenantJob(t, victim, closed)) // It starts in spite of everything.
		}
	}
	after := everythingOf(t, victim)
	for key := range after {
		if _, was := before[key]; !was {
			delete(after, key) // Its own runs of the meantime.
		}
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("what the other tenant has was changed (-before +after):\n%s", diff)
	}
	var child v1alpha1.TenantJob
	if err := Admin.Get(t.Context(), types.NamespacedName{Namespace: own.NamespaceName(), Name: fanOut.Name}, &child); err != nil {
		t.Errorf("its own child of the fan-out: %v", err)
	}
}

func everythingOf(t *testing.T, tenant *v1alpha1.Tenant) map[string]metav1.ObjectMeta {
	t.Helper()
	everything, err := hostile.Everything(t.Context(), Admin, tenant)
	if err != nil {
		t.Fatal(err)
	}
	return everything
}
