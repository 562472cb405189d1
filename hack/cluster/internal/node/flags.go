package node

import (
	"path/filepath"
	"strconv"
)

// The flags of each component. All other flags have the component's defaults.

func etcdFlags(n *Node) []string {
	return []string{
		"--data-dir", n.Cluster.Dir + "/etcd",
		"--listen-client-urls", etcdURL,
		"--advertise-client-urls", etcdURL,
		"--listen-peer-urls", "http://127.0.0.1:2380",
		"--unsafe-no-fsync", // the data is not needed after the cluster's end
		"--log-level", "warn",
	}
}

const etcdURL = "http://127.0.0.1:2379"

func containerdFlags(n *Node) []string {
	return []string{"--config", n.config("containerd.toml")}
}

func apiServerFlags(n *Node) []string {
	return []string{
		"--etcd-servers=" + etcdURL,
		"--bind-address=0.0.0.0",
		"--advertise-address=" + nodeAddress,
		"--secure-port=" + strconv.Itoa(n.Port),
		"--service-cluster-ip-range=" + serviceCIDR,
		"--tls-cert-file=" + n.config("apiserver.crt"),
		"--tls-private-key-file=" + n.config("apiserver.key"),
		"--client-ca-file=" + n.config("ca.crt"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--audit-policy-file=" + n.config("audit.yaml"),
		"--audit-log-path=" + filepath.Join(n.Cluster.Logs(), "audit.log"),
		"--audit-log-mode=batch", // writing does not hold up requests
		"--allow-privileged=true",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + n.config("tokens.pub"),
		"--service-account-signing-key-file=" + n.config("tokens.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--kubelet-certificate-authority=" + n.config("ca.crt"),
		"--kubelet-client-certificate=" + n.config("kubelet-client.crt"),
		"--kubelet-client-key=" + n.config("kubelet-client.key"),
	}
}

func controllerManagerFlags(n *Node) []string {
	return []string{
		"--kubeconfig=" + n.config("kube-controller-manager.kubeconfig"),
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + n.config("tokens.key"),
		"--root-ca-file=" + n.config("ca.crt"),
		"--leader-elect=false",
		"--bind-address=127.0.0.1",
		// With its default of 20 a second a cluster starts slowly, and a benchmark would measure only this limit.
		"--kube-api-qps=300",
		"--kube-api-burst=600",
		"--flex-volume-plugin-dir=/var/lib/kubelet/volumeplugins", // the default would be created on the machine, under /usr
	}
}

func schedulerFlags(n *Node) []string {
	return []string{
		"--kubeconfig=" + n.config("kube-scheduler.kubeconfig"),
		"--leader-elect=false",
		"--bind-address=127.0.0.1",
	}
}

func kubeletFlags(n *Node) []string {
	return []string{
		"--config=" + n.config("kubelet.yaml"),
		"--kubeconfig=" + n.config("kubelet.kubeconfig"),
		"--hostname-override=" + nodeName,
		"--node-ip=" + nodeAddress,
	}
}

func proxyFlags(n *Node) []string {
	return []string{"--config=" + n.config("kube-proxy.yaml")}
}
