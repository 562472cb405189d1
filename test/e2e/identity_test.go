package e2e

import (
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

var _ = Describe("The jobs of two tenants", func() {
	It("run as pods that know their own tenant and no other", func(ctx SpecContext) {
		template := givenTemplate(ctx, "check-expired-sessions")
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{
			ExternalID: string(uuid.NewUUID()), TimeZone: "America/New_York",
			Attributes: map[string]v1alpha1.AttributeValue{"plan": "gold $(TENANT_ID)"},
		})
		globex := givenTenant(ctx, "globex", v1alpha1.TenantSpec{})

		jobs := map[*v1alpha1.Tenant]*v1alpha1.TenantJob{
			acme:   dispatch(ctx, acme, template, "nightly", none),
			globex: dispatch(ctx, globex, template, "nightly", none),
		}
		for tenant, tj := range jobs {
			expectReason(ctx, tj, v1alpha1.ReasonCompleted)
			Expect(tj.Status.TenantUID).To(Equal(tenant.UID))
			Expect(tj.Status.StartTime).NotTo(BeNil())
			Expect(tj.Status.CompletionTime).NotTo(BeNil())

			pod := podOf(ctx, tj)
			expectIdentity(&pod, tenant)
			log := logOf(ctx, &pod)
			for _, words := range []string{
				"tenantID=" + tenant.ExternalID(), "tenantUID=" + string(tenant.UID), "namespace=" + tenant.NamespaceName(),
				"jobName=" + tj.Name, "jobUID=" + string(tj.UID), "template=" + template.Name, "timeZone=" + tenant.TimeZone(),
			} {
				Expect(log).To(ContainSubstring(words))
			}
			for line := range strings.Lines(log) {
				Expect(line).To(ContainSubstring("tenant=" + tenant.Name + " "))
			}
			for other := range jobs {
				if other != tenant {
					Expect(log).NotTo(Or(ContainSubstring(other.Name), ContainSubstring(string(other.UID))))
				}
			}
		}
		pod := podOf(ctx, jobs[acme])
		Expect(logOf(ctx, &pod)).To(ContainSubstring(`attribute.PLAN="gold $(TENANT_ID)"`), "nothing in a value is expanded")
	})
})

// expectIdentity checks what every pod of a tenant has.
func expectIdentity(pod *corev1.Pod, tenant *v1alpha1.Tenant) {
	GinkgoHelper()
	Expect(pod.Labels).To(HaveKeyWithValue(v1alpha1.LabelTenant, tenant.Name))
	Expect(pod.Spec.ServiceAccountName).To(Equal(v1alpha1.RunnerServiceAccount))
	Expect(pod.Spec.AutomountServiceAccountToken).To(HaveValue(BeFalse()))
	Expect(pod.Spec.Volumes).To(BeEmpty(), "a token would come as a volume")
}
