package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"regexp"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

var _ = Describe("The operator's pod", func() {
	It("has no privileges on its node", func(ctx SpecContext) {
		pod := operatorPod(ctx)
		Expect(pod.Spec.ServiceAccountName).To(Equal(operatorAccount))
		Expect(pod.Spec.SecurityContext.RunAsNonRoot).To(HaveValue(BeTrue()))
		Expect(pod.Spec.SecurityContext.SeccompProfile.Type).To(Equal(corev1.SeccompProfileTypeRuntimeDefault))
		for _, container := range pod.Spec.Containers {
			Expect(container.SecurityContext.ReadOnlyRootFilesystem).To(HaveValue(BeTrue()))
			Expect(container.SecurityContext.AllowPrivilegeEscalation).To(HaveValue(BeFalse()))
			Expect(container.SecurityContext.Capabilities.Drop).To(ConsistOf(corev1.Capability("ALL")))
		}
		for _, status := range pod.Status.ContainerStatuses {
			if status.User != nil && status.User.Linux != nil { // not every runtime reports it
				Expect(status.User.Linux.UID).NotTo(BeZero())
			}
		}
		var namespace corev1.Namespace
		Expect(kube.Get(ctx, client.ObjectKey{Name: operatorNamespace}, &namespace)).To(Succeed())
		Expect(namespace.Labels).To(HaveKeyWithValue("pod-security.kubernetes.io/enforce", "restricted"))
	})

	It("holds the lease", func(ctx SpecContext) {
		pod := operatorPod(ctx)
		Eventually(ctx, func(g Gomega, ctx context.Context) string { return leader(ctx, g) }).Should(HavePrefix(pod.Name + "_"))
	})

	It("shows its metrics to whoever may see them, and to nobody else", func(ctx SpecContext) {
		reader, stranger := givenAccount(ctx), givenAccount(ctx)
		binding := &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: reader.Name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "tenantry-metrics-reader"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: reader.Namespace, Name: reader.Name}},
		}
		Expect(kube.Create(ctx, binding)).To(Succeed())
		DeferCleanup(func(ctx SpecContext) { Expect(kube.Delete(ctx, binding)).To(Succeed()) })
		pod := operatorPod(ctx)
		server := "127.0.0.1:" + forward(ctx, &pod, 8443) + "/metrics"
		url := "https://" + server

		status, _ := get(ctx, url, "")
		Expect(status).To(BeElementOf(http.StatusUnauthorized, http.StatusForbidden))
		status, _ = get(ctx, url, tokenOf(ctx, stranger))
		Expect(status).To(Equal(http.StatusForbidden))

		token, metrics := tokenOf(ctx, reader), ""
		Eventually(ctx, func(ctx context.Context) int {
			status, metrics = get(ctx, url, token)
			return status
		}).Should(Equal(http.StatusOK))
		for _, controller := range []string{"tenant", "tenantjob", "tenantjobtemplate"} {
			Expect(metrics).To(ContainSubstring(`controller_runtime_reconcile_total{controller="` + controller + `"`))
		}
		status, _ = get(ctx, "http://"+server, token)
		Expect(status).To(Equal(http.StatusBadRequest), "nobody should be able to send a token in the clear")
	})
})

