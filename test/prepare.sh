#!/bin/sh
# Makes sure that what the tests run against is there. On Debian as root it
# installs what is missing; elsewhere it names it and fails.
set -eu

missing=""
need() { # need PACKAGE COMMAND...: the Debian package without which COMMAND fails
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}
postgres() { ls /usr/lib/postgresql/*/bin/initdb || command -v initdb; }
mariadb() { test -x /usr/sbin/mariadbd || command -v mariadbd; }
redis() { command -v redis-server || command -v valkey-server; }
bouncer() { test -x /usr/sbin/pgbouncer || command -v pgbouncer; }
proxy() { test -x /usr/sbin/haproxy || command -v haproxy; }
hvac() { /usr/bin/python3 -c 'import hvac'; }

check() {
	missing=""
	need gcc command -v gcc # the race detector links C
	need libc6-dev test -e /usr/include/stdlib.h
	need git command -v git
	need postgresql postgres
	need mariadb-server mariadb
	need redis-server redis
	need pgbouncer bouncer
	need haproxy proxy
	need prometheus command -v promtool # checks the alert rules
	need python3-hvac hvac
	need zsh command -v zsh # completion is typed in real shells
	need fish command -v fish
}

command -v "${GO:-go}" >/dev/null || {
	echo "prepare: no Go; install the version that go.mod names: https://go.dev/dl/" >&2
	exit 1
}

# The real Terraform provider of HashiCorp's, for machines that have Terraform: the newest that the Go module proxy
# serves, 3.3.1. Where it cannot be had, the test that runs it is skipped and says so.
provider() {
	command -v terraform >/dev/null || return 0
	[ ! -x bin/terraform-provider-vault ] || return 0
	echo "prepare: building HashiCorp's Terraform provider"
	mkdir -p bin
	GOFLAGS=-mod=mod GOBIN=$PWD/bin "${GO:-go}" install github.com/hashicorp/terraform-provider-vault@v1.9.1-0.20220225202911-91f40a2aed19 >bin/provider.log 2>&1 ||
		echo "prepare: it cannot be built; the test that runs it is skipped: $(tail -n 1 bin/provider.log)" >&2
}

cd "$(dirname "$0")/.."
check
[ -n "$missing" ] || { provider; exit 0; }
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo "prepare: installing$missing"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q
	# shellcheck disable=SC2086 # a list of packages
	# Their packages start a server each, which no test uses, unless the system says that it is not up.
	RUNLEVEL=1 apt-get install -q -y --no-install-recommends $missing
	check
fi
if [ -n "$missing" ]; then
	echo "prepare: missing:$missing (names of Debian packages); install them, or run as root on Debian" >&2
	exit 1
fi
provider
