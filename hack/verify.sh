#!/usr/bin/env bash
# Fails if generated files are stale, modules are untidy or code is not formatted. It changes nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT

# expect_nothing WHAT COMMAND... runs a command and reports a failure if the command fails or prints anything on stdout. It
# prints the command's stderr only then.
expect_nothing() {
	local what=$1 output
	shift
	if output=$("$@" 2>"$fresh/stderr") && [[ -z $output ]]; then
		printf 'ok    %s\n' "$what"
	else
		printf 'FAIL  %s\n%s\n\n' "$what" "$({ printf '%s\n' "$output"; cat "$fresh/stderr"; } | grep -v '^go: downloading ' | head -n 60)"
		failed=1
	fi
}

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
