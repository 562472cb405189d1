// Package netpol enforces networking.k8s.io/v1 NetworkPolicy on one node with nftables, for IPv4. It supports pod and
// namespace selectors, address blocks, port ranges and named ports.
package netpol

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Snapshot has everything that the rules depend on.
type Snapshot struct {
	Pods       []*corev1.Pod
	Namespaces []*corev1.Namespace
	Policies   []*netv1.NetworkPolicy
	// Early has the addresses of pods whose status does not have the address yet.
	Early map[types.UID]netip.Addr
}

// cluster is a snapshot with indexes.
type cluster struct {
	endpoints  []endpoint
	namespaces map[string]labels.Set
	policies   map[string][]*netv1.NetworkPolicy // by namespace
}

// endpoint is a pod with its address.
type endpoint struct {
	*corev1.Pod
	address netip.Addr
}

// direction is the direction of the traffic, as seen from the pod that a policy selects.
type direction struct {
	policyType netv1.PolicyType
	chain      string // the prefix of the pod's chain
	self, peer string // which address of a packet is the pod's, and which its peer's
}

var (
	ingress = direction{netv1.PolicyTypeIngress, "ingress", "daddr", "saddr"}
	egress  = direction{netv1.PolicyTypeEgress, "egress", "saddr", "daddr"}
)

// rule is what ingress and egress rules have in common.
type rule struct {
	peers []netv1.NetworkPolicyPeer
	ports []netv1.NetworkPolicyPort
}

// Rules returns the nft script that replaces the table. Equal snapshots have equal rules.
//
// A pod that a policy selects has a chain for that direction. The chain returns for packets that are allowed and drops all
// others. A packet between two pods passes the sender's chain and then the receiver's. A packet from a pod to the node
// itself, where the API server is, passes the input hook, not the forward hook. Packets from the node to a pod, such as
// probes, are always allowed.
func (s Snapshot) Rules() string {
	c := s.prepare()
	var chains strings.Builder
	jumps := map[direction][]string{}
	for _, pod := range c.endpoints {
		for _, dir := range []direction{egress, ingress} {
			rules, selected := c.rulesFor(pod, dir)
			if !selected {
				continue
			}
			name := dir.chain + "_" + strings.ReplaceAll(string(pod.UID), "-", "")
			fmt.Fprintf(&chains, "  chain %s { # %s/%s\n", name, pod.Namespace, pod.Name)
			// A pod may reach itself through a service.
			fmt.Fprintf(&chains, "    ip %s %s return\n", dir.peer, pod.address)
			for _, line := range rules {
				fmt.Fprintf(&chains, "    %s\n", line)
			}
			chains.WriteString("    drop\n  }\n")
			jumps[dir] = append(jumps[dir], fmt.Sprintf("%s : jump %s", pod.address, name))
		}
	}

	var table strings.Builder
	// The first line makes the second one possible when there is no table yet.
	table.WriteString("add table ip netpol\ndelete table ip netpol\ntable ip netpol {\n" + chains.String())
	writeHook(&table, "input", jumps, egress)
	writeHook(&table, "forward", jumps, egress, ingress)
	table.WriteString("}\n")
	return table.String()
}

func writeHook(w *strings.Builder, hook string, jumps map[direction][]string, dirs ...direction) {
	fmt.Fprintf(w, "  chain %[1]s {\n    type filter hook %[1]s priority filter - 5; policy accept;\n", hook)
	w.WriteString("    ct state established,related accept\n")
	for _, dir := range dirs {
		if len(jumps[dir]) > 0 {
			fmt.Fprintf(w, "    ip %s vmap { %s }\n", dir.self, strings.Join(jumps[dir], ", "))
		}
	}
	w.WriteString("  }\n")
}

func (s Snapshot) prepare() cluster {
	c := cluster{
		endpoints:  s.endpoints(),
		namespaces: map[string]labels.Set{},
		policies:   map[string][]*netv1.NetworkPolicy{},
	}
	for _, namespace := range s.Namespaces {
		c.namespaces[namespace.Name] = namespace.Labels
	}
	byName := func(a, b *netv1.NetworkPolicy) int { return cmp.Compare(a.Name, b.Name) }
	for _, policy := range slices.SortedFunc(slices.Values(s.Policies), byName) {
		c.policies[policy.Namespace] = append(c.policies[policy.Namespace], policy)
	}
	return c
}

// endpoints returns the endpoints, sorted by age. An address belongs to the youngest pod that has it: it may be in use
// again while the status of the previous pod still has it.
func (s Snapshot) endpoints() []endpoint {
	owner := map[netip.Addr]endpoint{}
	byAge := func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.UID, b.UID))
	}
	for _, pod := range slices.SortedFunc(slices.Values(s.Pods), byAge) {
		if pod.Spec.HostNetwork || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		address, err := netip.ParseAddr(pod.Status.PodIP)
		if err != nil {
			address = s.Early[pod.UID]
		}
		if address.Is4() {
			owner[address] = endpoint{pod, address}
		}
	}
	return slices.SortedFunc(maps.Values(owner), func(a, b endpoint) int { return byAge(a.Pod, b.Pod) })
}

