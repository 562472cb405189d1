#!/usr/bin/env bash
# Runs the end-to-end suite: on the cluster that KUBECONFIG names, or on a local one that comes and goes. The operator is
# deployed first. Arguments are for ginkgo (--focus suspended, say).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export KUBECTL=${KUBECTL:-kubectl}

ginkgo=$(hack/tools/build.sh)/ginkgo
if [[ -n ${KUBECONFIG:-} ]]; then
	hack/deploy.sh
else
	# Not the demo's, which may be running.
	export TENANTRY_CLUSTER=${TENANTRY_CLUSTER:-tenantry-e2e}
	trap 'hack/cluster.sh down >&2' EXIT
	KUBECONFIG=$(hack/deploy-local.sh | tail -1)
	export KUBECONFIG
fi
# The specs wait more than they work, so more of them run at once than there are cores.
options=(--procs 4 --timeout 45m)
[[ -t 1 ]] || options+=(--no-color)
"$ginkgo" run "${options[@]}" "$@" ./test/e2e
