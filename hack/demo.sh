#!/usr/bin/env bash
# Shows Tenantry at work: `demo.sh up` deploys the operator, makes the sample tenants and runs the sample application's
# jobs for them; `demo.sh down` takes it all away. On the cluster that KUBECONFIG names, else on a local one of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

KUBECTL=${KUBECTL:-kubectl}
own_cluster=$([[ -n ${KUBECONFIG:-} ]] && echo false || echo true)
tenants=(acme globex initech)
suspended=initech

if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi
step=0
heading() {
	step=$((step + 1))
	printf '\n%s%d. %s%s\n' "$bold" "$step" "$*" "$plain"
}
say() { printf '   %s\n' "$*"; }

# show prints a command as one would type it, and what it answers.
show() {
	printf '   $ kubectl %s\n' "$*"
	"$KUBECTL" "$@" 2>&1 | sed 's/^/   /' || fail "that should have worked"
}

# quietly runs kubectl and prints only what goes wrong.
quietly() {
	local output
	output=$("$KUBECTL" "$@" 2>&1) || fail "kubectl $*: $output"
}

# fail says what was expected and did not happen, with what a person would look at next.
fail() {
	printf '\n%sThe demo failed:%s %s\n\n' "$bold" "$plain" "$*" >&2
	{
		"$KUBECTL" get tenants,tenantjobs,jobs,pods --all-namespaces || true
		"$KUBECTL" logs --namespace tenantry-system deployment/tenantry-controller-manager --tail 30 || true
	} >&2 2>&1
	exit 1
}

# sample_jobs prints namespace/name of every TenantJob in config/samples/jobs.
sample_jobs() {
	"$KUBECTL" get --kustomize config/samples/jobs --output \
		jsonpath='{range .items[?(@.kind=="TenantJob")]}{.metadata.namespace}/{.metadata.name}{"\n"}{end}'
}

# expect NAMESPACE/NAME PATTERN waits until status and reason of the TenantJob's condition Succeeded match, and fails when
# it has ended otherwise or the time is over.
expect() {
	local outcome deadline=$((SECONDS + 300))
	while true; do
		outcome=$("$KUBECTL" get tenantjob "${1#*/}" --namespace "${1%/*}" \
			--output jsonpath='{range .status.conditions[?(@.type=="Succeeded")]}{.status} {.reason}: {.message}{end}')
		# shellcheck disable=SC2053 # it is a pattern
		if [[ $outcome == $2 ]]; then return; fi
		if [[ $outcome == True* || $outcome == False* ]] || ((SECONDS > deadline)); then
			fail "TenantJob $1 should come to '$2', and is at '$outcome'"
		fi
		sleep 1
	done
}

up() {
	heading "A cluster with the operator"
	if $own_cluster; then
		say "A real one-node Kubernetes, built from Go modules. The first time takes some minutes."
		KUBECONFIG=$(hack/deploy-local.sh 2> >(sed 's/^/   /' >&2) | tail -1)
		export KUBECONFIG
	else
		say "Yours: $("$KUBECTL" config current-context)."
		hack/deploy.sh | sed 's/^/   /'
	fi
	show get pods --namespace tenantry-system

	# Of an earlier demo. In the foreground, so that their Jobs are gone, too, when the next of that name are made.
	quietly delete --kustomize config/samples/jobs --ignore-not-found --cascade=foreground --timeout 2m

	heading "Tenants, and the jobs that there are for them"
	show apply --server-side --kustomize config/samples
	for tenant in "${tenants[@]}"; do
		quietly wait "tenant/$tenant" --for condition=Ready --timeout 2m
	done
	say "Each tenant has a namespace now, an identity without rights, quotas and network policies:"
	show get serviceaccounts,resourcequotas,limitranges,networkpolicies,rolebindings --namespace tenant-acme

	heading "Tenant $suspended has not paid, and is suspended"
	show patch tenant "$suspended" --type merge --patch '{"spec":{"suspend":true}}'
	quietly wait "tenant/$suspended" --for condition=Suspended --timeout 2m

	heading "Every tenant gets work"
	show apply --server-side --kustomize config/samples/jobs

	heading "For the suspended tenant nothing starts: its job waits"
	local job jobs
	jobs=$(sample_jobs)
	for job in $(grep "^tenant-$suspended/" <<<"$jobs"); do
		expect "$job" "Unknown TenantSuspended*"
	done
	show get tenantjobs --namespace "tenant-$suspended"
	if [[ -n $("$KUBECTL" get pods --namespace "tenant-$suspended" --output name) ]]; then
		fail "tenant $suspended is suspended and has pods"
	fi

	heading "A job for globex in the namespace of acme: the classic leak"
	mismatch

	heading "The others run to their end, each as its own tenant"
	for job in $(grep -v "^tenant-$suspended/" <<<"$jobs"); do
		finish "$job"
	done

	heading "What there is now"
	quietly wait tenants --all --for jsonpath='{.status.running}'=0 --timeout 1m
	show get tenants
	show get tenantjobs --all-namespaces

	goodbye
}

