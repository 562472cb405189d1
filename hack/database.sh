#!/usr/bin/env bash
# The billing database of the sample application, in a PostgreSQL.
#
#   database.sh up            brings it up, with the rows that the sample tenants begin with
#   database.sh query SQL     executes statements in it as a superuser, and prints what they return
#
# On the local cluster that TENANTRY_CLUSTER names, the server is a process beside the pods, which ends with the cluster. On
# another cluster, which KUBECONFIG names, it is the StatefulSet of config/samples/database. `up` prints one line and exits with
# status 3 where there is no PostgreSQL to be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=hack/cache.sh
source hack/cache.sh

KUBECTL=${KUBECTL:-kubectl}
cluster=${TENANTRY_CLUSTER_DIR:-$cache/clusters}/${TENANTRY_CLUSTER:-tenantry}
is_local=$([[ ${KUBECONFIG:-} == "$cluster/kubeconfig" ]] && echo true || echo false)
namespace=billing
operator_namespace=tenantry-system
name=billing-db.$namespace.svc
# Folder of the local server, inside and outside of the cluster's namespaces.
inside=/var/lib/billing-db
outside=$cluster/varlib/billing-db
sql=(internal/credential/postgres/tenantry.sql examples/hotspot/schema.sql)

build_database() { go_build . -ldflags "-s -w" -o "$1/" ./hack/database; }

program() {
	local folder files=(go.mod go.sum hack/database/*.go internal/credential/postgres/postgrestest/*.go)
	folder=$(cached database build_database "${files[@]}")
	printf '%s\n' "$folder/database"
}

# apply creates or changes the object in its standard input.
apply() { "$KUBECTL" apply --server-side --force-conflicts --filename - >/dev/null; }

# secret NAMESPACE NAME KEY=VALUE... makes a Secret. A value @FILE is the content of a file.
secret() {
	local namespace=$1 name=$2 entry arguments=()
	shift 2
	for entry in "$@"; do
		if [[ $entry == *=@* ]]; then arguments+=("--from-file=${entry%%=*}=${entry#*=@}"); else arguments+=("--from-literal=$entry"); fi
	done
	"$KUBECTL" create secret generic "$name" --namespace "$namespace" "${arguments[@]}" --dry-run=client --output yaml | apply
}

make_namespace() { "$KUBECTL" create namespace "$namespace" --dry-run=client --output yaml | apply; }

up_local() {
	local bin program
	program=$(program)
	if [[ ! -e $outside/ready ]]; then
		bin=$(hack/postgres.sh) || exit 3
		POSTGRES_BIN=$bin setsid hack/cluster.sh exec "$program" -dir "$inside" -listen 10.244.0.1 -name "$name" \
			serve "${sql[@]/#/$PWD/}" </dev/null >"$cluster/logs/billing-db.log" 2>&1 &
		local server=$!
		until [[ -e $outside/ready ]]; do
			kill -0 "$server" 2>/dev/null || die "The database did not start: $(tail -n 3 "$cluster/logs/billing-db.log")"
			sleep 0.1
		done
	fi
	make_namespace
	"$KUBECTL" apply --server-side --filename hack/database/service.yaml >/dev/null
	secret "$operator_namespace" billing-db-admin username=tenantry_login password=@"$outside/login-password"
	secret "$operator_namespace" billing-db-ca ca.crt=@"$outside/ca.crt"
}

up_elsewhere() {
	local work program
	program=$(program)
	make_namespace
	if ! "$KUBECTL" get secret billing-db-tls --namespace "$namespace" >/dev/null 2>&1; then
		work=$(mktemp -d)
		# shellcheck disable=SC2064 # the folder of now
		trap "rm -rf '$work'" EXIT
		"$program" -dir "$work/billing-db" -name "$name" secrets
		secret "$namespace" billing-db superuser-password=@"$work/billing-db/superuser-password" \
			login-password=@"$work/billing-db/login-password"
		secret "$operator_namespace" billing-db-admin username=tenantry_login password=@"$work/billing-db/login-password"
		secret "$operator_namespace" billing-db-ca ca.crt=@"$work/billing-db/ca.crt"
		# The last, since it says that the others are there.
		secret "$namespace" billing-db-tls tls.crt=@"$work/billing-db/tls.crt" tls.key=@"$work/billing-db/tls.key"
	fi
	"$KUBECTL" create configmap billing-db-init --namespace "$namespace" --from-file=10-tenantry.sql="${sql[0]}" \
		--from-file=20-schema.sql="${sql[1]}" --from-file=30-login.sh=hack/database/login.sh --dry-run=client --output yaml | apply
	"$KUBECTL" apply --server-side --kustomize config/samples/database >/dev/null
	"$KUBECTL" rollout status statefulset/billing-db --namespace "$namespace" --timeout 5m >/dev/null ||
		die "The database did not start: kubectl describe pods --namespace $namespace"
}

query() {
	if $is_local; then
		hack/cluster.sh exec "$(program)" -dir "$inside" query "$1"
	else
		"$KUBECTL" exec --namespace "$namespace" billing-db-0 -- psql --username postgres --dbname billing --quiet \
			--set ON_ERROR_STOP=1 --no-align --field-separator $'\t' --pset footer=off --command "$1"
	fi
}

case ${1:-} in
up)
	if $is_local; then up_local; else up_elsewhere; fi
	query "$(cat examples/hotspot/samples.sql)"
	;;
query) query "$2" ;;
*)
	echo "usage: $0 up|query SQL" >&2
	exit 2
	;;
esac