var _ = Describe("The operator's service account", func() {
	It("may act for tenants, and may do nothing with which it could take over the cluster", func(ctx SpecContext) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		tenants := acme.NamespaceName()
		for _, right := range []authorizationv1.ResourceAttributes{
			{Namespace: tenants, Verb: "create", Group: "batch", Resource: "jobs"},
			{Namespace: tenants, Verb: "delete", Resource: "pods"},
			{Namespace: tenants, Verb: "create", Group: "networking.k8s.io", Resource: "networkpolicies"},
			{Verb: "bind", Group: rbacv1.GroupName, Resource: "clusterroles", Name: "tenantry-tenant-viewer"},
		} {
			Expect(mayOperator(ctx, right)).To(BeTrue(), "%+v", right)
		}
		for _, right := range []authorizationv1.ResourceAttributes{
			{Verb: "*", Group: "*", Resource: "*"},
			{Namespace: metav1.NamespaceSystem, Verb: "get", Resource: "secrets"},
			{Namespace: metav1.NamespaceSystem, Verb: "list", Resource: "secrets"},
			{Namespace: tenants, Verb: "get", Resource: "secrets"},
			{Namespace: metav1.NamespaceSystem, Verb: "create", Resource: "pods"},
			{Namespace: metav1.NamespaceSystem, Verb: "delete", Resource: "pods"},
			{Namespace: metav1.NamespaceSystem, Verb: "create", Group: "batch", Resource: "jobs"},
			{Namespace: metav1.NamespaceDefault, Verb: "create", Group: "batch", Resource: "jobs"},
			{Namespace: metav1.NamespaceDefault, Verb: "create", Group: "apps", Resource: "deployments"},
			{Namespace: tenants, Verb: "create", Resource: "pods"},
			{Namespace: tenants, Verb: "create", Resource: "pods", Subresource: "exec"},
			{Namespace: tenants, Verb: "create", Resource: "serviceaccounts", Subresource: "token"},
			{Namespace: metav1.NamespaceSystem, Verb: "create", Resource: "serviceaccounts", Subresource: "token"},
			{Verb: "impersonate", Resource: "users"},
			{Verb: "get", Resource: "nodes", Subresource: "proxy"},
			{Verb: "bind", Group: rbacv1.GroupName, Resource: "clusterroles", Name: "cluster-admin"},
			{Verb: "bind", Group: rbacv1.GroupName, Resource: "clusterroles", Name: "edit"},
			{Verb: "escalate", Group: rbacv1.GroupName, Resource: "clusterroles"},
			{Verb: "create", Group: rbacv1.GroupName, Resource: "clusterrolebindings"},
			{Verb: "update", Group: "admissionregistration.k8s.io", Resource: "validatingadmissionpolicies"},
			{Verb: "create", Group: v1alpha1.GroupVersion.Group, Resource: "tenants"},
			{Verb: "delete", Group: v1alpha1.GroupVersion.Group, Resource: "tenants"},
		} {
			Expect(mayOperator(ctx, right)).To(BeFalse(), "%+v", right)
		}
	})
})

// mayOperator says whether the operator's service account has a right.
func mayOperator(ctx context.Context, right authorizationv1.ResourceAttributes) bool {
	GinkgoHelper()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:               fmt.Sprintf("system:serviceaccount:%s:%s", operatorNamespace, operatorAccount),
		Groups:             []string{"system:authenticated", "system:serviceaccounts", "system:serviceaccounts:" + operatorNamespace},
		ResourceAttributes: &right,
	}}
	Expect(kube.Create(ctx, review)).To(Succeed())
	return review.Status.Allowed
}

// givenAccount creates a service account without rights, which is deleted when the spec ends.
func givenAccount(ctx context.Context) *corev1.ServiceAccount {
	GinkgoHelper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "e2e-" + rand.String(5)}}
	Expect(kube.Create(ctx, account)).To(Succeed())
	DeferCleanup(func(ctx SpecContext) { Expect(kube.Delete(ctx, account)).To(Succeed()) })
	return account
}

func tokenOf(ctx context.Context, account *corev1.ServiceAccount) string {
	GinkgoHelper()
	request, err := clientset.CoreV1().ServiceAccounts(account.Namespace).
		CreateToken(ctx, account.Name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	Expect(err).NotTo(HaveOccurred())
	return request.Status.Token
}

// forward forwards a port of this machine to a pod's port until the spec ends, and returns it.
func forward(ctx context.Context, pod *corev1.Pod, port int) string {
	GinkgoHelper()
	session, err := gexec.Start(kubectlCommand(ctx, "port-forward", "--namespace", pod.Namespace, "pod/"+pod.Name, fmt.Sprintf(":%d", port)),
		GinkgoWriter, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { session.Kill().Wait() })
	said := regexp.MustCompile(`Forwarding from 127\.0\.0\.1:(\d+)`)
	Eventually(ctx, session.Out.Contents).Should(WithTransform(said.Match, BeTrue()))
	return string(said.FindSubmatch(session.Out.Contents())[1])
}

// get sends a request to a server with a self-signed certificate.
func get(ctx context.Context, url, token string) (status int, body string) {
	GinkgoHelper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	Expect(err).NotTo(HaveOccurred())
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport}).Do(request)
	Expect(err).NotTo(HaveOccurred())
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	Expect(err).NotTo(HaveOccurred())
	return response.StatusCode, string(text)
}
