#!/usr/bin/env bash
# Replays recorded exchanges with a reference server against a development
# server of Keyturn, with a PostgreSQL of its own, and prints the totals.
#
#   test/conformance.sh [SUITE...]
#
# The recordings are in CONFORMANCE_DIR (../shared/conformance by default), the
# program that replays them beside it in tools/conform. Where they are not
# there, the script says so and succeeds.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}

suites=("$@")
[ $# -gt 0 ] || suites=(sys-status sys-mounts kv1 kv2 policies tokens leases-database wrapping-cubbyhole aws)

dir=${CONFORMANCE_DIR:-../shared/conformance}
tool=$dir/../tools/conform
if [ ! -d "$dir" ] || [ ! -d "$tool" ]; then
	if [ -n "${CONFORMANCE_DIR:-}" ]; then
		echo "conformance: $dir or $tool is not there, and CONFORMANCE_DIR asks for it" >&2
		exit 1
	fi
	echo "conformance: not run: no recordings in $dir (set CONFORMANCE_DIR)"
	exit 0
fi
dir=$(cd "$dir" && pwd)
tool=$(cd "$tool" && pwd)
if ! ls cmd/keyturn/*.go internal/server/*.go >/dev/null 2>&1; then
	echo "conformance: not run: this tree has no server yet"
	exit 0
fi
files=()
for s in "${suites[@]}"; do
	[ -f "$dir/$s.json" ] || { echo "conformance: no $dir/$s.json" >&2; exit 1; }
	files+=("$dir/$s.json")
done

tmp=$(mktemp -d)
server="" data="" aws=""
cleanup() {
	[ -z "$server" ] || { kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; } || true
	[ -z "$aws" ] || { kill "$aws" 2>/dev/null; wait "$aws" 2>/dev/null; } || true
	[ -z "$data" ] || as_postgres "$pgbin/pg_ctl" -D "$data" -m immediate -w stop >/dev/null 2>&1 || true
	rm -rf "$tmp"
}
trap cleanup EXIT

# PostgreSQL refuses to run as root.
as_postgres() {
	if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}
free_port() {
	"$go" run ./test/freeport
}

echo "conformance: building"
"$go" build -o "$tmp/keyturn" ./cmd/keyturn
"$go" build -o "$tmp/awsserver" ./test/awsserver
"$go" build -C "$tool" -o "$tmp/conform" .

pgbin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$pgbin" ] || pgbin=$(dirname "$(command -v initdb)")
chmod 755 "$tmp"
data=$tmp/pg
mkdir "$data"
[ "$(id -u)" != 0 ] || chown postgres "$data"
printf 'pgpass\n' >"$tmp/pgpass"
chmod 644 "$tmp/pgpass"
as_postgres "$pgbin/initdb" -D "$data" -U postgres --pwfile="$tmp/pgpass" -A scram-sha-256 -N >"$tmp/initdb.log" 2>&1 || { cat "$tmp/initdb.log" >&2; exit 1; }
pgport=$(free_port)
as_postgres "$pgbin/pg_ctl" -D "$data" -l "$data/log" -w -o "-h 127.0.0.1 -p $pgport -k '$data' -c fsync=off" start >/dev/null || { cat "$data/log" >&2; exit 1; }

port=$(free_port)
"$tmp/keyturn" server -dev -dev-root-token-id=root -dev-listen-address="127.0.0.1:$port" </dev/null >"$tmp/server.log" 2>&1 &
server=$!
export VAULT_ADDR=http://127.0.0.1:$port
for try in $(seq 100); do
	if "$tmp/keyturn" status >/dev/null 2>&1; then break; fi
	if ! kill -0 "$server" 2>/dev/null || [ "$try" = 100 ]; then
		echo "conformance: the server does not answer at $VAULT_ADDR; its output:" >&2
		cat "$tmp/server.log" >&2
		exit 1
	fi
	sleep 0.1
done

mkfifo "$tmp/never" # awsserver ends with its input
"$tmp/awsserver" <>"$tmp/never" >"$tmp/aws.url" 2>"$tmp/aws.log" &
aws=$!
for try in $(seq 100); do [ ! -s "$tmp/aws.url" ] || break; sleep 0.1; done
[ -s "$tmp/aws.url" ] || { echo "conformance: the AWS server did not start" >&2; cat "$tmp/aws.log" >&2; exit 1; }

"$tmp/conform" check -addr "$VAULT_ADDR" -token root -var "postgres=127.0.0.1:$pgport/postgres" -var "aws=$(cat "$tmp/aws.url")" "${files[@]}"
