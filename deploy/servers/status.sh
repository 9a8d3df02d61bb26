#!/usr/bin/env bash
# Tells which servers run. See usage.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
	cat <<-'END'
		status.sh [--dir DIR] [mariadb] [redis] [redis-cluster] [kafka]     (none named: all)

		One line for each: kind, state (running, given, stopped), address. Exit code 1 when one is stopped.
	END
}

declare -A FLAGS=()
options "$@"
mapfile -t kinds < <(kinds_of "${ARGS[@]}")
((${#kinds[@]})) || exit 1

code=0
for kind in "${kinds[@]}"; do
	home=$DIR/$kind
	if [[ -e $home/given ]]; then
		printf '%-14s given    %s\n' "$kind" "$(cat "$home/address")"
	elif running "$kind"; then
		printf '%-14s running  %s\n' "$kind" "$(cat "$home/address")"
	else
		printf '%-14s stopped\n' "$kind"
		code=1
	fi
done
exit "$code"
