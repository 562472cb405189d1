// Command netpol-cni is a CNI plugin, chained after the one that creates a pod's network. It delays the pod until the rules
// of its NetworkPolicies are in the kernel. Without it a pod's traffic is not filtered for about a second.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/tenantry/tenantry/hack/cluster/internal/netpol/gate"
)

const version = "1.0.0"

func main() {
	var err error
	switch os.Getenv("CNI_COMMAND") {
	case "ADD":
		err = add()
	case "VERSION":
		fmt.Printf(`{"cniVersion":%q,"supportedVersions":[%q]}`, version, version)
	}
	if err != nil {
		// This, on stdout, is how CNI reports an error. Codes from 100 on are the plugin's own.
		_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"cniVersion": version, "code": 100, "msg": err.Error()})
		os.Exit(1)
	}
}

func add() error {
	var config struct {
		PrevResult json.RawMessage `json:"prevResult"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&config); err != nil {
		return fmt.Errorf("decoding the network configuration: %w", err)
	}
	var previous struct {
		IPs []struct {
			Address netip.Prefix `json:"address"`
		} `json:"ips"`
	}
	if err := json.Unmarshal(config.PrevResult, &previous); err != nil {
		return fmt.Errorf("decoding the previous plugin's result: %w", err)
	}
	if len(previous.IPs) == 0 {
		return errors.New("the previous plugin gave the pod no address")
	}

	args := map[string]string{}
	for arg := range strings.SplitSeq(os.Getenv("CNI_ARGS"), ";") {
		key, value, _ := strings.Cut(arg, "=")
		args[key] = value
	}
	pod := gate.Pod{
		Namespace: args["K8S_POD_NAMESPACE"],
		Name:      args["K8S_POD_NAME"],
		UID:       args["K8S_POD_UID"],
		IP:        previous.IPs[0].Address.Addr(),
	}
	if err := gate.Pass(pod); err != nil {
		return fmt.Errorf("waiting for the network policies of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	_, err := os.Stdout.Write(config.PrevResult)
	return err
}
