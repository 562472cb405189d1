package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

const (
	// dns is the address of the cluster's DNS, by name, so that a connection to it also proves a DNS query.
	dns = "kube-dns.kube-system.svc:53"
	// udp before an address means a question by UDP in place of a connection by TCP.
	udp = "udp/"
	// metadata is the address at which clouds give credentials to every client.
	metadata = "169.254.169.254:80"
)

var _ = Describe("A tenant's pod", func() {
	It("reaches the DNS and nothing else, until its Tenant says so", func(ctx SpecContext) {
		probe, listen := givenTemplate(ctx, "probe"), givenTemplate(ctx, "listen")
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		globex := givenTenant(ctx, "globex", v1alpha1.TenantSpec{})
		neighbour := listening(ctx, dispatch(ctx, globex, listen, "listen", none))
		outside, listener := givenListener(ctx)
		noDNS := listeningOnPort53(ctx, outside)
		addresses := strings.Join([]string{dns, udp + dns, metadata, neighbour, listener, noDNS, udp + noDNS}, ",")

		By("trying from outside of all tenants, where nothing is held back on the way out")
		report := probeFrom(ctx, outside, addresses)
		Expect(report.connected()).To(ContainElements(dns, udp+dns, listener, noDNS, udp+noDNS), "the network has to work for the rest to mean anything")
		Expect(report.connected()).NotTo(ContainElement(neighbour), "nobody reaches a tenant's pod")

		By("trying from a tenant's pod")
		report = probeAs(ctx, acme, probe, "probe", addresses)
		Expect(report.Tenant).To(Equal(acme.Name))
		Expect(report.TokenMounted).To(BeFalse())
		Expect(report.connected()).To(ConsistOf(dns, udp+dns), "port 53 is open to the DNS alone")
		Expect(report.APIServer.Status).To(BeZero(), "the API server should not be reached")
		Expect(report.APIServer.Error).NotTo(BeEmpty())

		By("trying again when the Tenant allows the listener and the API server")
		change(ctx, acme, func(t *v1alpha1.Tenant) {
			t.Spec.Isolation = &v1alpha1.TenantIsolation{Egress: []networkingv1.NetworkPolicyEgressRule{
				toListener(outside), {Ports: apiServerPorts(ctx)},
			}}
		})
		expectReady(ctx, acme)
		// The network takes a moment to enforce the policies, so the first attempt may be too early.
		attempt := 0
		Eventually(ctx, func(ctx context.Context) []string {
			attempt++
			report = probeAs(ctx, acme, probe, fmt.Sprintf("probe-%d", attempt), addresses)
			return report.connected()
		}).Should(ConsistOf(dns, udp+dns, listener))
		Expect(report.APIServer.Status).To(BeElementOf(401, 403), "the API server should answer, and refuse")
	})

	It("has no rights in the API", func(ctx SpecContext) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		runner := fmt.Sprintf("system:serviceaccount:%s:%s", acme.NamespaceName(), v1alpha1.RunnerServiceAccount)
		as := clientAs(runner, "system:serviceaccounts", "system:serviceaccounts:"+acme.NamespaceName())

		review := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: acme.NamespaceName()}}
		Expect(as.Create(ctx, review)).To(Succeed())
		Expect(review.Status.Incomplete).To(BeFalse())
		for _, rule := range review.Status.ResourceRules {
			// All authenticated users may ask for their own rights, and for the trust bundles of the cluster.
			Expect(rule.APIGroups).To(HaveEach(BeElementOf("authorization.k8s.io", "authentication.k8s.io", "certificates.k8s.io")), "%v", rule)
			Expect(rule.Resources).To(HaveEach(Or(HavePrefix("selfsubject"), Equal("clustertrustbundles"))), "%v", rule)
		}
		Expect(as.List(ctx, &corev1.SecretList{}, client.InNamespace(acme.NamespaceName()))).To(MatchError(isForbidden, "IsForbidden"))
		Expect(as.List(ctx, &v1alpha1.TenantJobList{}, client.InNamespace(acme.NamespaceName()))).To(MatchError(isForbidden, "IsForbidden"))
	})
})

// probed is the report of the subcommand probe.
type probed struct {
	Tenant       string
	TokenMounted bool
	APIServer    struct {
		Status int
		Error  string
	}
	Connections []struct {
		Address   string
		Connected bool
	}
}

// connected lists the addresses that were reached.
func (p probed) connected() []string {
	var addresses []string
	for _, c := range p.Connections {
		if c.Connected {
			addresses = append(addresses, c.Address)
		}
	}
	return addresses
}

func decodeProbed(log string) probed {
	GinkgoHelper()
	var report probed
	Expect(json.Unmarshal([]byte(log), &report)).To(Succeed(), log)
	return report
}

