#!/usr/bin/env bash
# A demonstration of Tenantry. `demo.sh up` deploys the operator, creates the sample tenants, and runs the jobs of the sample
# application in their database: for one tenant, for all tenants, on a schedule, and in a flood. `demo.sh down` removes everything. It uses the
# cluster of KUBECONFIG, or else a local one of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=hack/cache.sh
source hack/cache.sh

KUBECTL=${KUBECTL:-kubectl}
# The demo tells the user to export the local cluster's kubeconfig, so KUBECONFIG may name that.
local_kubeconfig=${TENANTRY_CLUSTER_DIR:-$cache/clusters}/${TENANTRY_CLUSTER:-tenantry}/kubeconfig
own_cluster=$([[ ${KUBECONFIG:-$local_kubeconfig} == "$local_kubeconfig" ]] && echo true || echo false)
tenants=(acme globex hooli soylent initech)
suspended=initech
failing=globex
flooding=hooli
# Those of one application, with a database or, where there is no PostgreSQL, without.
samples=examples/hotspot
# Why there is no database.
no_database=
# The label of everything that the demo creates in addition to the samples.
label=app.kubernetes.io/part-of=tenantry-demo
# The label of the sample tenants, by which the jobs of the demo select them: a cluster of the user's has others.
ours=app.kubernetes.io/part-of=hotspot

if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi
step=0
heading() {
	step=$((step + 1))
	printf '\n%s%d. %s%s\n' "$bold" "$step" "$*" "$plain"
}
say() { printf '   %s\n' "$*"; }

# show prints a kubectl command as a user would type it, runs it, and prints its output.
show() {
	local argument line='kubectl'
	for argument in "$@"; do
		if [[ $argument == *[^[:alnum:]_./:=,-]* ]]; then argument="'$argument'"; fi
		line+=" $argument"
	done
	printf '   $ %s\n' "$line"
	"$KUBECTL" "$@" 2>&1 | sed 's/^/   /' || fail "that should have worked"
}

# quietly runs kubectl and prints its output only if it fails.
quietly() {
	local output
	output=$("$KUBECTL" "$@" 2>&1) || fail "kubectl $*: $output"
}

# fail prints what was expected and did not happen, and the objects and logs that a user would read next.
fail() {
	printf '\n%sThe demo failed:%s %s\n\n' "$bold" "$plain" "$*" >&2
	{
		"$KUBECTL" get tenants,tenantschedules,tenantfanouts,tenantqueues || true
		"$KUBECTL" get tenantjobs,jobs,pods --all-namespaces || true
		"$KUBECTL" logs --namespace tenantry-system deployment/tenantry-controller-manager --tail 30 || true
	} >&2 2>&1
	exit 1
}

# sample_jobs prints namespace/name of every TenantJob in config/samples/jobs.
sample_jobs() {
	"$KUBECTL" get --kustomize config/samples/jobs --output \
		jsonpath='{range .items[?(@.kind=="TenantJob")]}{.metadata.namespace}/{.metadata.name}{"\n"}{end}'
}

# expect NAMESPACE/NAME PATTERN waits until status, reason and message of the TenantJob's condition Succeeded match. It fails
# if the TenantJob has ended otherwise, or after five minutes.
expect() { await "TenantJob $1" "$2" tenantjob "${1#*/}" --namespace "${1%/*}"; }

# expect_fan_out NAME PATTERN does the same for a fan-out.
expect_fan_out() { await "TenantFanOut $1" "$2" tenantfanout "$1"; }

await() {
	local what=$1 pattern=$2 outcome deadline=$((SECONDS + 300))
	shift 2
	while true; do
		outcome=$("$KUBECTL" get "$@" \
			--output jsonpath='{range .status.conditions[?(@.type=="Succeeded")]}{.status} {.reason}: {.message}{end}')
		# shellcheck disable=SC2053 # $pattern is a glob pattern
		if [[ $outcome == $pattern ]]; then return; fi
		if [[ $outcome == True* || $outcome == False* ]] || ((SECONDS > deadline)); then
			fail "$what should come to '$pattern', and is at '$outcome'"
		fi
		sleep 1
	done
}

