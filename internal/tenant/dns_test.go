package tenant

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestDNSEgressOfTheDocs: the examples of the page about operations can be used as they are.
func TestDNSEgressOfTheDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	for line := range strings.Lines(string(page)) {
		if text, is := strings.CutPrefix(line, "--dns-egress="); is {
			examples++
			if _, err := ParseDNSEgress(text); err != nil {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
	if examples == 0 {
		t.Error("there is no example")
	}
}

func TestParseDNSEgress(t *testing.T) {
	const local = `{to: [{ipBlock: {cidr: 169.254.20.10/32}}], ports: [{protocol: UDP, port: 53}, {port: 53}]}`
	byAddress := networkingv1.NetworkPolicyEgressRule{
		To: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "169.254.20.10/32"}}},
		Ports: []networkingv1.NetworkPolicyPort{
			{Protocol: new(corev1.ProtocolUDP), Port: new(intstr.FromInt32(53))},
			{Protocol: new(corev1.ProtocolTCP), Port: new(intstr.FromInt32(53))},
		},
	}
	openshift := networkingv1.NetworkPolicyEgressRule{
		To: []networkingv1.NetworkPolicyPeer{{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: "openshift-dns"}},
		}},
		Ports: []networkingv1.NetworkPolicyPort{{Protocol: new(corev1.ProtocolUDP), Port: new(intstr.FromString("dns"))}},
	}
	cases := map[string]struct {
		text string
		want []networkingv1.NetworkPolicyEgressRule
		// wrong is in the error.
		wrong string
	}{
		"unset":          {"", DefaultDNSEgress(), ""},
		"blank":          {" \n", DefaultDNSEgress(), ""},
		"an address":     {"[" + local + "]", []networkingv1.NetworkPolicyEgressRule{byAddress}, ""},
		"JSON":           {`[{"to":[{"ipBlock":{"cidr":"169.254.20.10/32"}}],"ports":[{"protocol":"UDP","port":53},{"protocol":"TCP","port":53}]}]`, []networkingv1.NetworkPolicyEgressRule{byAddress}, ""},
		"a list in YAML": {"- " + local + "\n- " + local, []networkingv1.NetworkPolicyEgressRule{byAddress, byAddress}, ""},
		"a namespace, a named port": {
			`[{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: openshift-dns}}}], ports: [{protocol: UDP, port: dns}]}]`,
			[]networkingv1.NetworkPolicyEgressRule{openshift}, "",
		},

		"no YAML":              {"[", nil, "reading YAML"},
		"no list":              {local, nil, "reading a list of egress rules"},
		"an unknown field":     {`[{to: [{ipBlock: {cidr: 10.0.0.1/32}}], port: 53}]`, nil, `unknown field "port"`},
		"no rule":              {"[]", nil, "there must be a rule"},
		"too many rules":       {"[" + strings.Repeat(local+",", 17) + "]", nil, "at most 16"},
		"an empty rule":        {"[{}]", nil, "allows every address"},
		"no peer":              {`[{ports: [{port: 53}]}]`, nil, "[0].to: Required"},
		"no port":              {`[{to: [{ipBlock: {cidr: 10.0.0.1/32}}]}]`, nil, "[0].ports: Required"},
		"a port of no number":  {`[{to: [{ipBlock: {cidr: 10.0.0.1/32}}], ports: [{protocol: UDP}]}]`, nil, "every port"},
		"a wrong port":         {`[{to: [{ipBlock: {cidr: 10.0.0.1/32}}], ports: [{port: 70000}]}]`, nil, "between 1 and 65535"},
		"a wrong port name":    {`[{to: [{ipBlock: {cidr: 10.0.0.1/32}}], ports: [{port: d_n_s}]}]`, nil, "[0].ports[0].port"},
		"a wrong protocol":     {`[{to: [{ipBlock: {cidr: 10.0.0.1/32}}], ports: [{protocol: udp, port: 53}]}]`, nil, "[0].ports[0].protocol"},
		"a wrong end":          {`[{to: [{ipBlock: {cidr: 10.0.0.1/32}}], ports: [{port: 53, endPort: 50}]}]`, nil, "[0].ports[0].endPort"},
		"an end after a name":  {`[{to: [{ipBlock: {cidr: 10.0.0.1/32}}], ports: [{port: dns, endPort: 60}]}]`, nil, "[0].ports[0].endPort"},
		"an address alone":     {`[{to: [{ipBlock: {cidr: 10.0.0.1}}], ports: [{port: 53}]}]`, nil, "[0].to[0].ipBlock.cidr"},
		"not a network":        {`[{to: [{ipBlock: {cidr: 10.0.0.1/8}}], ports: [{port: 53}]}]`, nil, "[0].to[0].ipBlock.cidr"},
		"everywhere":           {`[{to: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: 53}]}]`, nil, "every address"},
		"everywhere in IPv6":   {`[{to: [{ipBlock: {cidr: "::/0"}}], ports: [{port: 53}]}]`, nil, "every address"},
		"a foreign exception":  {`[{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/9]}}], ports: [{port: 53}]}]`, nil, "must be a part of 10.0.0.0/8"},
		"an empty peer":        {`[{to: [{}], ports: [{port: 53}]}]`, nil, "[0].to[0]: Required"},
		"the tenant's pods":    {`[{to: [{podSelector: {matchLabels: {a: b}}}], ports: [{port: 53}]}]`, nil, "the tenant's own pods"},
		"every pod":            {`[{to: [{namespaceSelector: {}}], ports: [{port: 53}]}]`, nil, "every pod"},
		"an address of a pod":  {`[{to: [{ipBlock: {cidr: 10.0.0.1/32}, podSelector: {}}], ports: [{port: 53}]}]`, nil, "beside a selector"},
		"a wrong selector":     {`[{to: [{namespaceSelector: {matchExpressions: [{key: a, operator: Like}]}}], ports: [{port: 53}]}]`, nil, "[0].to[0].namespaceSelector"},
		"a wrong pod selector": {`[{to: [{namespaceSelector: {matchLabels: {a: b}}, podSelector: {matchLabels: {a: "b c"}}}], ports: [{port: 53}]}]`, nil, "[0].to[0].podSelector"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := ParseDNSEgress(tc.text)
			if (err != nil) != (tc.wrong != "") || err != nil && !strings.Contains(err.Error(), tc.wrong) {
				t.Fatalf("got error %v, want one with %q", err, tc.wrong)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
