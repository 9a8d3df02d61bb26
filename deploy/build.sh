#!/usr/bin/env bash
# go build (or go vet) with a counter, because the first one compiles for minutes: build.sh [GO ARGUMENTS…] PACKAGES
# Everything that is no package name (errors, warnings) is shown as it comes. Exit code as go's.
set -euo pipefail

# What is in the build cache already is not told by -v: the total is an upper bound, reached by a cold build only.
arguments=()
for argument in "$@"; do
	case $argument in
	-race | -tags=* | ./* | .) arguments+=("$argument") ;;
	esac
done
total=$(go list -deps "${arguments[@]}" 2>/dev/null | wc -l) || total=0

counter() {
	local line count=0 told=0 begin=$SECONDS
	while IFS= read -r line; do
		if [[ $line == *[[:space:]:]* || $line != *[a-z]* ]]; then
			[[ -z $line ]] || printf '%s\n' "$line" >&2
			continue
		fi
		count=$((count + 1))
		if [[ -t 2 ]]; then
			printf '\r[build] %d of at most %d packages, %d s  %-50.50s' "$count" "$total" "$((SECONDS - begin))" "$line" >&2
		elif ((SECONDS - told >= 10)); then
			told=$SECONDS
			printf '[build] %d of at most %d packages, %d s\n' "$count" "$total" "$((SECONDS - begin))" >&2
		fi
	done
	[[ ! -t 2 ]] || ((!count)) || printf '\r\033[K' >&2
	((!count)) || printf '[build] %d packages compiled in %d s\n' "$count" "$((SECONDS - begin))" >&2
}

go build -v "$@" 2>&1 | counter