// rulesFor returns the lines that allow traffic, and whether any policy selects the pod for that direction.
func (c cluster) rulesFor(pod endpoint, dir direction) (lines []string, selected bool) {
	for _, policy := range c.policies[pod.Namespace] {
		if !matches(&policy.Spec.PodSelector, pod.Labels) || !slices.Contains(policy.Spec.PolicyTypes, dir.policyType) {
			continue
		}
		selected = true
		for _, r := range rulesOf(policy, dir) {
			lines = append(lines, c.allow(r, pod, dir)...)
		}
	}
	return lines, selected
}

func rulesOf(policy *netv1.NetworkPolicy, dir direction) []rule {
	var rules []rule
	if dir == ingress {
		for _, r := range policy.Spec.Ingress {
			rules = append(rules, rule{r.From, r.Ports})
		}
		return rules
	}
	for _, r := range policy.Spec.Egress {
		rules = append(rules, rule{r.To, r.Ports})
	}
	return rules
}

// allow returns the lines of one rule for a pod.
func (c cluster) allow(r rule, pod endpoint, dir direction) []string {
	var lines []string
	for _, peer := range orAny(r.peers) {
		for _, port := range orAny(r.ports) {
			lines = append(lines, c.allowOne(peer, port, pod, dir)...)
		}
	}
	return lines
}

// orAny returns a list of one nil, which means anything, for an empty list.
func orAny[T any](list []T) []*T {
	if len(list) == 0 {
		return []*T{nil}
	}
	pointers := make([]*T, len(list))
	for i := range list {
		pointers[i] = &list[i]
	}
	return pointers
}

func (c cluster) allowOne(
	peer *netv1.NetworkPolicyPeer, port *netv1.NetworkPolicyPort, pod endpoint, dir direction,
) []string {
	named := port != nil && port.Port != nil && port.Port.Type == intstr.String
	if named && dir == egress {
		// The name can stand for another port in each receiver.
		var lines []string
		for _, receiver := range c.peers(peer, pod.Namespace) {
			if match, ok := portMatch(port, receiver); ok {
				lines = append(lines, line("ip daddr "+receiver.address.String(), match))
			}
		}
		return lines
	}
	match, ok := portMatch(port, pod)
	if !ok {
		return nil
	}
	switch {
	case peer == nil:
		return []string{line("", match)}
	case peer.IPBlock != nil:
		block, ok := blockMatch(peer.IPBlock, dir)
		if !ok {
			return nil
		}
		return []string{line(block, match)}
	}
	var addresses []string
	for _, other := range c.peers(peer, pod.Namespace) {
		addresses = append(addresses, other.address.String())
	}
	if len(addresses) == 0 {
		return nil
	}
	return []string{line(fmt.Sprintf("ip %s { %s }", dir.peer, strings.Join(addresses, ", ")), match)}
}

func line(parts ...string) string {
	return strings.Join(slices.DeleteFunc(append(parts, "return"), func(s string) bool { return s == "" }), " ")
}

// peers returns the pods that a peer of a policy in that namespace selects.
func (c cluster) peers(peer *netv1.NetworkPolicyPeer, namespace string) []endpoint {
	var found []endpoint
	for _, pod := range c.endpoints {
		if peer == nil || c.means(peer, namespace, pod) {
			found = append(found, pod)
		}
	}
	return found
}

func (c cluster) means(peer *netv1.NetworkPolicyPeer, namespace string, pod endpoint) bool {
	if peer.IPBlock != nil || peer.PodSelector != nil && !matches(peer.PodSelector, pod.Labels) {
		return false
	}
	if peer.NamespaceSelector == nil {
		return pod.Namespace == namespace
	}
	set, known := c.namespaces[pod.Namespace]
	return known && matches(peer.NamespaceSelector, set)
}

// blockMatch returns false for a block of IPv6 addresses, since all packets here are IPv4.
func blockMatch(block *netv1.IPBlock, dir direction) (string, bool) {
	prefix, err := netip.ParsePrefix(block.CIDR)
	if err != nil || !prefix.Addr().Is4() {
		return "", false
	}
	matches := []string{fmt.Sprintf("ip %s %s", dir.peer, prefix.Masked())}
	for _, except := range block.Except {
		if prefix, err := netip.ParsePrefix(except); err == nil && prefix.Addr().Is4() {
			matches = append(matches, fmt.Sprintf("ip %s != %s", dir.peer, prefix.Masked()))
		}
	}
	return strings.Join(matches, " "), true
}

// portMatch returns false if the receiver has no port of that name.
func portMatch(port *netv1.NetworkPolicyPort, receiver endpoint) (string, bool) {
	if port == nil {
		return "", true
	}
	protocol := corev1.ProtocolTCP
	if port.Protocol != nil {
		protocol = *port.Protocol
	}
	lower := strings.ToLower(string(protocol))
	if port.Port == nil {
		return "meta l4proto " + lower, true
	}
	number := port.Port.IntVal
	if port.Port.Type == intstr.String {
		if number = namedPort(receiver, port.Port.StrVal, protocol); number == 0 {
			return "", false
		}
	}
	match := fmt.Sprintf("%s dport %d", lower, number)
	if port.EndPort != nil {
		match += fmt.Sprintf("-%d", *port.EndPort)
	}
	return match, true
}

func namedPort(pod endpoint, name string, protocol corev1.Protocol) int32 {
	for _, container := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		for _, port := range container.Ports {
			if port.Name == name && cmp.Or(port.Protocol, corev1.ProtocolTCP) == protocol {
				return port.ContainerPort
			}
		}
	}
	return 0
}

func matches(selector *metav1.LabelSelector, set labels.Set) bool {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && parsed.Matches(set)
}
