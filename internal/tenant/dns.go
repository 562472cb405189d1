package tenant

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// DefaultDNSEgress returns the egress rules to the DNS where most clusters have it: pods labelled k8s-app=kube-dns in the
// namespace kube-system, whatever their number and addresses.
func DefaultDNSEgress() []networkingv1.NetworkPolicyEgressRule {
	return []networkingv1.NetworkPolicyEgressRule{{
		To: []networkingv1.NetworkPolicyPeer{{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: metav1.NamespaceSystem}},
			PodSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"k8s-app": "kube-dns"}},
		}},
		Ports: []networkingv1.NetworkPolicyPort{
			{Protocol: new(corev1.ProtocolUDP), Port: new(intstr.FromInt32(53))},
			{Protocol: new(corev1.ProtocolTCP), Port: new(intstr.FromInt32(53))},
		},
	}}
}

// maxDNSEgress is how many rules there may be at most. They are in a NetworkPolicy of each tenant.
const maxDNSEgress = 16

// ParseDNSEgress reads the egress rules to the cluster's DNS: a list in YAML or JSON, as in a NetworkPolicy. An empty text
// means the default. The API server would refuse a wrong rule only when it is written for each tenant, so all of it is checked
// here. A rule has to say to whom and to which ports, because one that does not is open to everybody.
func ParseDNSEgress(text string) ([]networkingv1.NetworkPolicyEgressRule, error) {
	if strings.TrimSpace(text) == "" {
		return DefaultDNSEgress(), nil
	}
	data, err := yaml.ToJSON([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("reading YAML: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var rules []networkingv1.NetworkPolicyEgressRule
	if err := decoder.Decode(&rules); err != nil {
		return nil, fmt.Errorf("reading a list of egress rules: %w", err)
	}
	switch {
	case len(rules) == 0:
		return nil, errors.New("there must be a rule: without one no pod of a tenant resolves a name")
	case len(rules) > maxDNSEgress:
		return nil, fmt.Errorf("there must be at most %d rules", maxDNSEgress)
	}
	setProtocols(rules)
	var problems field.ErrorList
	for i := range rules {
		problems = append(problems, checkEgress(&rules[i], (*field.Path)(nil).Index(i))...)
	}
	return rules, problems.ToAggregate()
}

func checkEgress(rule *networkingv1.NetworkPolicyEgressRule, path *field.Path) (problems field.ErrorList) {
	if len(rule.To) == 0 {
		problems = append(problems, field.Required(path.Child("to"), "a rule without it allows every address"))
	}
	for i := range rule.To {
		problems = append(problems, checkPeer(&rule.To[i], path.Child("to").Index(i))...)
	}
	if len(rule.Ports) == 0 {
		problems = append(problems, field.Required(path.Child("ports"), "a rule without it allows every port"))
	}
	for i := range rule.Ports {
		problems = append(problems, checkPort(&rule.Ports[i], path.Child("ports").Index(i))...)
	}
	return problems
}

func checkPeer(peer *networkingv1.NetworkPolicyPeer, path *field.Path) (problems field.ErrorList) {
	selects := peer.PodSelector != nil || peer.NamespaceSelector != nil
	switch {
	case peer.IPBlock != nil && selects:
		return field.ErrorList{field.Forbidden(path, "ipBlock must not be beside a selector")}
	case peer.IPBlock != nil:
		return checkBlock(peer.IPBlock, path.Child("ipBlock"))
	case peer.NamespaceSelector == nil:
		return field.ErrorList{field.Required(path, "namespaceSelector or ipBlock: a podSelector alone selects the tenant's own pods")}
	}
	options := metav1validation.LabelSelectorValidationOptions{}
	problems = metav1validation.ValidateLabelSelector(peer.NamespaceSelector, options, path.Child("namespaceSelector"))
	if peer.PodSelector != nil {
		problems = append(problems, metav1validation.ValidateLabelSelector(peer.PodSelector, options, path.Child("podSelector"))...)
	}
	if empty(peer.NamespaceSelector) && empty(peer.PodSelector) {
		problems = append(problems, field.Forbidden(path, "selectors that are empty allow every pod"))
	}
	return problems
}

func empty(s *metav1.LabelSelector) bool {
	return s == nil || len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0
}

func checkBlock(block *networkingv1.IPBlock, path *field.Path) (problems field.ErrorList) {
	outer, err := netip.ParsePrefix(block.CIDR)
	switch {
	case err != nil || outer != outer.Masked():
		return field.ErrorList{field.Invalid(path.Child("cidr"), block.CIDR, "must be an address with a length, such as 169.254.20.10/32")}
	case outer.Bits() == 0:
		return field.ErrorList{field.Forbidden(path.Child("cidr"), "a length of 0 allows every address")}
	}
	for i, except := range block.Except {
		inner, err := netip.ParsePrefix(except)
		if err != nil || inner != inner.Masked() || inner.Bits() <= outer.Bits() || !outer.Contains(inner.Addr()) {
			problems = append(problems, field.Invalid(path.Child("except").Index(i), except, "must be a part of "+block.CIDR))
		}
	}
	return problems
}

func checkPort(port *networkingv1.NetworkPolicyPort, path *field.Path) (problems field.ErrorList) {
	switch *port.Protocol {
	case corev1.ProtocolTCP, corev1.ProtocolUDP:
	default:
		problems = append(problems, field.NotSupported(path.Child("protocol"), *port.Protocol, []corev1.Protocol{corev1.ProtocolUDP, corev1.ProtocolTCP}))
	}
	if port.Port == nil {
		return append(problems, field.Required(path.Child("port"), "a port without it is every port"))
	}
	var wrong []string
	if port.Port.Type == intstr.String {
		wrong = validation.IsValidPortName(port.Port.StrVal)
	} else {
		wrong = validation.IsValidPortNum(port.Port.IntValue())
	}
	for _, message := range wrong {
		problems = append(problems, field.Invalid(path.Child("port"), port.Port.String(), message))
	}
	if port.EndPort != nil && (port.Port.Type == intstr.String || *port.EndPort < port.Port.IntVal || *port.EndPort > 65535) {
		problems = append(problems, field.Invalid(path.Child("endPort"), *port.EndPort, "must be from port to 65535"))
	}
	return problems
}
