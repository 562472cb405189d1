#!/usr/bin/env bash
# Builds a Kubernetes control plane from Go modules, pinned in hack/controlplane, and prints its folder on the last line.
# It downloads only Go modules. The folder has what envtest needs in KUBEBUILDER_ASSETS, and kwok.
set -euo pipefail
# shellcheck source=hack/cache.sh
source "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

build_controlplane() {
	local out=$1 command
	for command in kube-apiserver kube-controller-manager kube-scheduler kubectl; do
		build_kubernetes "$out" "$command"
	done
	progress "  etcd"
	go_build "$hack/controlplane/etcd" -ldflags "-s -w" -o "$out/etcd" go.etcd.io/etcd/server/v3
	progress "  kwok"
	go_build "$hack/controlplane/kwok" -ldflags "-s -w" -o "$out/" sigs.k8s.io/kwok/cmd/kwok
}

command -v go >/dev/null || die "Go is needed to build the control plane."
cached "controlplane-$kubernetes_version" build_controlplane "$hack"/controlplane/*/go.{mod,sum}
