#!/usr/bin/env bash
# Deploys the operator into the current cluster and waits until it is available. The nodes need to have its image, or be able
# to pull it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
KUBECTL=${KUBECTL:-kubectl}
namespace=tenantry-system
pods=(pods --namespace "$namespace" --selector control-plane=controller-manager)

# The image can change while its tag stays the same, so pods that run already are restarted.
old=$("$KUBECTL" get "${pods[@]}" --output name --ignore-not-found)
make --no-print-directory deploy
# shellcheck disable=SC2086 # one word for each pod
if [[ -n $old ]]; then "$KUBECTL" delete --namespace "$namespace" --ignore-not-found $old; fi
if "$KUBECTL" rollout status deployment/tenantry-controller-manager --namespace "$namespace" --timeout 3m; then exit 0; fi

"$KUBECTL" get pods,events --namespace "$namespace"
"$KUBECTL" logs "${pods[@]:1}" --tail 50 || true
echo "The operator did not start, see above." >&2
if "$KUBECTL" get "${pods[@]}" --output yaml | grep -Eq 'reason: (ErrImagePull|ImagePullBackOff|ErrImageNeverPull)'; then
	cat >&2 <<-'TEXT'
		The nodes do not have its image. Build the images and load them, with kind for example:
		  make docker-build
		  kind load docker-image tenantry.dev/tenantry:dev tenantry.dev/hotspot:dev
	TEXT
fi
exit 1
