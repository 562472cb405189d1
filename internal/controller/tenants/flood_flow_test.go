package tenants_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

func dispatcher(name string) v1alpha1.TenantMember {
	return v1alpha1.TenantMember{Role: v1alpha1.RoleDispatcher, Subject: v1alpha1.MemberSubject{Kind: v1alpha1.SubjectUser, Name: name}}
}

// clientOf is the client of a user who has no rights but those of the tenants that name them.
func clientOf(t *testing.T, user string) client.Client {
	t.Helper()
	cfg := rest.CopyConfig(RestConfig)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	c, err := client.New(cfg, client.Options{Scheme: Scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// flood creates ten TenantJobs a second for a tenant until the test ends. It returns how often the API server has refused.
func flood(t *testing.T, as client.Client, tenant *v1alpha1.Tenant) *atomic.Int64 {
	t.Helper()
	refused := &atomic.Int64{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		for pause := time.NewTicker(100 * time.Millisecond); ; {
			select {
			case <-pause.C:
			case <-ctx.Done():
				pause.Stop()
				return
			}
			tj := &v1alpha1.TenantJob{
				ObjectMeta: Within(tenant, ""),
				Spec:       v1alpha1.TenantJobSpec{TenantRef: v1alpha1.TenantReference{Name: tenant.Name}, TemplateRef: v1alpha1.LabelReference{Name: "no-such-template"}},
			}
			tj.GenerateName = "flood-"
			if err := as.Create(ctx, tj); apierrors.IsForbidden(err) {
				refused.Add(1)
			}
		}
	}()
	return refused
}

// TestTenantDeletionEndsInAFlood: who may create TenantJobs everywhere can't keep a Tenant from being deleted.
func TestTenantDeletionEndsInAFlood(t *testing.T) {
	t.Parallel()
	for _, policy := range []v1alpha1.NamespaceDeletionPolicy{v1alpha1.NamespaceDelete, v1alpha1.NamespaceRetain} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			tenant := NewReadyTenant(t, v1alpha1.TenantSpec{Namespace: &v1alpha1.TenantNamespace{DeletionPolicy: policy}})
			namespace := NamespaceOf(tenant)
			running := NewTenantJob(t, tenant, NewTemplate(t, nil))
			AwaitRunningPod(t, running)
			flood(t, Admin, tenant)
			Eventually(t, func(g gomega.Gomega) {
				var all v1alpha1.TenantJobList
				g.Expect(Admin.List(t.Context(), &all, client.InNamespace(namespace.Name))).To(gomega.Succeed())
				g.Expect(len(all.Items)).To(gomega.BeNumerically(">", 10))
			})
			Remove(t, tenant)
			AwaitGone(t, tenant)
			AwaitGone(t, running)
			if policy == v1alpha1.NamespaceDelete {
				AwaitGone(t, namespace)
				return
			}
			g := gomega.NewWithT(t)
			g.Expect(Get(t, g, namespace).DeletionTimestamp).To(gomega.BeNil())
			g.Expect(childrenIn(t, g, namespace.Name)).To(gomega.BeEmpty())
		})
	}
}

// TestTenantDeletionTakesMembersRightsFirst: the members of a Tenant that is being deleted create no TenantJobs any more, while the
// operator still waits for what runs.
func TestTenantDeletionTakesMembersRightsFirst(t *testing.T) {
	t.Parallel()
	tenant := NewTenant(t, v1alpha1.TenantSpec{})
	user := "member-of-" + tenant.Name
	Patch(t, tenant, func(o *v1alpha1.Tenant) { o.Spec.Members = []v1alpha1.TenantMember{dispatcher(user), viewer(user)} })
	AwaitCondition(t, tenant, v1alpha1.ConditionReady, IsTrue, v1alpha1.ReasonReady, "")
	running := NewTenantJob(t, tenant, NewTemplate(t, Lingering))
	pod := AwaitRunningPod(t, running)
	refused := flood(t, clientOf(t, user), tenant)

	Remove(t, tenant)
	for _, name := range []string{"tenant-dispatchers", "tenant-viewers"} {
		AwaitGone(t, &rbacv1.RoleBinding{ObjectMeta: Within(tenant, name)})
	}
	before := refused.Load()
	Eventually(t, func(g gomega.Gomega) { g.Expect(refused.Load()).To(gomega.BeNumerically(">", before+3)) })
	AwaitCondition(t, tenant, v1alpha1.ConditionReady, IsFalse, v1alpha1.ReasonStoppingJobs, running.Name)
	late := NewTenantJob(t, tenant, NewTemplate(t, nil)) // Somebody may still create it who has the right everywhere.
	AwaitOutcome(t, late, v1alpha1.ReasonTenantDeleted)
	Get(t, gomega.NewWithT(t), &rbacv1.RoleBinding{ObjectMeta: Within(tenant, "tenantry-operator")})
	LetGo(t, pod)
	AwaitGone(t, tenant)
}
