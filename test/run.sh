#!/usr/bin/env bash
# The tiers of the tests: test/run.sh [TIER…], all of them when none is named.
#
#   check            gofmt, vet, staticcheck, idl diff
#   unit             every package with -race, the import arrows among them; needs nothing but loopback
#   contract         tag integration: the stores and Kafka on real servers
#   e2e-standalone   tag e2e: real processes and public ports, one process
#   e2e-cluster      the same suite, two gates and two logic nodes over MariaDB, Redis and Kafka
#   fault            the same under kill -9, cuts and stalls
#   fuzz             each fuzz target for FUZZTIME (10s), all of them within FUZZ_BUDGET seconds (240)
#
# Servers whose addresses are in the environment are used (deploy/servers/up.sh --help); others are started in a
# directory of this run and stopped at its end. A tier that fails does not keep the next from running; absent
# servers do. GOTESTFLAGS is handed to every go test but those of fuzz, such as GOTESTFLAGS='-run Login -v'.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

all=(check unit contract e2e-standalone e2e-cluster fault fuzz)
# Seconds that a tier may take; a machine may need three times what a quiet one does.
declare -A budget=([build]=600 [servers]=480 [check]=600 [unit]=900 [contract]=420 [e2e-standalone]=420 [e2e-cluster]=420
	[fault]=600 [fuzz]=600)
tags=integration,e2e # of all tiers
servers=$PWD/.cache/servers/test-$$
child="" current="" begin=0 # the tier that runs
names=() results=() times=()
read -r -a testflags <<<"${GOTESTFLAGS:-}"

# ---- tiers ------------------------------------------------------------------------------------

tier_build() {
	./deploy/build.sh ./... && mkdir -p bin && ./deploy/build.sh -o bin/gatepost ./cmd/gatepost
}

tier_servers() { ./deploy/servers/up.sh --dir "$servers" "${needed[@]}"; }

tier_check() {
	local unformatted code=0
	unformatted=$(find . -name '*.go' -not -path './.*' -not -path './idl/gen/*' -print0 | xargs -0 gofmt -l)
	if [[ -n $unformatted ]]; then
		printf 'not formatted by gofmt:\n%s\n' "$unformatted"
		code=1
	fi
	echo "vet" && go vet ./... || code=1
	echo "vet -tags $tags" && go vet -tags "$tags" ./... || code=1
	echo "staticcheck" && go tool staticcheck -tags "$tags" ./... || code=1
	echo "idl diff" && make idl-check || code=1
	return "$code"
}

tier_unit() {
	export CGO_ENABLED=1
	./deploy/build.sh -race ./... && go test -p 2 -race -timeout 9m "${testflags[@]}" ./...
}

