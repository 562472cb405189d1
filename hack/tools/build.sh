#!/usr/bin/env bash
# Builds the tools that are pinned in this folder's go.mod (controller-gen, kustomize, ginkgo), or with the argument
# golangci-lint the linter that is pinned in golangci-lint/go.mod, and prints the folder that has them on the last line.
set -euo pipefail
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=hack/cache.sh
source "$tools/../cache.sh"

build_tools() { go_build "$tools" -ldflags "-s -w" -o "$1/" tool; }
build_linter() { go_build "$tools/golangci-lint" -ldflags "-s -w" -o "$1/" .; }

# A linter cannot read code that is newer than the Go it was built with, so Go's version is part of the name.
go_version=$(go env GOROOT)/VERSION

case ${1:-} in
"") cached tools build_tools "$go_version" "$tools"/{build.sh,go.mod,go.sum} ;;
golangci-lint) cached golangci-lint build_linter "$go_version" "$tools"/build.sh "$tools"/golangci-lint/{main.go,go.mod,go.sum} ;;
*) die "usage: $0 [golangci-lint]" ;;
esac
