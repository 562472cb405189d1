#!/usr/bin/env bash
# Deploys the operator and the billing database and runs the end-to-end suite, on the cluster of KUBECONFIG or else on a local one that
# is removed afterwards. The arguments are ginkgo's, for example --focus suspended.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export KUBECTL=${KUBECTL:-kubectl}

ginkgo=$(hack/tools/build.sh)/ginkgo
if [[ -n ${KUBECONFIG:-} ]]; then
	hack/deploy.sh
else
	# Not the demo's cluster, which may be running.
	export TENANTRY_CLUSTER=${TENANTRY_CLUSTER:-tenantry-e2e}
	trap 'hack/cluster.sh down >&2' EXIT
	KUBECONFIG=$(hack/deploy-local.sh | tail -1)
	export KUBECONFIG
fi
hack/database.sh up
"$KUBECTL" apply --server-side --filename examples/hotspot/credentialprovider.yaml
# The specs wait most of the time, so more of them run at once than there are cores.
options=(--procs 4 --timeout 45m)
[[ -t 1 ]] || options+=(--no-color)
"$ginkgo" run "${options[@]}" "$@" ./test/e2e