// probeAs tries addresses from a pod of a tenant.
func probeAs(ctx context.Context, tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate, name, addresses string) probed {
	GinkgoHelper()
	tj := dispatch(ctx, tenant, template, name, parameters{"probeConnect": v1alpha1.ParameterValue(addresses)})
	expectReason(ctx, tj, v1alpha1.ReasonCompleted)
	pod := podOf(ctx, tj)
	return decodeProbed(logOf(ctx, &pod))
}

// probeFrom tries addresses from a pod in a namespace that does not belong to a tenant.
func probeFrom(ctx context.Context, namespace, addresses string) probed {
	GinkgoHelper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "probe"}, Spec: samplePod("probe")}
	pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "PROBE_CONNECT", Value: addresses}}
	Expect(kube.Create(ctx, pod)).To(Succeed())
	expectPhase(ctx, pod, corev1.PodSucceeded)
	return decodeProbed(logOf(ctx, pod))
}

// listening waits until a TenantJob listens, and returns where.
func listening(ctx context.Context, tj *v1alpha1.TenantJob) string {
	GinkgoHelper()
	pod := runs(ctx, tj)
	expectListening(ctx, &pod)
	return pod.Status.PodIP + ":8080"
}

// givenListener creates a pod that listens in a namespace that does not belong to a tenant.
func givenListener(ctx context.Context) (namespace, address string) {
	GinkgoHelper()
	namespace = "e2e-outside-" + rand.String(5)
	made := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	Expect(kube.Create(ctx, made)).To(Succeed())
	DeferCleanup(func(ctx SpecContext) { Expect(kube.Delete(ctx, made)).To(Succeed()) })

	return namespace, createListener(ctx, namespace, "listener", samplePod("listen")) + ":8080"
}

// listeningOnPort53 creates a pod that listens where a DNS does and is none. It runs as root, as a DNS does.
func listeningOnPort53(ctx context.Context, namespace string) (address string) {
	GinkgoHelper()
	spec := samplePod("listen")
	spec.SecurityContext.RunAsNonRoot, spec.SecurityContext.RunAsUser = nil, new(int64(0))
	container := &spec.Containers[0]
	container.SecurityContext.Capabilities.Add = []corev1.Capability{"NET_BIND_SERVICE"}
	container.Env = []corev1.EnvVar{{Name: "LISTEN_ADDRESS", Value: ":53"}}
	return createListener(ctx, namespace, "no-dns", spec) + ":53"
}

// createListener creates a pod and waits until it listens.
func createListener(ctx context.Context, namespace, name string, spec corev1.PodSpec) (ip string) {
	GinkgoHelper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": name}},
		Spec:       spec,
	}
	// The namespace's default service account may not exist yet, and is not needed.
	Eventually(ctx, func(ctx context.Context) error { return kube.Create(ctx, pod) }).Should(Succeed())
	expectPhase(ctx, pod, corev1.PodRunning)
	expectListening(ctx, pod)
	return pod.Status.PodIP
}

func toListener(namespace string) networkingv1.NetworkPolicyEgressRule {
	return networkingv1.NetworkPolicyEgressRule{To: []networkingv1.NetworkPolicyPeer{{
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}},
		PodSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"app": "listener"}},
	}}}
}

// apiServerPorts are the ports of the API server's service and of its endpoints. Networks differ in which of them a policy
// applies to.
func apiServerPorts(ctx context.Context) []networkingv1.NetworkPolicyPort {
	GinkgoHelper()
	ports := []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt32(443))}}
	var slices discoveryv1.EndpointSliceList
	Expect(kube.List(ctx, &slices, client.InNamespace(metav1.NamespaceDefault), client.MatchingLabels{discoveryv1.LabelServiceName: "kubernetes"})).To(Succeed())
	for _, slice := range slices.Items {
		for _, port := range slice.Ports {
			ports = append(ports, networkingv1.NetworkPolicyPort{Port: new(intstr.FromInt32(*port.Port))})
		}
	}
	return ports
}

func expectPhase(ctx context.Context, pod *corev1.Pod, phase corev1.PodPhase) {
	GinkgoHelper()
	Eventually(ctx, func(ctx context.Context) (corev1.PodPhase, error) {
		err := kube.Get(ctx, client.ObjectKeyFromObject(pod), pod)
		return pod.Status.Phase, err
	}).Should(Equal(phase))
}

func expectListening(ctx context.Context, pod *corev1.Pod) {
	GinkgoHelper()
	Eventually(ctx, func(ctx context.Context) string { return logOf(ctx, pod) }).Should(ContainSubstring("listening"))
}