# mismatch tries it. Either the API server refuses it, or the operator does.
mismatch() {
	local answer
	printf '   $ kubectl create -f - # namespace: tenant-acme, spec.tenantRef: {name: globex}\n'
	if answer=$("$KUBECTL" create --filename - 2>&1 <<-'YAML'
		apiVersion: tenantry.dev/v1alpha1
		kind: TenantJob
		metadata:
		  namespace: tenant-acme
		  name: wrong-tenant
		spec:
		  tenantRef: {name: globex}
		  templateRef: {name: check-expired-sessions}
	YAML
	); then
		expect tenant-acme/wrong-tenant "False TenantMismatch*"
		show get tenantjob wrong-tenant --namespace tenant-acme --output wide
		quietly delete tenantjob wrong-tenant --namespace tenant-acme
	elif [[ $answer == *tenantRef* ]]; then
		printf '   %s\n' "$answer"
	else
		fail "a TenantJob of the wrong tenant should be refused for its spec.tenantRef: $answer"
	fi
}

# finish NAMESPACE/NAME waits for the end of the TenantJob and shows what its pod said.
finish() {
	local namespace=${1%/*} name=${1#*/} log
	local tenant=${namespace#tenant-}
	expect "$1" "True Completed*"
	log=$("$KUBECTL" logs "job/$name" --namespace "$namespace" 2>&1) || fail "reading the log of $1: $log"
	printf '   %s%s%s\n' "$bold" "$1" "$plain"
	sed 's/^/     /' <<<"$log"
	if [[ $log != *"tenant=$tenant "* || ${log//tenant=$tenant /} == *tenant=* ]]; then
		fail "the log of $1 should speak of $tenant and of nobody else"
	fi
}

goodbye() {
	heading "Look around"
	if $own_cluster; then say "export KUBECONFIG=$KUBECONFIG"; fi
	if ! command -v kubectl >/dev/null; then say "export PATH=\$PATH:$(dirname "$KUBECTL")"; fi
	say "kubectl get tenantry --all-namespaces                 # everything of Tenantry's"
	say "kubectl describe tenant acme"
	say "kubectl get tenantjobs -A -l tag.tenantry.dev/payment=8231"
	say "kubectl patch tenant $suspended --type merge --patch '{\"spec\":{\"suspend\":false}}'   # and its job runs"
	if $own_cluster; then say "make demo-down                                        # to stop"; else
		say "make demo-down                                        # to remove the sample tenants and the operator"
	fi
}

down() {
	if $own_cluster; then
		hack/cluster.sh down
		return
	fi
	# Tenants need the operator to go, so it goes last.
	"$KUBECTL" delete --ignore-not-found --kustomize config/samples/jobs --timeout 2m
	"$KUBECTL" delete --ignore-not-found --kustomize config/samples --timeout 5m
	make --no-print-directory undeploy ignore-not-found=true
}

case ${1:-} in
up) up ;;
down) down ;;
*)
	echo "usage: $0 up|down" >&2
	exit 2
	;;
esac
