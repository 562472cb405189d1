#!/usr/bin/env bash
# Runs the end-to-end suite: on the cluster that KUBECONFIG names, or on a local one that comes and goes. The operator is
# deployed first. Arguments are for the suite (-ginkgo.focus 'Suspension', say).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ -n ${KUBECONFIG:-} ]]; then
	hack/deploy.sh
else
	# Not the demo's, which may be running.
	export TENANTRY_CLUSTER=${TENANTRY_CLUSTER:-tenantry-e2e}
	trap 'hack/cluster.sh down >&2' EXIT
	KUBECONFIG=$(hack/deploy-local.sh | tail -1)
	export KUBECONFIG
fi
go test ./test/e2e/... -count 1 -timeout 45m -v -ginkgo.v "$@"
