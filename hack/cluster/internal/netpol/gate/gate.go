// Package gate connects the CNI plugin, which delays the start of a pod, to the enforcer, which decides when it may start.
// The package has no dependencies, so that the plugin starts quickly.
package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
)

const socket = "/run/netpol.sock"

// Timeout is how long a pod's start is delayed before it fails. The kubelet tries again.
const Timeout = 10 * time.Second

// Pod is a pod that has an address and no process yet.
type Pod struct {
	Namespace string
	Name      string
	UID       string
	IP        netip.Addr
}

// Pass returns when the pod's rules are in the kernel.
func Pass(pod Pod) error {
	body, err := json.Marshal(pod)
	if err != nil {
		return fmt.Errorf("encoding: %w", err)
	}
	client := http.Client{Timeout: Timeout + time.Second, Transport: &http.Transport{DialContext: dial}}
	response, err := client.Post("http://enforcer", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		reason, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
		return errors.New(strings.TrimSpace(string(reason)))
	}
	return nil
}

// dial waits until the enforcer listens, since the first pods of a cluster may start before it.
func dial(ctx context.Context, _, _ string) (net.Conn, error) {
	for {
		connection, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if err == nil {
			return connection, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Serve calls admit for every pod whose plugin calls Pass.
func Serve(admit func(context.Context, Pod) error) error {
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("removing the previous socket: %w", err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var pod Pod
		if err := json.NewDecoder(r.Body).Decode(&pod); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), Timeout)
		defer cancel()
		if err := admit(ctx, pod); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
}
