#!/usr/bin/env bash
# A real one-node Kubernetes on this machine, in namespaces of its own. Everything is built from Go modules, except runc and
# nft, which come from the distribution. See hack/README.md.
set -euo pipefail
# shellcheck source=hack/cache.sh
source "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

usage() {
	cat <<USAGE
hack/cluster.sh VERB

  build                            builds all that is needed, into $cache
  up                               starts the cluster; builds what is missing
  down                             ends it and removes everything of it
  status                           says whether it is up, and what runs in it
  kubeconfig                       prints the path of its kubeconfig, which works anywhere on this machine
  exec COMMAND...                  runs a command in its namespaces, where pods and services can be reached
  image BINARY TAG PATH ARCHIVE    builds an image with a static binary at PATH
  load ARCHIVE                     loads an image into the cluster; pods must not set imagePullPolicy to Always

TENANTRY_CLUSTER is the cluster's name, by default tenantry; clusters of several names can be up side by side.
TENANTRY_CLUSTER_DIR is where they keep their state, by default $cache/clusters.
USAGE
}

# kind_instead MESSAGE prints why the script can't go on, and how to use kind instead, and exits.
kind_instead() {
	die "$1

Where there is Docker, a kind cluster does as well:
  kind create cluster
  make docker-build && kind load docker-image tenantry.dev/tenantry:dev tenantry.dev/hotspot:dev
  KUBECONFIG=~/.kube/config make demo"
}

check_rights() {
	[[ $EUID == 0 ]] || kind_instead "The local cluster needs root, since it makes namespaces, mounts and cgroups."
	command -v nsenter >/dev/null || kind_instead "nsenter is missing: apt-get install util-linux"
	command -v mount >/dev/null || kind_instead "mount is missing: apt-get install mount"
}

build_tools() {
	go_build "$hack/cluster" -ldflags "-s -w" -o "$1/" . ./cmd/pause
	go_build "$hack/cluster" -ldflags "-s -w" -o "$1/cni/" ./cmd/netpol-cni
}

build_node() {
	local out=$1 missing=() command
	if ! command -v runc >/dev/null; then missing+=(runc); fi
	if ! command -v nft >/dev/null; then missing+=(nftables); fi
	if ((${#missing[@]})); then unpack_packages "$out/debian" "${missing[@]}"; fi
	for command in kubelet kube-proxy; do
		build_kubernetes "$out/bin" "$command"
	done
	progress "  containerd"
	go_build "$hack/node/containerd" -ldflags "-s -w" -tags no_btrfs,no_devmapper,no_zfs -o "$out/bin/" tool
	progress "  CNI plugins"
	go_build "$hack/node/cni" -ldflags "-s -w" -o "$out/cni/" tool
	progress "  CoreDNS"
	go_build "$hack/node/coredns" -ldflags "-s -w" -o "$out/bin/" .
}

# unpack_packages FOLDER PACKAGE... unpacks Debian packages and the libraries that they need. It installs nothing.
unpack_packages() {
	local out=$1 work=$1.apt apt=() names package
	shift
	progress "  $*, unpacked from the distribution's packages"
	if ! command -v apt-get >/dev/null; then
		kind_instead "Install these packages with the distribution's package manager and try again: $*"
	fi
	mkdir -p "$out" "$work/debs" "$work/lists/partial"
	if ! apt-cache show "$@" >/dev/null 2>&1; then
		# A new machine has no package lists. Download them into a folder of our own, so that the machine's do not change.
		apt=(-o "Dir::State::Lists=$work/lists")
		apt-get "${apt[@]}" -qq -o APT::Sandbox::User=root update || true
	fi
	# shellcheck disable=SC2086 # each name is one word
	if ! names=$(apt-cache "${apt[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
		--no-replaces --no-enhances "$@" | grep -E '^[a-z]' | grep -vE '^(libc6|libgcc-s1|gcc-.*-base)$') ||
		! (cd "$work/debs" && apt-get "${apt[@]}" -qq -o APT::Sandbox::User=root download $names); then
		kind_instead "Packages can't be downloaded. Install them in another way and try again: apt-get install $*"
	fi
	for package in "$work"/debs/*.deb; do
		dpkg-deb --extract "$package" "$out"
	done
	rm -r "$work"
}

tools() {
	local files
	mapfile -t files < <(find "$hack/cluster" -type f ! -name '*_test.go' | LC_ALL=C sort)
	cached cluster build_tools "${files[@]}"
}

node() {
	cached "node-$kubernetes_version" build_node \
		"$kubernetes"/go.{mod,sum} "$hack"/node/*/go.{mod,sum} "$hack/node/coredns/main.go"
}

verb=${1:-}
case $verb in
build | up | down | status | kubeconfig | exec | image | load) ;;
*)
	usage
	[[ $verb == help || $verb == --help || $verb == -h ]]
	exit
	;;
esac
[[ $(uname -s) == Linux ]] || kind_instead "The local cluster runs on Linux only."
command -v go >/dev/null || kind_instead "Go is missing; what is needed for the local cluster is built with it."
if [[ $verb != build && $verb != image ]]; then check_rights; fi

# Separate assignments, so that a failure ends the script.
tools=$(tools)
if [[ $verb == build || $verb == up ]]; then
	controlplane=$("$hack/controlplane.sh" | tail -n 1)
	node=$(node)
fi
[[ $verb != build ]] || exit 0
exec "$tools/cluster" -name "${TENANTRY_CLUSTER:-tenantry}" -dir "${TENANTRY_CLUSTER_DIR:-$cache/clusters}" \
	-controlplane "${controlplane:-}" -node "${node:-}" "$@"
