#!/usr/bin/env bash
# Stops what up.sh started. See usage.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
	cat <<-'END'
		down.sh [--dir DIR] [--kill] [--keep] [mariadb] [redis] [redis-cluster] [kafka]     (none named: all)

		Stops servers, waits until they are gone, and removes what they wrote.
		  --kill   kill -9 instead of asking
		  --keep   leave data and port, so that the next up.sh brings the same server back
	END
}

declare -A FLAGS=([kill]=0 [keep]=0)
options "$@"
mapfile -t kinds < <(kinds_of "${ARGS[@]}")
((${#kinds[@]})) || exit 1
[[ -d $DIR ]] || exit 0
lock_dir

signal=TERM
((!FLAGS[kill])) || signal=KILL
for kind in "${kinds[@]}"; do
	home=$DIR/$kind
	[[ -d $home ]] || continue
	of "$kind" down "$home" "$signal"
	if ((!FLAGS[keep])); then
		of "$kind" forget "$home"
		rm -rf "$home"
	fi
done
write_env
for kind in "${KINDS[@]}"; do
	[[ ! -d $DIR/$kind ]] || exit 0
done
rm -rf "$DIR"
