#!/usr/bin/env bash
# All benches, RUNS times, taking turns, on servers that are started for them; a page with every run and pictures in docs/bench.
#   deploy/bench.sh [CASE…]      cases: see list below; all of them when none is named
# Environment:
#   RUNS (3)                     how often each case runs
#   DURATION (10s)               what of each load is measured
#   IDLE_WAIT (150s)             between the last login and the reading of memory in the case idle
#   DEPTH (10000000)             rows that wait in the cases limit-depth and depth; they are made once, in some minutes
#   RATES (500,1000,2000,4000,8000,12000,16000,20000)   of the picture
#   OUT (docs/bench/DATE-COMMIT.md), GATEPOST (bin/gatepost), GATEPOST_MARIADB_POOL (4G, or 1G on less than 12 GiB)
#   KEEP=1                       leaves the servers and what they wrote
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

gatepost=${GATEPOST:-bin/gatepost}
runs=${RUNS:-3}
duration=${DURATION:-10s}
depth=${DEPTH:-10000000}
rates=${RATES:-500,1000,2000,4000,8000,12000,16000,20000}
servers=$PWD/.cache/servers/bench
work=$PWD/.cache/bench/$(date -u +%Y%m%dT%H%M%S)-$$

say() { printf '[bench] %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
[[ -x $gatepost ]] || die "$gatepost is not there: make build"
[[ $runs =~ ^[1-9][0-9]*$ ]] || die "RUNS=$runs: must be a number above zero"

# The goal's load: 200 pairs, 8 messages in flight each, 200 bytes.
c2c=(bench c2c --pairs 200 --window 8 --size 200)
# The order is that of the page. The rows that wait are made in limit-depth, and have settled on the disk when depth runs.
list=(limit c2c-cluster c2c-standalone latency curve s2c-online s2c-durable c2s login login-new limit-depth idle depth delay-0ms delay-1ms delay-5ms delay-20ms)

# command_of CASE: the words of the command, a line each.
command_of() {
	local on=(--backing "${servers#"$PWD"/}") # as somebody would write it by hand
	case $1 in
	limit) set -- bench limit "${on[@]}" ;;
	c2c-cluster) set -- "${c2c[@]}" "${on[@]}" --duration "$duration" --limit ;;
	c2c-standalone) set -- "${c2c[@]}" --duration "$duration" --limit ;;
	latency) set -- bench latency "${on[@]}" --rate 1000 --duration "$duration" --limit ;;
	curve) set -- bench latency "${on[@]}" --rate "$rates" --duration "$duration" --pairs 200 --window 64 ;;
	s2c-online) set -- bench s2c "${on[@]}" --online --users 1000 --list 1000 --duration "$duration" ;;
	s2c-durable) set -- bench s2c "${on[@]}" --users 1000 --list 1000 --duration "$duration" ;;
	c2s) set -- bench c2s "${on[@]}" --clients 200 --size 200 --duration "$duration" --limit ;;
	login) set -- bench login "${on[@]}" --users 2000 --pull --duration "$duration" ;;
	login-new) set -- bench login "${on[@]}" --duration "$duration" ;;
	idle) set -- bench idle "${on[@]}" --connections 9000 --wait "${IDLE_WAIT:-150s}" ;;
	limit-depth) set -- bench limit "${on[@]}" --depth "$depth" --depth-database gatepost_bench_depth ;;
	depth) set -- "${c2c[@]}" "${on[@]}" --duration "$duration" --depth "$depth" --depth-database gatepost_bench_depth ;;
	delay-*) set -- "${c2c[@]}" "${on[@]}" --window 64 --duration "$duration" --commit-delay "${1#delay-}" ;;
	*) return 1 ;;
	esac
	printf '%s\n' "$@"
}

cases=("$@")
((${#cases[@]})) || cases=("${list[@]}")
for name in "${cases[@]}"; do
	[[ " ${list[*]} " == *" $name "* ]] || die "there is no case \"$name\"; there are: ${list[*]}"
done

if [[ -z ${GATEPOST_MARIADB_POOL:-} ]]; then
	memory=$(awk '/^MemTotal:/ { print int($2 / 1024 / 1024) }' /proc/meminfo 2>/dev/null || echo 0)
	GATEPOST_MARIADB_POOL=4G
	((memory >= 12)) || GATEPOST_MARIADB_POOL=1G
fi
export GATEPOST_MARIADB_POOL
# Servers of the tests' environment are not measured here: these are our own, and with their own settings.
unset GATEPOST_TEST_MYSQL GATEPOST_TEST_REDIS GATEPOST_TEST_REDIS_CLUSTER GATEPOST_TEST_KAFKA

child=
stop() {
	trap - EXIT
	trap '' INT TERM
	if [[ -n $child ]]; then
		kill -TERM "$child" 2>/dev/null || true
		wait "$child" 2>/dev/null || true
	fi
	if [[ ${KEEP:-} == 1 ]]; then
		say "the servers stay: deploy/servers/down.sh --dir $servers stops them"
	else
		deploy/servers/down.sh --dir "$servers" || true
	fi
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

deploy/servers/up.sh --dir "$servers" mariadb redis kafka
mkdir -p "$work"

# measure: runs words. In the background, so that a signal is heard at once.
measure() {
	"$gatepost" "${words[@]}" --json >"$file.json" 2>"$file.log" </dev/null &
	child=$!
	local code=0
	wait "$child" || code=$?
	child=
	return "$code"
}

again=
failed=0 done=0 all=$((runs * ${#cases[@]})) begin=$SECONDS
for ((run = 1; run <= runs; run++)); do
	for name in "${cases[@]}"; do
		place=0
		for i in "${!list[@]}"; do [[ ${list[i]} != "$name" ]] || place=$((10 + i)); done
		mapfile -t words < <(command_of "$name")
		file=$work/$place-$name.$run
		done=$((done + 1))
		say "$done of $all, $((SECONDS - begin)) s: run $run of $name: gatepost ${words[*]}"
		code=0
		measure || code=$?
		if ((code)) && [[ ! -s $file.json ]]; then # servers did not start, most likely for a port that another program took meanwhile
			reason=$(tail -n 1 "$file.log")
			say "run $run of $name gave no result, it is tried once more: $reason"
			mv "$file.log" "$file.first.log"
			again+=" Run $run of $name gave no result at first and was made once more: $reason."
			code=0
			measure || code=$?
		fi
		if ((code)); then
			failed=$((failed + 1))
			say "run $run of $name ended with $code:"
			tail -n 5 "$file.log" >&2
		fi
	done
done

commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
out=${OUT:-docs/bench/$(date -u +%Y-%m-%d)-$commit.md}
mkdir -p "$(dirname "$out")"
"$gatepost" bench report --from "$work" --out "$out" --commit "$commit" \
	--note "\`make bench\`: $runs runs of each case, $duration measured. MariaDB $(mariadbd --version 2>/dev/null | sed -n 's/.*Ver \([0-9.]*\).*/\1/p') with \`innodb_flush_log_at_trx_commit=1\` and a buffer pool of $GATEPOST_MARIADB_POOL, Redis $(redis-server --version 2>/dev/null | sed -n 's/.* v=\([0-9.]*\).*/\1/p'), one Kafka broker, all on loopback.$again"
sed -n '/^## Goals/,/^## /p' "$out" | sed '1,2d;/^## /d'
say "every run: $out; results and logs: $work"
((!failed)) || die "$failed runs ended with an error"