# make_shown prints the manifest from its standard input, and creates the objects in it.
make_shown() {
	local manifest
	manifest=$(cat)
	printf '   $ kubectl create -f - <<EOF\n'
	sed 's/^/   /' <<<"$manifest"
	printf '   EOF\n'
	"$KUBECTL" create --filename - <<<"$manifest" 2>&1 | sed 's/^/   /' || fail "that should have worked"
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

	if ! $own_cluster; then refuse_others; fi
	# Objects of an earlier demo. Foreground deletion, so that their Jobs are gone before Jobs of the same names are created.
	remove_demo

	database

	heading "Tenants, and the jobs that there are for them"
	show apply --server-side --kustomize "$samples"
	for tenant in "${tenants[@]}"; do
		quietly wait "tenant/$tenant" --for condition=Ready --timeout 2m
	done
	say "Each tenant has a namespace now, an identity without rights, quotas and network policies:"
	show get serviceaccounts,resourcequotas,limitranges,networkpolicies,rolebindings --namespace tenant-acme

	quietly patch tenant "$failing" --type merge --patch '{"spec":{"attributes":{"maintenance":null}}}'

	heading "Tenant $suspended has not paid, and is suspended"
	show patch tenant "$suspended" --type merge --patch '{"spec":{"suspend":true}}'
	quietly wait "tenant/$suspended" --for condition=Suspended --timeout 2m

	if [[ -z $no_database ]]; then leak; fi

	heading "Each job has a schedule, which gives it to every tenant of the application"
	show get tenantschedules
	start_ticking

	heading "Some tenants get work of their own"
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

	heading "A job for globex in the namespace of acme does not run"
	mismatch

	heading "The others run to their end, each as its own tenant"
	for job in $(grep -v "^tenant-$suspended/" <<<"$jobs"); do
		finish "$job"
	done

	fan_out
	flood
	ticked

	heading "What there is now"
	quietly wait "${tenants[@]/#/tenant/}" --for jsonpath='{.status.running}'=0 --timeout 1m
	show get tenants
	show get tsch,tfo,tj --all-namespaces

	goodbye
}

# database brings up a PostgreSQL with the tables of the sample application.
database() {
	heading "A billing database, whose tables all tenants share"
	if $own_cluster; then say "A PostgreSQL beside the pods, with TLS and row security."; else
		say "A StatefulSet in the namespace billing, with TLS and row security."
	fi
	local status=0
	no_database=$(hack/database.sh up 2>&1 >/dev/null) || status=$?
	case $status in
	0) no_database='' ;;
	3)
		samples=config/samples
		say "It is left out: $no_database"
		;;
	*) fail "the database should have come up: $no_database" ;;
	esac
}

