# shellcheck shell=bash
# Functions for the scripts here that build something. They build into a cache outside of the clone. Its folders are named
# after a hash of their sources, and are either complete or absent, so that several checkouts can share them.

hack=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/tenantry"

progress() { printf '%s\n' "$*" >&2; }

die() {
	progress "$*"
	exit 1
}

# cached NAME BUILD FILE... prints the folder $cache/NAME-<hash of the files and of the build functions>. If the folder does
# not exist, the function BUILD fills it: it gets an empty folder as argument, and its output goes to stderr.
cached() {
	local name=$1 build=$2 recipe hash folder
	shift 2
	# shellcheck disable=SC2207 # each name is one word, and macOS' bash has no mapfile
	recipe=($(compgen -A function | grep -E '^(build|go|unpack)_'))
	hash=$({ declare -f "${recipe[@]}" && cat -- "$@"; } | git hash-object --stdin)
	folder="$cache/$name-${hash:0:12}"
	if [[ ! -d $folder ]]; then locked "$folder" "$build"; fi
	[[ -d $folder ]] && printf '%s\n' "$folder"
}

# locked FOLDER BUILD is a subshell, so that the lock is released when it ends. A build that is killed leaves a .partial
# folder, which the next build removes. So FOLDER itself is never incomplete.
locked() (
	set -e # bash does not inherit it in a command substitution
	folder=$1 build=$2
	mkdir -p "$cache"
	exec 9>"$folder.lock"
	if command -v flock >/dev/null; then
		flock --nonblock 9 || {
			progress "Waiting for another build of ${folder##*/}"
			flock 9
		}
	fi
	[[ ! -d $folder ]] || exit 0
	rm -rf "$folder.partial"
	mkdir "$folder.partial"
	progress "Building ${folder##*/}, once, in $cache"
	SECONDS=0
	"$build" "$folder.partial" >&2
	mv "$folder.partial" "$folder"
	progress "Built ${folder##*/} in $SECONDS s"
)

# go_build MODULE ARG... runs `go build` in the folder MODULE. It ignores the caller's Go settings and the state of the
# clone. The binary is static.
go_build() {
	env -u GOOS -u GOARCH GOFLAGS= GOWORK=off CGO_ENABLED=0 go build -C "$1" -trimpath -buildvcs=false "${@:2}"
}

kubernetes=$hack/controlplane/kubernetes
kubernetes_version=$(sed -n 's|.*k8s.io/kubernetes \(v[0-9.]*\).*|\1|p' "$kubernetes/go.mod")

# build_kubernetes OUT COMMAND builds one of the programs of Kubernetes and sets its version. Without that the version is
# v0.0.0, which other programs treat as a very old one.
build_kubernetes() {
	local major minor stamp=k8s.io/component-base/version
	progress "  $2 $kubernetes_version"
	IFS=. read -r major minor _ <<<"${kubernetes_version#v}"
	stamp="-X $stamp.gitVersion=$kubernetes_version -X $stamp.gitMajor=$major -X $stamp.gitMinor=$minor"
	go_build "$kubernetes" -ldflags "-s -w $stamp" -o "$1/" "k8s.io/kubernetes/cmd/$2"
}
