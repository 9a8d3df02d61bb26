#!/usr/bin/env bash
# Installs what is missing and starts real servers on free ports of loopback. See usage.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
	cat <<-'END'
		up.sh [--dir DIR] [mariadb] [redis] [redis-cluster] [kafka]     (none named: all)

		Starts servers for tests, benches and people, on free ports, with everything they write in DIR
		(.cache/servers/default), and leaves DIR/env to be sourced:

		  GATEPOST_TEST_MYSQL            a DSN with the right to create databases: root@tcp(127.0.0.1:PORT)/
		  GATEPOST_TEST_REDIS            host:port
		  GATEPOST_TEST_REDIS_CLUSTER    host:port,host:port,host:port
		  GATEPOST_TEST_KAFKA            host:port
		  GATEPOST_TEST_SERVERS          DIR

		An address that is in the environment already is used as it is, and nothing is started for it.
		A server that runs already stays. What is missing is installed when this is root on Debian, or CI=true
		with sudo: mariadb-server, redis-server, a Java 17 and Maven; Kafka's jars are kept in $GATEPOST_TEST_CACHE (~/.cache/gatepost).
		down.sh stops them, status.sh tells which run.
	END
}

declare -A FLAGS=()
options "$@"
mapfile -t kinds < <(kinds_of "${ARGS[@]}")
((${#kinds[@]})) || exit 1
mkdir -p "$DIR"
lock_dir

for kind in "${kinds[@]}"; do
	home=$DIR/$kind
	variable=$(variable_of "$kind")
	given=${!variable:-}
	mkdir -p "$home"
	if [[ -n $given && $given != "$(cat "$home/address" 2>/dev/null)" ]]; then
		running "$kind" && die "$kind runs in $DIR already, and $variable names another: stop it first (down.sh --dir $DIR $kind)"
		echo "$given" >"$home/address"
		touch "$home/given"
	fi
	if [[ -n $given && -e $home/given ]]; then
		say "$kind: using $given, as $variable says"
		continue
	fi
	rm -f "$home/given"
	if running "$kind"; then
		say "$kind: runs already on $(cat "$home/address")"
		continue
	fi
	begin=${EPOCHREALTIME/./}
	of "$kind" need
	of "$kind" up "$home"
	took=$(((${EPOCHREALTIME/./} - begin) / 1000))
	say "$kind: ready on $(cat "$home/address") after $((took / 1000)).$(printf %03d $((took % 1000))) s"
done
write_env
say "addresses for the tests: . $DIR/env"