# leak runs the same job for one tenant and then for another one. Its statements do not name a tenant.
leak() {
	heading "The classic leak that does not happen: an UPDATE without WHERE tenant_id"
	show wait credentialprovider/billing-db --for condition=Ready --timeout 3m
	say "All tenants have subscriptions in one table, with the same ids. Ten of each tenant's are overdue. The job says this:"
	say "  UPDATE subscriptions SET status = 'expired' WHERE status = 'active' AND ends_on < \$1"
	# The schedule of this job may tick now.
	quietly patch tenantschedule check-expired-subscriptions --type merge --patch '{"spec":{"suspend":true}}'
	local tenant table
	table=$(expired TENANT BEFORE)
	for tenant in acme globex; do
		make_shown <<-YAML
			apiVersion: tenantry.dev/v1alpha1
			kind: TenantJob
			metadata: {namespace: tenant-$tenant, name: expire, labels: {${label/=/: }}}
			spec:
			  tenantRef: {name: $tenant}
			  templateRef: {name: check-expired-subscriptions}
		YAML
		finish "tenant-$tenant/expire"
		table=$(join --nocheck-order <(printf '%s' "$table") <(expired TENANT "AFTER-${tenant^^}'S-RUN"))
	done
	quietly patch tenantschedule check-expired-subscriptions --type merge --patch '{"spec":{"suspend":null}}'
	say "Subscriptions that are expired:"
	awk '{printf "     %-9s %-8s %-19s %s\n", $1, $2, $3, $4}' <<<"$table"
	local expected="acme 0 10 10|globex 0 0 10|hooli 0 0 0|initech 0 0 0|soylent 0 0 0"
	if [[ $(tail -n +2 <<<"$table" | paste -sd '|') != "$expected" ]]; then fail "each run should have changed its own tenant's rows only"; fi
	quietly wait tenantjob/expire --namespace tenant-globex --for 'jsonpath={.status.credentials[0].revocationTime}' --timeout 1m
	say "Each run logged in as a role of its own, which is its tenant to the database whatever the job sends. The roles are gone:"
	show get tenantjob expire --namespace tenant-globex --output \
		'jsonpath={range .status.credentials[*]}{.name} expires {.expirationTime}, revoked {.revocationTime}{"\n"}{end}'
	local roles
	roles=$(hack/database.sh query "SELECT count(*) AS roles FROM tenantry.runs WHERE namespace IN ('tenant-acme', 'tenant-globex')")
	if [[ ${roles//[^0-9]/} != 0 ]]; then fail "no role of a run should be left"; fi
}

# expired HEADING... prints a table of the tenants and the number of their subscriptions that are expired.
expired() {
	echo "$@"
	hack/database.sh query "SELECT c.name, count(*) FILTER (WHERE s.status = 'expired') FROM customers c JOIN subscriptions s
		USING (tenant_id) GROUP BY c.name ORDER BY c.name" | tail -n +2 | awk '{print $1, $2}'
}

# mismatch tries to create a TenantJob in another tenant's namespace. The API server refuses it.
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
	) || [[ $answer != *tenantRef* ]]; then
		fail "a TenantJob of the wrong tenant should be refused for its spec.tenantRef: $answer"
	fi
	printf '   %s\n' "$answer"
}

# finish NAMESPACE/NAME waits until the TenantJob has completed, and prints the log of its pod.
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

# fan_out runs one job for all tenants. One of them fails and one is skipped. Then it retries the one that failed.
fan_out() {
	heading "One job for each of these tenants: a fan-out, while the database of $failing is in maintenance"
	show patch tenant "$failing" --type merge --patch '{"spec":{"attributes":{"maintenance":"true"}}}'
	make_shown <<-YAML
		apiVersion: tenantry.dev/v1alpha1
		kind: TenantFanOut
		metadata: {name: stats, labels: {${label/=/: }}}
		spec:
		  templateRef: {name: update-dashboard-stats}
		  tenants: {selector: {matchLabels: {${ours/=/: }}}}
	YAML
	expect_fan_out stats "False SomeFailed*"
	show get tenantfanout stats
	say "Nobody is forgotten. Who did not succeed, and why:"
	# shellcheck disable=SC2016 # a Go template
	show get tenantfanout stats --output \
		'go-template={{range .status.unsuccessfulTenants}}{{.tenant}}: {{.reason}}: {{.message}}{{"\n"}}{{end}}'
	expect_counts stats "total=${#tenants[@]} succeeded=$((${#tenants[@]} - 2)) failed=1 skipped=1"
	expect_unsuccessful stats "$failing=JobFailed $suspended=TenantSuspended"
	show logs job/stats --namespace "tenant-$failing" --tail 1

	heading "The maintenance is over, and who failed is retried"
	show patch tenant "$failing" --type merge --patch '{"spec":{"attributes":{"maintenance":null}}}'
	make_shown <<-YAML
		apiVersion: tenantry.dev/v1alpha1
		kind: TenantFanOut
		metadata: {name: stats-retry, labels: {${label/=/: }}}
		spec:
		  templateRef: {name: update-dashboard-stats}
		  tenants: {retryOf: {name: stats}}
	YAML
	show wait tenantfanout/stats-retry --for condition=Succeeded --timeout 2m
	show get tenantfanout stats stats-retry
	expect_counts stats-retry "total=1 succeeded=1 failed=0 skipped=0"
	show get tenantjobs --all-namespaces --selector tenantry.dev/fan-out=stats-retry
}

# expect_counts NAME COUNTS fails unless the fan-out has these counters.
expect_counts() {
	local counts format='{range .status.counts}total={.total} succeeded={.succeeded}'
	format+=' failed={.failed} skipped={.skipped}{end}'
	counts=$("$KUBECTL" get tenantfanout "$1" --output jsonpath="$format")
	if [[ $counts != "$2" ]]; then fail "the counters of fan-out $1 should be '$2', and are '$counts'"; fi
}

# expect_unsuccessful NAME TENANT=REASON... fails unless exactly these tenants of the fan-out did not succeed.
expect_unsuccessful() {
	local list
	list=$("$KUBECTL" get tenantfanout "$1" --output jsonpath='{range .status.unsuccessfulTenants[*]}{.tenant}={.reason} {end}')
	if [[ ${list% } != "$2" ]]; then fail "fan-out $1 should name '$2', and names '$list'"; fi
}

# start_ticking creates a schedule for every minute, which the function ticked checks later. The schedule excludes the tenant
# that will be in maintenance for a while.
start_ticking() {
	say "And one for every minute, so that there is something to see:"
	make_shown <<-YAML
		apiVersion: tenantry.dev/v1alpha1
		kind: TenantSchedule
		metadata: {name: every-minute, labels: {${label/=/: }}}
		spec:
		  schedule: "* * * * *"
		  fanOutTemplate:
		    spec:
		      templateRef: {name: check-expired-sessions}
		      tenants: {selector: {matchLabels: {${ours/=/: }}}, exclude: [$failing]}
	YAML
}

# ticked checks the fan-outs that the schedule for every minute has created.
ticked() {
	heading "Meanwhile a minute has begun: the schedule's tick was a fan-out"
	quietly wait tenantschedule/every-minute --for condition=Ready --timeout 1m
	local deadline=$((SECONDS + 90)) fan_outs
	until [[ -n $("$KUBECTL" get tenantschedule every-minute --output jsonpath='{.status.lastScheduleTime}') ]]; do
		if ((SECONDS > deadline)); then fail "the schedule every-minute should have ticked by now"; fi
		sleep 1
	done
	show patch tenantschedule every-minute --type merge --patch '{"spec":{"suspend":true}}'
	fan_outs=$("$KUBECTL" get tenantfanouts --selector tenantry.dev/schedule=every-minute \
		--output jsonpath='{range .items[*]}{.metadata.name}{"\n"}{end}')
	local fan_out
	for fan_out in $fan_outs; do
		expect_fan_out "$fan_out" "True Completed*"
		expect_counts "$fan_out" "total=$((${#tenants[@]} - 1)) succeeded=$((${#tenants[@]} - 2)) failed=0 skipped=1"
	done
	if [[ -z $fan_outs ]]; then fail "the schedule every-minute says that it ticked, and there is no fan-out of it"; fi
	show get tenantfanouts --selector tenantry.dev/schedule=every-minute
}

# flood creates many TenantJobs of one tenant, then one of each of some others, and prints the order of their starts.
flood() {
	local many=30 others=(acme globex soylent) tenant i
	heading "A flood: $flooding has $many routers to set up, and the queue lets three at a time"
	for ((i = 1; i <= many; i++)); do router "$flooding" "flood-$i"; done | "$KUBECTL" create --filename - >/dev/null ||
		fail "the TenantJobs of $flooding should have been made"
	say "$many TenantJobs of $flooding wait in the queue provisioning. Now one for each of ${others[*]}:"
	for tenant in "${others[@]}"; do router "$tenant" single; done | "$KUBECTL" create --filename - 2>&1 | sed 's/^/   /' ||
		fail "the TenantJobs of ${others[*]} should have been made"
	for tenant in "${others[@]}"; do expect "tenant-$tenant/single" "True Completed*"; done
	say "These have ended. Who started when:"
	in_order_of_start $((many / 3))
	expect "tenant-$flooding/flood-$many" "Unknown Queued*"
	show get tenantjob "flood-$many" --namespace "tenant-$flooding" --output wide
	show get tenantqueue provisioning
	say "What is left of the flood is taken away:"
	printf '   $ kubectl delete tenantjobs --namespace tenant-%s --selector %s\n' "$flooding" "$label"
	quietly delete tenantjobs --namespace "tenant-$flooding" --selector "$label" --timeout 2m
}

# router TENANT NAME prints a TenantJob that sets up a router.
router() {
	cat <<-YAML
		---
		apiVersion: tenantry.dev/v1alpha1
		kind: TenantJob
		metadata: {namespace: tenant-$1, name: $2, labels: {${label/=/: }}}
		spec:
		  tenantRef: {name: $1}
		  templateRef: {name: router-provisioning}
		  parameters: {routerID: $2, runSeconds: "1"}
	YAML
}

# in_order_of_start MOST lists the jobs of the flood and the single jobs. It fails if more than MOST jobs of the flood started
# before a single job that was created earlier. Normally at most one does, but if schedules tick at that moment, a tenant can
# be at its own limit for a while.
in_order_of_start() {
	local columns=STARTED:.status.startTime,CREATED:.metadata.creationTimestamp,TENANT:.spec.tenantRef.name,NAME:.metadata.name
	"$KUBECTL" get tenantjobs --all-namespaces --selector "$label" --no-headers --output custom-columns="$columns" |
		sort | awk -v flooding="$flooding" -v most="$1" '
			$1 == "<none>" { waiting++; next }
			{ started[++n] = $1; created[n] = $2; tenant[n] = $3; name[n] = $4 }
			END {
				for (i = 1; i <= n; i++) {
					note = ""
					if (tenant[i] != flooding) {
						before = 0
						for (j = 1; j <= n; j++)
							if (tenant[j] == flooding && started[j] > created[i] && started[j] < started[i]) before++
						if (before > most) bad = 1
						note = "  <- made at " substr(created[i], 12, 8) ", " before " of the flood went first"
					}
					printf "     %s  %-8s %s%s\n", substr(started[i], 12, 8), tenant[i], name[i], note
				}
				printf "     and %d still wait\n", waiting
				exit bad
			}' || fail "a single job should not wait for more than a few of the flood"
}

goodbye() {
	heading "Look around"
	if $own_cluster; then say "export KUBECONFIG=$KUBECONFIG"; fi
	if ! command -v kubectl >/dev/null; then say "export PATH=\$PATH:$(dirname "$KUBECTL")"; fi
	say "kubectl get tenantry --all-namespaces                 # everything of Tenantry's"
	say "kubectl describe tenant acme"
	if [[ -z $no_database ]]; then
		say "kubectl get credentialproviders -o wide"
		say "hack/database.sh query 'SELECT * FROM users'          # as a superuser, who sees all tenants' rows"
	fi
	say "kubectl get tenantjobs -A -l tag.tenantry.dev/payment=8231"
	say "kubectl get tenantjobs -A -l tenantry.dev/fan-out=stats  # who ran in it, as long as it is there"
	say "kubectl patch tenant $suspended --type merge --patch '{\"spec\":{\"suspend\":false}}'   # and its job runs"
	if $own_cluster; then say "make demo-down                                        # to stop"; else
		say "make demo-down                                        # to remove the sample tenants and, if there are no others, the operator"
	fi
	if [[ -n $no_database ]]; then say "Left out: what the jobs do in their database. $no_database"; fi
}

# refuse_others fails if a Tenant has the name of a sample tenant and is not one.
refuse_others() {
	local tenant others
	others=$("$KUBECTL" get tenants --selector "${ours/=/!=}" --output jsonpath='{range .items[*]}{.metadata.name}{"\n"}{end}')
	for tenant in "${tenants[@]}"; do
		if grep -Fqx "$tenant" <<<"$others"; then
			fail "this cluster has a Tenant $tenant that is not the demo's, which would change it. If it is of an earlier demo, label it $ours"
		fi
	done
}

# remove_demo deletes the jobs of the samples and of the demo. Schedules first, since they create more.
remove_demo() {
	local gone=(--ignore-not-found --cascade=foreground --timeout 2m)
	quietly delete --filename config/samples/tenantry_v1alpha1_tenantschedule.yaml "${gone[@]}"
	quietly delete tenantschedules,tenantfanouts --selector "$label" "${gone[@]}"
	quietly delete tenantjobs --all-namespaces --selector "$label" "${gone[@]}"
	quietly delete --kustomize config/samples/jobs "${gone[@]}"
}

down() {
	if $own_cluster; then
		hack/cluster.sh down
		return
	fi
	refuse_others
	# Tenants are deleted by the operator, so the operator is removed last.
	remove_demo
	"$KUBECTL" delete --ignore-not-found --kustomize examples/hotspot --timeout 5m
	quietly delete namespace billing --ignore-not-found --timeout 5m
	quietly delete secrets billing-db-admin billing-db-ca --namespace tenantry-system --ignore-not-found
	local others
	others=$("$KUBECTL" get tenants --output name)
	if [[ -n $others ]]; then
		say "The operator stays, since there are other tenants: ${others//$'\n'/, }"
		return
	fi
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
