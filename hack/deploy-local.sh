#!/usr/bin/env bash
# Starts the local cluster that TENANTRY_CLUSTER names, with the operator and the image of the sample application in it, both
# built from this clone. It prints the path of the cluster's kubeconfig on the last line.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=hack/cache.sh
source hack/cache.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# load PACKAGE PATH_IN_IMAGE TAG builds an image that contains only the package's binary, and loads it.
load() {
	go_build . -ldflags "-s -w" -o "$work/binary" "$1"
	hack/cluster.sh image "$work/binary" "$3" "$2" "$work/image.tar"
	hack/cluster.sh load "$work/image.tar"
}

{
	hack/cluster.sh up
	load ./cmd /manager tenantry.dev/tenantry:dev
	load ./examples/hotspot /hotspot tenantry.dev/hotspot:dev
	KUBECONFIG=$(hack/cluster.sh kubeconfig)
	export KUBECONFIG
	hack/deploy.sh
} >&2
printf '%s\n' "$KUBECONFIG"
