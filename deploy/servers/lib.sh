# Shared by up.sh, down.sh and status.sh: directories, processes, ports, packages. Sourced, never run.
# shellcheck shell=bash

SERVERS_HOME=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$SERVERS_HOME/../.." && pwd)
CACHE=${GATEPOST_TEST_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/gatepost}
KINDS=(mariadb redis redis-cluster kafka)

say() { printf '[servers] %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# kinds_of ARG…: the kinds named, all of them when none is named.
kinds_of() {
	local k
	(($#)) || { printf '%s\n' "${KINDS[@]}"; return; }
	for k in "$@"; do
		[[ " ${KINDS[*]} " == *" $k "* ]] || die "there is no server \"$k\"; there are: ${KINDS[*]}"
		printf '%s\n' "$k"
	done
}

# variable_of KIND: the environment variable that carries its address to the tests.
variable_of() {
	case $1 in
	mariadb) echo GATEPOST_TEST_MYSQL ;;
	redis) echo GATEPOST_TEST_REDIS ;;
	redis-cluster) echo GATEPOST_TEST_REDIS_CLUSTER ;;
	kafka) echo GATEPOST_TEST_KAFKA ;;
	esac
}

# lock_dir: one script at a time works on $DIR. The daemons do not inherit the descriptor.
lock_dir() {
	exec {LOCK}>"$DIR/lock"
	flock -w 300 "$LOCK" || die "another script has held $DIR/lock for five minutes"
}

# ---- processes -------------------------------------------------------------------------------

