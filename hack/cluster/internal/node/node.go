// Package node is everything that runs inside a cluster's namespaces.
package node

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tenantry/tenantry/hack/cluster/internal/image"
	"github.com/tenantry/tenantry/hack/cluster/internal/netpol"
	"github.com/tenantry/tenantry/hack/cluster/internal/state"
)

const (
	nodeName = "node1"
	// nodeAddress is the node's address. It is also the gateway of each pod, at the other end of the pod's veth pair.
	nodeAddress    = "10.244.0.1"
	podCIDR        = "10.244.0.0/24"
	serviceCIDR    = "10.96.0.0/16"
	serviceAddress = "10.96.0.1" // of the API server; by convention the first address of the range
	dnsAddress     = "10.96.0.10"

	pauseImage   = "tenantry.local/pause:1"
	corednsImage = "tenantry.local/coredns:1"

	startTimeout = 2 * time.Minute
)

// Folders are the folders with the cluster's programs.
type Folders struct {
	ControlPlane string // etcd, kube-apiserver, …
	Node         string // kubelet, containerd, …
	Tools        string // this program, and others of this module
}

// Path is the search path for programs: first the folders, then the machine's.
func (f Folders) Path() string {
	return strings.Join([]string{
		f.ControlPlane, filepath.Join(f.Node, "bin"), f.Tools,
		filepath.Join(f.debian(), "usr/sbin"), filepath.Join(f.debian(), "usr/bin"),
		"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
	}, ":")
}

// debian is the folder into which the distribution's packages were unpacked. It may not exist.
func (f Folders) debian() string { return filepath.Join(f.Node, "debian") }

// Node is the one node of a cluster.
type Node struct {
	Cluster state.Cluster
	Folders Folders
	Port    int
	// Listener listens on Port outside of the cluster's namespaces, where it was made.
	Listener net.Listener
	// Progress gets a line for each step that is done.
	Progress io.Writer

	began  time.Time
	client kubernetes.Interface
}

// Run starts the node, calls ready when it is up, and then blocks for ever.
func (n *Node) Run(ready func() error) error {
	n.began = time.Now()
	if err := os.Setenv("PATH", n.Folders.Path()); err != nil {
		return err
	}
	if err := n.start(); err != nil {
		return err
	}
	if err := ready(); err != nil {
		return err
	}
	select {}
}

func (n *Node) start() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()

	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"mounting", n.mount},
		{"setting up the network", setUpNetwork},
		{"reserving the API server's port", n.reservePort},
		{"writing the configuration", n.configure},
	} {
		if err := step.run(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	n.reached("namespaces, certificates and configuration")
	if err := n.connect(); err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}

	n.runForever("etcd", etcdFlags(n)...)
	n.runForever("containerd", containerdFlags(n)...)
	n.runForever("kube-apiserver", apiServerFlags(n)...)
	go n.forward()

	parallel, parallelCtx := errgroup.WithContext(ctx)
	parallel.Go(func() error { return n.importImages(parallelCtx) })
	parallel.Go(func() error { return n.startControllers(parallelCtx) })
	if err := parallel.Wait(); err != nil {
		return err
	}

	// The kubelet starts after the images are imported, since it starts pods at once and backs off from a missing image.
	n.runForever("kubelet", kubeletFlags(n)...)
	return n.waitUntilUsable(ctx)
}

func (n *Node) startControllers(ctx context.Context) error {
	if err := n.waitForAPIServer(ctx); err != nil {
		return err
	}
	n.runForever("kube-controller-manager", controllerManagerFlags(n)...)
	n.runForever("kube-scheduler", schedulerFlags(n)...)
	n.runForever("kube-proxy", proxyFlags(n)...)
	go n.enforcePolicies()
	apply := []string{"--kubeconfig", n.Cluster.Kubeconfig(), "apply", "--server-side", "--filename", n.config("coredns.yaml")}
	if err := n.output(ctx, nil, "kubectl", apply...); err != nil {
		return fmt.Errorf("creating CoreDNS: %w", err)
	}
	return nil
}

func (n *Node) importImages(ctx context.Context) error {
	if err := n.waitForContainerd(ctx); err != nil {
		return err
	}
	for _, img := range []image.Image{
		{Binary: filepath.Join(n.Folders.Tools, "pause"), Path: "/pause", Tag: pauseImage, User: "65535:65535"},
		// It runs as root, since it listens on port 53. Network policies allow that port of pods with its labels.
		{Binary: filepath.Join(n.Folders.Node, "bin/coredns"), Path: "/coredns", Tag: corednsImage, User: "0:0"},
	} {
		reader, writer := io.Pipe()
		go func() { writer.CloseWithError(img.Write(writer)) }()
		if err := n.output(ctx, reader, "ctr", ImportArgs...); err != nil {
			return fmt.Errorf("importing image %s: %w", img.Tag, err)
		}
	}
	n.reached("images imported")
	return nil
}

// ImportArgs make ctr import the image on its standard input into the namespace that the kubelet uses.
var ImportArgs = []string{"--namespace", "k8s.io", "images", "import", "-"}

func (n *Node) enforcePolicies() {
	log, err := os.OpenFile(n.logFile("netpol"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		n.reached(fmt.Sprintf("network policies are not enforced: %v", err))
		return
	}
	err = netpol.NewEnforcer(n.client, nodeName, log).Run(context.Background())
	fmt.Fprintln(log, err)
	// Without the enforcer no pod starts, so no pod runs without its policies.
	n.reached(fmt.Sprintf("network policies are no longer enforced: %v", err))
}

func (n *Node) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", n.Cluster.Kubeconfig())
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 100, 200
	n.client, err = kubernetes.NewForConfig(config)
	return err
}

func (n *Node) reached(what string) {
	fmt.Fprintf(n.Progress, "%5.1f s  %s\n", time.Since(n.began).Seconds(), what)
}