# Only packages with a test of their own for this tag: the others ran as unit tests.
tier_contract() {
	local packages
	mapfile -t packages < <(tagged integration)
	((${#packages[@]})) || { echo "no test has the tag integration"; return 1; }
	go test -p 2 -count=1 -timeout 6m -tags integration "${testflags[@]}" "${packages[@]}"
}

tier_e2e-standalone() { GATEPOST_TEST_E2E=standalone go test -count=1 -timeout 6m -tags e2e "${testflags[@]}" ./test/e2e/...; }
tier_e2e-cluster() { GATEPOST_TEST_E2E=cluster go test -count=1 -timeout 6m -tags e2e "${testflags[@]}" ./test/e2e/...; }
tier_fault() { go test -p 1 -count=1 -timeout 9m -tags e2e "${testflags[@]}" ./test/fault/...; }

tier_fuzz() {
	local package target targets=() entry seconds code=0
	for package in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./...); do
		while read -r target; do
			targets+=(".${package#"$PWD"} $target")
		done < <(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)([a-z]* \*testing\.F).*/\1/p' "$package"/*_test.go | sort -u)
	done
	((${#targets[@]})) || { echo "there is no fuzz target"; return 1; }
	seconds=${FUZZTIME:-10s}
	seconds=${seconds%s}
	((seconds * ${#targets[@]} <= ${FUZZ_BUDGET:-240})) || seconds=$((${FUZZ_BUDGET:-240} / ${#targets[@]}))
	((seconds >= 2)) || seconds=2
	echo "${#targets[@]} targets, $seconds s each"
	for entry in "${targets[@]}"; do
		read -r package target <<<"$entry"
		echo "fuzz $package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${seconds}s" -timeout 5m "$package" | sed '/^fuzz: elapsed/d' || code=1
	done
	return "$code"
}

# tagged TAG: the packages with a test file that is built only with TAG.
tagged() {
	find . -name '*_test.go' -not -path '*/testdata/*' -not -path './.*' -print0 |
		xargs -0 grep -lE "^//go:build ([^!]*[^!a-z0-9_])?$1\b" | xargs -r -n1 dirname | sort -u
}

# ---- running them -----------------------------------------------------------------------------

# run TIER: in a process group of its own, within its budget. Notes the result and how long it took.
run() {
	local tier=$1 code=0
	current=$tier begin=$SECONDS
	printf '\n==== %s (at most %d s)\n' "$tier" "${budget[$tier]}"
	timeout --kill-after=20 "${budget[$tier]}" bash "$0" --tier "$tier" "$servers" "${needed[@]}" &
	child=$!
	wait "$child" || code=$?
	child=
	((code != 124 && code != 137)) || echo "$tier was stopped: it took longer than ${budget[$tier]} s"
	names+=("$tier") times+=("$((SECONDS - begin))")
	if ((code)); then results+=(FAILED); else results+=(ok); fi
	printf -- '---- %s: %s after %d s\n' "$tier" "${results[-1]}" "${times[-1]}"
	return "$code"
}

# shellcheck disable=SC2329
finish() {
	local code=$? i
	trap - EXIT
	trap '' INT TERM HUP
	if [[ -n $child ]]; then
		kill -TERM "$child" 2>/dev/null && echo "stopping" && wait "$child" || true
		names+=("$current") times+=("$((SECONDS - begin))") results+=(stopped)
		code=$((code ? code : 1))
	fi
	[[ ! -d $servers ]] || ./deploy/servers/down.sh --dir "$servers" || code=1
	if ((${#names[@]})); then
		printf '\n%-16s %-8s %s\n' tier result seconds
		for i in "${!names[@]}"; do
			printf '%-16s %-8s %7d\n' "${names[i]}" "${results[i]}" "${times[i]}"
			[[ ${results[i]} == ok ]] || code=$((code ? code : 1))
		done
		for tier in "${tiers[@]}"; do
			[[ " ${names[*]} " == *" $tier "* ]] || printf '%-16s %-8s\n' "$tier" "not run"
		done
		printf '%-16s %-8s %7d\n' all "$( ((code)) && echo FAILED || echo ok)" "$SECONDS"
	fi
	exit "$code"
}

# need_compiler: the race detector links C.
need_compiler() {
	local cc
	cc=$(go env CC)
	command -v "${cc%% *}" >/dev/null && return
	bash -c '. deploy/servers/lib.sh; can_install || die "go test -race needs a C compiler (Debian: gcc libc6-dev): install it, or be root on Debian"
		say "installing gcc for the race detector"; apt_install gcc libc6-dev'
}

if [[ ${1:-} == --tier ]]; then
	tier=$2 servers=$3
	needed=("${@:4}")
	"tier_$tier"
	exit
fi

tiers=("$@")
((${#tiers[@]})) || tiers=("${all[@]}")
needed=()
for tier in "${tiers[@]}"; do
	[[ " ${all[*]} " == *" $tier "* ]] || { echo "there is no tier \"$tier\"; there are: ${all[*]}" >&2; exit 2; }
	case $tier in
	contract) needed=(mariadb redis redis-cluster kafka) ;;
	e2e-cluster | fault) ((${#needed[@]})) || needed=(mariadb redis kafka) ;;
	esac
done
command -v go >/dev/null || { echo "Go is missing: https://go.dev/dl, the version stands in go.mod" >&2; exit 1; }

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if ((${#needed[@]})); then
	# Servers first: without them the run fails at once, not after all that needs none.
	run servers || exit 1
	# shellcheck disable=SC1091
	. "$servers/env"
fi
if [[ " ${tiers[*]} " == *" unit "* ]]; then need_compiler; fi
run build || exit 1
export GATEPOST_TEST_BIN=$PWD/bin/gatepost
failed=0
for tier in "${tiers[@]}"; do
	run "$tier" || failed=1
done
exit "$failed"
