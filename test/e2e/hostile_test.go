package e2e

import (
	"context"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/test/hostile"
)

var _ = Describe("A hostile member", func() {
	It("neither changes, reads nor delays anything of another tenant by random requests", func(ctx SpecContext) {
		random, seed := hostile.NewRand()
		AddReportEntry("to repeat it", fmt.Sprintf("TENANTRY_SEED=%d", seed))
		const slots = 3 // of the hostile tenant
		own, victim := givenCustomer(ctx, "hostile"), givenCustomer(ctx, "victim")
		mallory := hostile.Member{Name: "mallory@hostile.example", Rand: random, Own: own, Victim: victim}
		mallory.Client = clientAs(mallory.Name)
		change(ctx, own, func(t *v1alpha1.Tenant) {
			t.Spec.Jobs = &v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(slots))}
			t.Spec.Members = []v1alpha1.TenantMember{
				{Role: v1alpha1.RoleDispatcher, Subject: v1alpha1.MemberSubject{Kind: v1alpha1.SubjectUser, Name: mallory.Name}},
			}
		})
		// What the member's runs do has no WHERE, and its own rows only are changed by it.
		open := givenSQL(ctx, "UPDATE users SET name = 'hostile'", "DELETE FROM payments")
		change(ctx, open, func(t *v1alpha1.TenantJobTemplate) { dispatchedByMembersOf(own)(&t.Spec) })
		closed := givenSQL(ctx, "SELECT count(*) FROM users")
		quiet := dispatch(ctx, victim, closed, "quiet", none)
		expectReason(ctx, quiet, v1alpha1.ReasonCompleted)
		expectRevoked(ctx, quiet)
		mallory.Templates, mallory.Names = []string{open.Name, closed.Name, "none"}, []string{quiet.Name}
		Eventually(ctx, func(ctx context.Context) error { // The role binding, and the list of templates, take a moment.
			return mallory.Create(ctx, newTenantJob(own, open, "first", none))
		}).Should(Succeed())
		objects, err := hostile.Everything(ctx, kube, victim)
		Expect(err).NotTo(HaveOccurred())
		rows, ownRows := digests(ctx, victim), digests(ctx, own)

		for n := range 4 {
			run := dispatch(ctx, victim, closed, fmt.Sprintf("run-%d", n), none)
			for sent := 0; ; sent++ {
				what, permitted, err := mallory.Request(ctx)
				Expect(err != nil || permitted).To(BeTrue(), "it was granted to %s", what)
				if sent%20 != 0 || sent < 150 {
					continue
				}
				if now, err := succeeded(ctx, run); err == nil && now.Reason == v1alpha1.ReasonCompleted {
					break
				}
			}
			Expect(answers(ctx, run)[0].Value).To(Equal("40"), "the rows that the other tenant reads")
			Expect(overtaken(ctx, run, own)).To(BeNumerically("<=", slots), "TenantJobs of the hostile tenant that came later and started before")
		}

		after, err := hostile.Everything(ctx, kube, victim)
		Expect(err).NotTo(HaveOccurred())
		for key, object := range objects {
			Expect(after).To(HaveKeyWithValue(key, object))
		}
		Expect(digests(ctx, victim)).To(Equal(rows))
		Expect(digests(ctx, own)).NotTo(Equal(ownRows), "the member's runs have changed what they can")
	})
})

// overtaken counts the TenantJobs of another tenant that were created after a TenantJob has been, and started before it did.
func overtaken(ctx context.Context, run *v1alpha1.TenantJob, by *v1alpha1.Tenant) (n int) {
	GinkgoHelper()
	var all v1alpha1.TenantJobList
	Expect(kube.List(ctx, &all, client.InNamespace(by.NamespaceName()))).To(Succeed())
	for _, tj := range all.Items {
		if started := tj.Status.StartTime; started != nil && tj.CreationTimestamp.After(run.CreationTimestamp.Time) && started.Before(run.Status.StartTime) {
			n++
		}
	}
	return n
}
