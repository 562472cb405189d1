#!/usr/bin/env bash
# Fails on generated files that are stale, modules that are untidy and code that is not formatted. Changes nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0
# expect_nothing WHAT COMMAND... runs a command that prints what is wrong.
expect_nothing() {
	local what=$1 output
	shift
	if output=$("$@" 2>&1) && [[ -z $output ]]; then
		printf 'ok    %s\n' "$what"
	else
		printf 'FAIL  %s\n%s\n\n' "$what" "$(head -n 60 <<<"$output")"
		failed=1
	fi
}

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
make --no-print-directory manifests generate OUT="$fresh" >/dev/null

stale() {
	diff -ruN config/crd/bases "$fresh/config/crd/bases" || true
	for file in config/rbac/role.yaml api/v1alpha1/zz_generated.deepcopy.go; do
		diff -uN "$file" "$fresh/$file" || true
	done
}

expect_nothing "generated files (make manifests generate)" stale
expect_nothing "formatting (make fmt)" gofmt -l .
while IFS= read -r module; do
	expect_nothing "go mod tidy in ${module%go.mod}" go -C "$(dirname "$module")" mod tidy -diff
done < <(find . -name go.mod -not -path './.git/*' | sort)
exit $failed
