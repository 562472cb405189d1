package netpol

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// pod returns a running pod, whose UID is namespace-name.
func pod(namespace, name, address string, ports ...corev1.ContainerPort) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: types.UID(namespace + "-" + name), Labels: map[string]string{"app": name},
		},
		Spec:   corev1.PodSpec{Containers: []corev1.Container{{Ports: ports}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address},
	}
}

func namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}}}
}

// policy returns a policy of namespace shop.
func policy(t *testing.T, spec string) *netv1.NetworkPolicy {
	t.Helper()
	parsed := &netv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "policy"}}
	if err := yaml.UnmarshalStrict([]byte(spec), &parsed.Spec); err != nil {
		t.Fatal(err)
	}
	return parsed
}

// chain returns the lines of a chain, or nil if there is none.
func chain(rules, name string) []string {
	_, rest, found := strings.Cut(rules, "chain "+name+" {")
	if !found {
		return nil
	}
	body, _, _ := strings.Cut(rest, "\n  }\n")
	var lines []string
	for _, line := range strings.Split(body, "\n")[1:] { // the first one is a comment
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

func TestRules(t *testing.T) {
	http := corev1.ContainerPort{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}
	for name, test := range map[string]struct {
		spec        string
		wantIngress []string // of pod web in namespace shop, without the first line and the last
		wantEgress  []string
		unselected  bool
	}{
		"selects another pod": {
			spec:       `{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress]}`,
			unselected: true,
		},
		"denies everything": {
			spec:        `{podSelector: {}, policyTypes: [Ingress, Egress]}`,
			wantIngress: []string{},
			wantEgress:  []string{},
		},
		"allows everything": {
			spec:        `{podSelector: {}, policyTypes: [Ingress], ingress: [{}]}`,
			wantIngress: []string{"return"},
		},
		"a pod selector means pods of the policy's namespace": {
			spec:        `{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}`,
			wantIngress: []string{"ip saddr { 10.0.0.2, 10.0.0.1 } return"},
		},
		"a namespace selector means all of its pods": {
			spec: `{podSelector: {}, policyTypes: [Ingress],
				ingress: [{from: [{namespaceSelector: {matchLabels: {name: bank}}}]}]}`,
			wantIngress: []string{"ip saddr { 10.0.0.3 } return"},
		},
		"both selectors mean pods that both select": {
			spec: `{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [
				{namespaceSelector: {matchLabels: {name: bank}}, podSelector: {matchLabels: {app: web}}}]}]}`,
			wantIngress: []string{},
		},
		"the DNS alone": {
			spec: `{podSelector: {}, policyTypes: [Egress], egress: [{
				to: [{namespaceSelector: {matchLabels: {name: bank}}, podSelector: {matchLabels: {app: teller}}}],
				ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]}]}`,
			wantEgress: []string{"ip daddr { 10.0.0.3 } udp dport 53 return", "ip daddr { 10.0.0.3 } tcp dport 53 return"},
		},
		"peers times ports": {
			spec: `{podSelector: {}, policyTypes: [Egress], egress: [{
				to: [{podSelector: {matchLabels: {app: client}}}, {ipBlock: {cidr: 192.0.2.0/24}}],
				ports: [{port: 80}, {port: 53, protocol: UDP}, {port: 8000, endPort: 8010}, {protocol: SCTP}]}]}`,
			wantEgress: []string{
				"ip daddr { 10.0.0.2 } tcp dport 80 return",
				"ip daddr { 10.0.0.2 } udp dport 53 return",
				"ip daddr { 10.0.0.2 } tcp dport 8000-8010 return",
				"ip daddr { 10.0.0.2 } meta l4proto sctp return",
				"ip daddr 192.0.2.0/24 tcp dport 80 return",
				"ip daddr 192.0.2.0/24 udp dport 53 return",
				"ip daddr 192.0.2.0/24 tcp dport 8000-8010 return",
				"ip daddr 192.0.2.0/24 meta l4proto sctp return",
			},
		},
		"a block with exceptions, of which some overlap": {
			spec: `{podSelector: {}, policyTypes: [Egress], egress: [{to: [
				{ipBlock: {cidr: 10.1.2.3/8, except: [10.1.0.0/16, 10.1.2.0/24]}}]}]}`,
			wantEgress: []string{"ip daddr 10.0.0.0/8 ip daddr != 10.1.0.0/16 ip daddr != 10.1.2.0/24 return"},
		},
		"a block of IPv6 allows nothing": {
			spec:       `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: "::/0"}}]}]}`,
			wantEgress: []string{},
		},
		"a named port of the pod itself": {
			spec:        `{podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: http}, {port: metrics}]}]}`,
			wantIngress: []string{"tcp dport 8080 return"},
		},
		"a named port of each receiver": {
			spec: `{podSelector: {}, policyTypes: [Egress], egress: [{
				to: [{namespaceSelector: {}}], ports: [{port: http}]}]}`,
			wantEgress: []string{"ip daddr 10.0.0.3 tcp dport 9090 return", "ip daddr 10.0.0.1 tcp dport 8080 return"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			rules := Snapshot{
				Pods: []*corev1.Pod{
					pod("shop", "web", "10.0.0.1", http),
					pod("shop", "client", "10.0.0.2"),
					pod("bank", "teller", "10.0.0.3", corev1.ContainerPort{Name: "http", ContainerPort: 9090}),
				},
				Namespaces: []*corev1.Namespace{namespace("shop"), namespace("bank")},
				Policies:   []*netv1.NetworkPolicy{policy(t, test.spec)},
			}.Rules()

			for name, want := range map[string][]string{
				"ingress_shopweb": frame("ip saddr 10.0.0.1 return", test.wantIngress),
				"egress_shopweb":  frame("ip daddr 10.0.0.1 return", test.wantEgress),
			} {
				if test.unselected {
					want = nil
				}
				if got := chain(rules, name); !slices.Equal(got, want) {
					t.Errorf("chain %s:\ngot  %q\nwant %q\nof\n%s", name, got, want, rules)
				}
			}
			checkSyntax(t, rules)
		})
	}
}

// frame adds the lines that every chain has.
func frame(first string, lines []string) []string {
	if lines == nil {
		return nil
	}
	return slices.Concat([]string{first}, lines, []string{"drop"})
}

// checkSyntax has nft check the rules, on machines where that is possible.
func checkSyntax(t *testing.T, rules string) {
	t.Helper()
	nft := exec.Command("nft", "--check", "--file", "-")
	nft.Stdin = strings.NewReader(rules)
	out, err := nft.CombinedOutput()
	if err != nil && len(out) > 0 && !strings.Contains(string(out), "Operation not permitted") {
		t.Errorf("nft: %v: %s\n%s", err, out, rules)
	}
}

func TestRulesOfAddresses(t *testing.T) {
	finished := pod("shop", "finished", "10.0.0.1")
	finished.Status.Phase = corev1.PodSucceeded
	onHost := pod("shop", "on-host", "10.0.0.9")
	onHost.Spec.HostNetwork = true
	old, young := pod("shop", "old", "10.0.0.1"), pod("shop", "young", "")
	young.CreationTimestamp = metav1.Unix(1, 0)

	rules := Snapshot{
		Pods:     []*corev1.Pod{young, finished, onHost, old},
		Policies: []*netv1.NetworkPolicy{policy(t, `{podSelector: {}, policyTypes: [Ingress]}`)},
		Early:    map[types.UID]netip.Addr{young.UID: netip.MustParseAddr("10.0.0.1")},
	}.Rules()

	want := "ip daddr vmap { 10.0.0.1 : jump ingress_shopyoung }"
	if got := chain(rules, "forward"); !slices.Contains(got, want) {
		t.Errorf("an address that was given away again:\ngot  %q\nwant %q", got, want)
	}
	for _, name := range []string{"finished", "on-host", "old"} {
		if strings.Contains(rules, "shop/"+name) {
			t.Errorf("pod %s has a chain:\n%s", name, rules)
		}
	}
}
