#!/usr/bin/env bash
# Starts a MariaDB, a Redis and a Kafka of its own, audits a cluster over them under faults, and prints the verdict.
#   deploy/audit.sh [FLAGS OF gatepost audit…]
# Without --duration or --messages the traffic lasts 60 s, without --fault-every a fault comes about every second, without --seed the seed is
# new; it stands in the report.
# Exit code 0: PASS. Otherwise the servers are stopped and what they wrote stays. Environment: GATEPOST (bin/gatepost).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

gatepost=${GATEPOST:-bin/gatepost}
servers=.cache/servers/audit
[[ -x $gatepost ]] || { echo "$gatepost is not there: make build" >&2; exit 1; }
# Servers of others, to which these would point, are not to be killed.
unset GATEPOST_TEST_MYSQL GATEPOST_TEST_REDIS GATEPOST_TEST_REDIS_CLUSTER GATEPOST_TEST_KAFKA

defaults=(--seed "$(date +%s)" --fault-every 1s)
case " $* " in
*' --duration'[\ =]* | *' --messages'[\ =]*) ;;
*) defaults+=(--duration 60s) ;;
esac

passed=0
# shellcheck disable=SC2329
stop() {
	trap - EXIT
	trap '' INT TERM
	if ((passed)); then
		./deploy/servers/down.sh --dir "$servers"
	else
		./deploy/servers/down.sh --dir "$servers" --keep
		echo "what the servers wrote stays in $servers: deploy/servers/up.sh --dir $servers starts them again, down.sh removes it" >&2
	fi
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

./deploy/servers/up.sh --dir "$servers" mariadb redis kafka
"$gatepost" audit --faults --backing "$servers" "${defaults[@]}" "$@"
passed=1
