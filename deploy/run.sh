#!/usr/bin/env bash
# Starts the platform in one process, plays the demo against its public ports, and leaves it running until Ctrl-C.
#   deploy/run.sh [--exit] [FLAGS OF gatepost standalone…]
# --exit stops it after the demo. Environment: DATA_DIR (data), GATEPOST (bin/gatepost).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

gatepost=${GATEPOST:-bin/gatepost}
data=${DATA_DIR:-data}
stay=1
if [[ ${1:-} == --exit ]]; then
	stay=0
	shift
fi
[[ -x $gatepost ]] || { echo "$gatepost is not there: make build" >&2; exit 1; }
(umask 077 && mkdir -p "$data")
log=$data/standalone.log
# Appended, because another run may be writing there: what is new begins behind what is old.
touch "$log"
old=$(stat -c %s "$log")
news() { tail -c "+$((old + 1))" "$log"; }

pid=
# shellcheck disable=SC2329
stop() {
	trap - EXIT
	trap '' INT TERM
	if [[ -n $pid ]] && kill -TERM "$pid" 2>/dev/null; then
		echo "stopping the platform"
		wait "$pid" || true
	fi
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A session of its own: Ctrl-C reaches this script, which stops the platform in order.
setsid "$gatepost" standalone --data-dir "$data" "$@" </dev/null >>"$log" 2>&1 &
pid=$!

for ((i = 0; i < 600; i++)); do
	ready=$(news | grep -a -m1 '^READY') && break
	if ! kill -0 "$pid" 2>/dev/null; then
		code=0
		wait "$pid" || code=$?
		pid=
		news | tail -n 20 >&2
		echo "the platform did not start. Flags of gatepost standalone go behind make run ARGS='…', another data directory into DATA_DIR" >&2
		exit "$((code ? code : 1))"
	fi
	sleep 0.1
done
[[ -n $ready ]] || { news | tail -n 20 >&2; echo "the platform was not ready after a minute" >&2; exit 1; }
echo "$ready"

# The demo ends with an error when a promise did not hold; without --exit it tells how to go on by hand.
if ((!stay)); then
	"$gatepost" demo --data-dir "$data" --exit
	exit 0
fi
"$gatepost" demo --data-dir "$data"
cat <<END

The platform stays up; its log is $log. Ctrl-C stops it. Its data stays in $data; the next make run finds it again.
END
wait "$pid"
