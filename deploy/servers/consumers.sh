#!/usr/bin/env bash
# Installs Kafka consumers that are not ours, for tests. See usage.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
	cat <<-'END'
		consumers.sh

		Makes sure that kcat and Kafka's own tools, which are written in Java, are there, and prints two lines: the path of kcat,
		and the folder of the jars, among them org.apache.kafka.tools.consumer.ConsoleConsumer. Starts nothing.
		What is missing is installed when this is root on Debian, or CI=true with sudo: kcat, a Java 17 and Maven;
		the jars are those of the broker that up.sh starts, kept in $GATEPOST_TEST_CACHE (~/.cache/gatepost).
	END
}

case ${1:-} in
"") ;;
-h | --help) usage && exit 0 ;;
*) usage >&2 && exit 2 ;;
esac

if ! command -v kcat >/dev/null; then
	can_install || die "kcat is missing (Debian: kcat): install it, or be root on Debian"
	say "installing kcat"
	apt_install kcat
	hash -r
fi
kafka_need
command -v kcat
kafka_libs
