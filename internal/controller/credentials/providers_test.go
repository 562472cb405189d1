package credentials_test

import (
	"testing"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// awaitProvider waits until a CredentialProvider's condition Ready says this.
func awaitProvider(t *testing.T, p *v1alpha1.CredentialProvider, status metav1.ConditionStatus, reason, message string) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		ready := conditions.Get(Get(t, g, p).Status.Conditions, v1alpha1.ConditionReady)
		g.Expect([]any{ready.Status, ready.Reason, ready.Message}).To(gomega.HaveExactElements(status, reason, gomega.ContainSubstring(message)))
		g.Expect(p.Status.ObservedGeneration).To(gomega.Equal(p.Generation))
	})
}

// TestProviderIsDeleted: a CredentialProvider stays until the runs are over that have a credential of it, says of which, and nothing is
// issued meanwhile.
func TestProviderIsDeleted(t *testing.T) {
	t.Parallel()
	source := NewSource(t)
	awaitProvider(t, source.Provider, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	tenant := NewReadyTenant(t, source.WithCredential())
	template := NewReadyTemplate(t, NeedsDatabase)
	tj := NewRun(t, tenant, template, func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
	if err := Admin.Delete(t.Context(), source.Provider); err != nil {
		t.Fatal(err)
	}
	awaitProvider(t, source.Provider, metav1.ConditionFalse, v1alpha1.ReasonRevokingCredentials, tj.Name)
	late := NewRun(t, tenant, template, func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, late, metav1.ConditionUnknown, v1alpha1.ReasonIssuingCredentials, "it is being deleted")

	Finish(t, tj, corev1.PodSucceeded)
	awaitNothingLeft(t, source, tenant, tj)
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(client.IgnoreNotFound(Read(t.Context(), source.Provider))).To(gomega.Succeed())
		g.Expect(source.Provider.UID).To(gomega.BeEmpty())
	})
	AwaitStatus(t, late, metav1.ConditionUnknown, v1alpha1.ReasonIssuingCredentials, "does not exist")
}

// TestProviderThatWasNeverReady: what can't have issued anything goes at once, and a TenantJob says that it is gone.
func TestProviderThatWasNeverReady(t *testing.T) {
	t.Parallel()
	provider := Create(t, &v1alpha1.CredentialProvider{
		ObjectMeta: metav1.ObjectMeta{Name: "never-" + NewSource(t).Provider.Name},
		Spec: v1alpha1.CredentialProviderSpec{Postgres: &v1alpha1.PostgresProvider{
			AdminSecretRef: v1alpha1.LocalReference{Name: "absent"}, Host: "db.example.com", Database: "absent",
		}},
	})
	awaitProvider(t, provider, metav1.ConditionFalse, v1alpha1.ReasonSecretNotFound, "there is no Secret absent in namespace "+OperatorNamespace)
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{Credentials: []v1alpha1.TenantCredential{{Name: "database", ProviderRef: v1alpha1.LocalReference{Name: provider.Name}}}})
	tj := NewRun(t, tenant, NewReadyTemplate(t, NeedsDatabase), func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonIssuingCredentials, "there is no Secret absent")
	if err := Admin.Delete(t.Context(), provider); err != nil {
		t.Fatal(err)
	}
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(client.IgnoreNotFound(Read(t.Context(), provider))).To(gomega.Succeed())
		g.Expect(provider.UID).To(gomega.BeEmpty())
	})
	AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonIssuingCredentials, "does not exist")
}

// TestSecretProvider: a run gets a copy of the Secret that its tenant's credential names, if that is the tenant's.
func TestSecretProvider(t *testing.T) {
	t.Parallel()
	own := newOwnSecret(t, v1alpha1.TenantSpec{})
	tj := NewRun(t, own.tenant, own.template, func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
	if got := boundSecret(t, tj); string(got.Data["key"]) != "first" || string(got.Data["type"]) != "secret" {
		t.Errorf("the run has %v", got.Data)
	}
	if len(tj.Finalizers) > 0 {
		t.Errorf("the run has finalizers %v, and nothing has to be revoked", tj.Finalizers)
	}

	Patch(t, own.original, func(o *corev1.Secret) { o.Labels = nil })
	waiting := NewRun(t, own.tenant, own.template, func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, waiting, metav1.ConditionUnknown, v1alpha1.ReasonIssuingCredentials, "must have the label tenantry.dev/tenant: "+own.tenant.Name)
}

// boundSecret returns the Secret that the run of a TenantJob has.
func boundSecret(t *testing.T, tj *v1alpha1.TenantJob) *corev1.Secret {
	t.Helper()
	job := JobOf(tj)
	if err := Read(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: tj.Namespace, Name: job.Spec.Template.Spec.Volumes[0].Secret.SecretName}}
	if err := Read(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestTokenProvider: the kubelet requests the token for the pod, and the API server accepts the volume.
func TestTokenProvider(t *testing.T) {
	t.Parallel()
	provider := Create(t, &v1alpha1.CredentialProvider{
		ObjectMeta: metav1.ObjectMeta{Name: "tokens-of-" + NewSource(t).Provider.Name},
		Spec:       v1alpha1.CredentialProviderSpec{ServiceAccountToken: &v1alpha1.ServiceAccountTokenProvider{Audience: "sts.example.com", ExpirationSeconds: new(int32(600))}},
	})
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{Credentials: []v1alpha1.TenantCredential{{Name: "database", ProviderRef: v1alpha1.LocalReference{Name: provider.Name}}}})
	wanting := NewRun(t, tenant, NewReadyTemplate(t, NeedsDatabase), func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, wanting, metav1.ConditionUnknown, v1alpha1.ReasonIssuingCredentials, "can't be an environment variable")

	tj := NewRun(t, tenant, NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		o.Spec.Credentials = []v1alpha1.TemplateCredential{{Name: "database"}}
	}), func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
	pod := AwaitRunningPod(t, tj)
	var token *corev1.ServiceAccountTokenProjection
	for _, v := range pod.Spec.Volumes {
		if v.Projected != nil {
			token = v.Projected.Sources[0].ServiceAccountToken
		}
	}
	if token == nil || token.Audience != "sts.example.com" || *token.ExpirationSeconds != 600 || token.Path != "token" {
		t.Errorf("the pod's token: %v", token)
	}
	if pod.Annotations["tenantry.dev/credential-0.provider"] != provider.Name || pod.Annotations["tenantry.dev/credential-0.type"] != "service-account-token" {
		t.Errorf("the pod's annotations: %v", pod.Annotations)
	}
}
