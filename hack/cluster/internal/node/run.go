package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

func (n *Node) logFile(name string) string { return filepath.Join(n.Cluster.Logs(), name+".log") }

// runForever starts a component, and restarts it when it ends.
func (n *Node) runForever(name string, args ...string) {
	run := func() error {
		log, err := os.OpenFile(n.logFile(name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return err
		}
		defer log.Close()
		cmd := exec.Command(name, args...)
		cmd.Stdout, cmd.Stderr = log, log
		return cmd.Run()
	}
	go func() {
		for {
			n.reached(fmt.Sprintf("%s ended and is started again: %v", name, run()))
			time.Sleep(time.Second)
		}
	}()
}

// output runs a command until it ends. The command's output is part of the error.
func (n *Node) output(ctx context.Context, stdin io.Reader, name string, args ...string) error {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// forward forwards connections from outside to the API server. The listener belongs to the network namespace in which it
// was created, outside; this process dials in the cluster's namespace.
func (n *Node) forward() {
	for {
		outside, err := n.Listener.Accept()
		if err != nil {
			n.reached(fmt.Sprintf("no longer accepting connections from outside: %v", err))
			return
		}
		go func() {
			defer outside.Close()
			inside, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(n.Port)))
			if err != nil {
				return
			}
			defer inside.Close()
			go func() {
				_, _ = io.Copy(inside, outside)
				inside.Close()
			}()
			_, _ = io.Copy(outside, inside)
		}()
	}
}

func (n *Node) waitForContainerd(ctx context.Context) error {
	return n.waitFor(ctx, "containerd", func(ctx context.Context) error {
		return n.output(ctx, nil, "ctr", "version")
	})
}

func (n *Node) waitForAPIServer(ctx context.Context) error {
	return n.waitFor(ctx, "API server", func(ctx context.Context) error {
		return n.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

func (n *Node) waitUntilUsable(ctx context.Context) error {
	if err := n.waitFor(ctx, "node", n.nodeReady); err != nil {
		return err
	}
	if err := n.waitFor(ctx, "default service account", func(ctx context.Context) error {
		_, err := n.client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	}); err != nil {
		return err
	}
	return n.waitFor(ctx, "DNS", func(ctx context.Context) error {
		coredns, err := n.client.AppsV1().Deployments("kube-system").Get(ctx, "coredns", metav1.GetOptions{})
		if err == nil && coredns.Status.ReadyReplicas == 0 {
			err = fmt.Errorf("no replica of CoreDNS is ready")
		}
		return err
	})
}

func (n *Node) nodeReady(ctx context.Context) error {
	node, err := n.client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("%s is not ready: %v", nodeName, node.Status.Conditions)
}

// waitFor calls try until it succeeds. If it never does, the error contains the last error of try.
func (n *Node) waitFor(ctx context.Context, what string, try func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		if err := try(ctx); err != nil {
			if ctx.Err() == nil || last == nil {
				last = err
			}
			return false, nil
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the %s: %w: %w", what, err, last)
	}
	n.reached(what + " ready")
	return nil
}