# proc_stat PID: state and start time, by /proc. The name in parentheses may hold anything.
proc_stat() {
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	stat=${stat##*) }
	# shellcheck disable=SC2086
	set -- $stat
	echo "$1 ${20}"
}

# alive HOME: whether the process of HOME/pid still runs. A zombie does not: who reaps it may be late.
# A number that was given to another process does not count either: the start time differs.
alive() {
	local pid start state now
	read -r pid start 2>/dev/null <"$1/pid" || return 1
	read -r state now < <(proc_stat "$pid") || return 1
	[[ $now == "$start" && $state != Z && $state != X ]]
}

# spawn HOME COMMAND…: starts a daemon in a session of its own, its output in HOME/log. It inherits no descriptor of ours.
spawn() {
	local home=$1 pid state start
	shift
	(
		for fd in "/proc/$BASHPID/fd/"*; do
			fd=${fd##*/}
			((fd > 2 && fd < 255)) && eval "exec $fd>&-"
		done
		cd "$home" || exit
		exec setsid "$@" </dev/null >>"$home/log" 2>&1
	) &
	pid=$!
	disown "$pid" 2>/dev/null || true
	read -r state start < <(proc_stat "$pid") || start=0
	: "$state"
	echo "$pid $start" >"$home/pid"
}

# wait_ready HOME NAME SECONDS COMMAND…: until COMMAND succeeds. Fails when the daemon ends or the time is over, with the tail of its log.
wait_ready() {
	local home=$1 name=$2 bound=$3 begin=$SECONDS told=$SECONDS
	shift 3
	until "$@" >/dev/null 2>&1; do
		if ! alive "$home"; then
			say "$name ended before it was ready"
			log_tail "$home"
			return 1
		fi
		if ((SECONDS - begin > bound)); then
			say "$name is not ready after $bound s"
			log_tail "$home"
			return 1
		fi
		if ((SECONDS - told >= 5)); then
			told=$SECONDS
			say "waiting for $name ($((SECONDS - begin)) s)"
		fi
		sleep 0.1
	done
}

log_tail() {
	say "the end of $1/log:"
	tail -n 30 "$1/log" >&2 || true
}

# stop HOME NAME SIGNAL: sends SIGNAL, waits until the process is gone, and kills it after half a minute.
stop() {
	local home=$1 name=$2 signal=$3 pid rest i
	if alive "$home"; then
		read -r pid rest <"$home/pid"
		: "$rest"
		kill "-$signal" "$pid" 2>/dev/null || true
		for ((i = 0; i < 300; i++)); do
			alive "$home" || break
			sleep 0.1
		done
		if alive "$home"; then
			say "$name does not stop, killing it"
			kill -KILL "$pid" 2>/dev/null || true
			for ((i = 0; i < 100; i++)); do
				alive "$home" || break
				sleep 0.1
			done
			alive "$home" && die "$name (process $pid) cannot be stopped"
		fi
		say "$name stopped"
	fi
	rm -f "$home/pid"
}

# ---- ports -----------------------------------------------------------------------------------

# port_free PORT: no socket of this machine is bound to it.
port_free() {
	local hex
	printf -v hex ':%04X' "$1"
	! awk -v p="$hex" 'FNR > 1 && substr($2, length($2) - 4) == p { found = 1; exit } END { exit !found }' \
		/proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# free_port [OFFSET]: a free port below the range from which the kernel gives its own; with OFFSET, port + OFFSET is free too.
free_port() {
	local port i
	for ((i = 0; i < 500; i++)); do
		port=$((15000 + RANDOM % 17000))
		port_free "$port" || continue
		[[ -z ${1:-} ]] || port_free "$((port + $1))" || continue
		echo "$port"
		return
	done
	die "no free port was found between 15000 and 32000"
}

# kept_port HOME [OFFSET]: the port of the last start when HOME was kept, a free one otherwise.
kept_port() {
	if [[ ! -s $1/port ]]; then
		free_port "${@:2}" >"$1/port"
	fi
	cat "$1/port"
}

# ---- packages --------------------------------------------------------------------------------

# as_root COMMAND…
as_root() {
	if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi
}

can_install() {
	[[ -e /etc/debian_version ]] && command -v apt-get >/dev/null || return 1
	((EUID == 0)) || { [[ ${CI:-} == true ]] && sudo -n true 2>/dev/null; }
}

# need KIND COMMANDS PACKAGES…: what KIND needs, a list of commands in one word, is there or becomes so from Debian packages.
need() {
	local kind=$1 what=$2 command missing=()
	shift 2
	for command in $what; do
		command -v "$command" >/dev/null || missing+=("$command")
	done
	((${#missing[@]})) || return 0
	can_install || die "$kind needs ${missing[*]} (Debian: $*): install that, be root on Debian, or name a server of yours in $(variable_of "$kind")"
	say "$kind: installing $*"
	apt_install "$@"
	hash -r
	for command in $what; do
		command -v "$command" >/dev/null || die "$command is still missing after installing $*"
	done
}

# apt_get LOG ARGUMENTS…: asks nothing and waits for another apt.
apt_get() {
	local log=$1
	shift
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq "$@" >>"$log" 2>&1 </dev/null
}

# apt_lists LOG: reads the package lists; where that fails twice the old ones must do.
apt_lists() {
	say "reading the package lists"
	apt_get "$1" update || { sleep 5; apt_get "$1" update; } || say "the package lists could not be read, going on with the old ones"
}

# apt_install PACKAGES…: as few as possible, and without starting the services that they bring.
apt_install() (
	log=$(mktemp) policy=
	trap 'rm -f "$log"; [[ -z $policy ]] || as_root rm -f "$policy"' EXIT
	if [[ ! -e /usr/sbin/policy-rc.d ]]; then
		policy=/usr/sbin/policy-rc.d
		printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
		as_root chmod 755 "$policy"
	fi
	if ! apt_get "$log" install -y --no-install-recommends "$@"; then
		apt_lists "$log"
		apt_get "$log" install -y --no-install-recommends "$@" || { tail -n 20 "$log" >&2; die "apt-get install $* failed"; }
	fi
)

# ---- a server as a whole ---------------------------------------------------------------------

# running KIND: whether it runs, all of it.
running() {
	local home=$DIR/$1 i
	case $1 in
	redis-cluster) for i in 1 2 3; do alive "$home/$i" || return 1; done ;;
	*) alive "$home" ;;
	esac
}

# of KIND VERB ARGUMENTS…: the function of that kind.
of() {
	local kind=${1//-/_} verb=$2
	shift 2
	"${kind}_$verb" "$@"
}

# write_env: DIR/env carries the address of everything that was given or runs.
write_env() {
	local kind home
	{
		echo "# Written by deploy/servers/up.sh: source it, then run the tests or a bench."
		printf 'export GATEPOST_TEST_SERVERS=%q\n' "$DIR"
		for kind in "${KINDS[@]}"; do
			home=$DIR/$kind
			if [[ -e $home/given ]] || running "$kind"; then
				printf 'export %s=%q\n' "$(variable_of "$kind")" "$(cat "$home/address")"
			fi
		done
	} >"$DIR/env.part"
	mv "$DIR/env.part" "$DIR/env"
}

# options "$@": sets DIR, ARGS (what is no flag) and FLAGS, in which the caller has declared his own with 0.
options() {
	local args=()
	DIR=$ROOT/.cache/servers/default
	while (($#)); do
		case $1 in
		--dir) DIR=${2:?--dir needs a directory} && shift ;;
		--dir=*) DIR=${1#*=} ;;
		-h | --help) usage && exit 0 ;;
		--*) [[ -v FLAGS[${1#--}] ]] || { usage >&2; exit 2; }; FLAGS[${1#--}]=1 ;;
		*) args+=("$1") ;;
		esac
		shift
	done
	ARGS=("${args[@]}")
	[[ $DIR == /* ]] || DIR=$PWD/$DIR
}

# shellcheck source=mariadb.sh
. "$SERVERS_HOME/mariadb.sh"
# shellcheck source=redis.sh
. "$SERVERS_HOME/redis.sh"
# shellcheck source=kafka.sh
. "$SERVERS_HOME/kafka.sh"
