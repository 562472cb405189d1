package node

import (
	"bytes"
	"embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"text/template"

	"github.com/tenantry/tenantry/hack/cluster/internal/pki"
)

//go:embed config
var templates embed.FS

func (n *Node) configDir() string { return filepath.Join(n.Cluster.Dir, "config") }

func (n *Node) config(file string) string { return filepath.Join(n.configDir(), file) }

// configure writes certificates, kubeconfigs and configuration files.
func (n *Node) configure() error {
	if err := os.MkdirAll(n.config("cni"), 0o755); err != nil {
		return err
	}
	if err := n.writeCertificates(); err != nil {
		return err
	}
	values := map[string]any{
		"ConfigDir":    n.configDir(),
		"CNIDirs":      []string{filepath.Join(n.Folders.Node, "cni"), filepath.Join(n.Folders.Tools, "cni")},
		"NodeName":     nodeName,
		"PodCIDR":      podCIDR,
		"DNSAddress":   dnsAddress,
		"PauseImage":   pauseImage,
		"CoreDNSImage": corednsImage,
	}
	for source, target := range map[string]string{
		"containerd.toml": "containerd.toml",
		"cni.conflist":    "cni/tenantry.conflist",
		"kubelet.yaml":    "kubelet.yaml",
		"resolv.conf":     "resolv.conf",
		"kube-proxy.yaml": "kube-proxy.yaml",
		"coredns.yaml":    "coredns.yaml",
		"audit.yaml":      "audit.yaml",
	} {
		if err := writeTemplate(source, n.config(target), values); err != nil {
			return fmt.Errorf("writing %s: %w", target, err)
		}
	}
	return nil
}

func writeTemplate(source, target string, values any) error {
	parsed, err := template.ParseFS(templates, "config/"+source)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, values); err != nil {
		return err
	}
	return os.WriteFile(target, out.Bytes(), 0o644)
}

func (n *Node) writeCertificates() error {
	authority, err := pki.NewAuthority(n.Cluster.Name)
	if err != nil {
		return err
	}
	if err := os.WriteFile(n.config("ca.crt"), authority.PEM, 0o644); err != nil {
		return err
	}
	if err := pki.WriteTokenKeys(n.configDir(), "tokens"); err != nil {
		return err
	}

	local, node := net.IPv4(127, 0, 0, 1), net.ParseIP(nodeAddress)
	for file, id := range map[string]pki.Identity{
		"apiserver": {
			User: "kube-apiserver",
			Names: []string{
				"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
			},
			Addresses: []net.IP{local, node, net.ParseIP(serviceAddress)},
		},
		"kubelet":        {User: nodeName, Names: []string{nodeName}, Addresses: []net.IP{local, node}},
		"kubelet-client": {User: "kube-apiserver-kubelet-client", Group: "system:masters"},
	} {
		pair, err := authority.Issue(id)
		if err != nil {
			return err
		}
		if err := pair.Write(n.configDir(), file); err != nil {
			return err
		}
	}

	server := "https://" + net.JoinHostPort(local.String(), strconv.Itoa(n.Port))
	for file, id := range map[string]pki.Identity{
		n.Cluster.Kubeconfig():                         {User: "admin", Group: "system:masters"},
		n.config("kube-controller-manager.kubeconfig"): {User: "system:kube-controller-manager"},
		n.config("kube-scheduler.kubeconfig"):          {User: "system:kube-scheduler"},
		n.config("kube-proxy.kubeconfig"):              {User: "system:kube-proxy"},
		n.config("kubelet.kubeconfig"):                 {User: "system:node:" + nodeName, Group: "system:nodes"},
	} {
		pair, err := authority.Issue(id)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, authority.Kubeconfig(n.Cluster.Name, server, id.User, pair), 0o600); err != nil {
			return err
		}
	}
	return nil
}
