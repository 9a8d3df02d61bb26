# Redis: one server, or a cluster of three primaries. Nothing is kept over a stop: presence is an index. Sourced by up.sh and down.sh.
# shellcheck shell=bash

redis_need() { need redis "redis-server redis-cli" redis-server; }

# redis_start HOME NAME ARGUMENTS…: until it answers.
redis_start() {
	local home=$1 name=$2 port attempt
	shift 2
	mkdir -p "$home"
	for attempt in 1 2 3; do
		port=$(kept_port "$home" 10000)
		spawn "$home" redis-server --port "$port" --bind 127.0.0.1 --dir "$home" --save '' --appendonly no --daemonize no "$@"
		wait_ready "$home" "$name" 30 redis_answers "$port" && return
		stop "$home" "$name" TERM
		((attempt < 3)) && grep -q 'Address already in use' "$home/log" || die "$name did not start"
		rm -f "$home/port"
	done
}

redis_answers() { [[ $(redis-cli -h 127.0.0.1 -p "$1" ping 2>/dev/null) == PONG ]]; }

redis_up() {
	redis_start "$1" redis
	echo "127.0.0.1:$(cat "$1/port")" >"$1/address"
}

redis_down() { stop "$1" redis "$2"; }
redis_forget() { :; }

redis_cluster_up() {
	local home=$1 i port ports=() addresses=()
	for i in 1 2 3; do
		alive "$home/$i" || redis_start "$home/$i" "redis-cluster $i" --cluster-enabled yes --cluster-config-file nodes.conf \
			--cluster-node-timeout 2000 --cluster-require-full-coverage yes
		port=$(cat "$home/$i/port")
		ports+=("$port")
		addresses+=("127.0.0.1:$port")
	done
	if [[ ! -e $home/formed ]]; then
		redis-cli --cluster create "${addresses[@]}" --cluster-replicas 0 --cluster-yes >>"$home/log" 2>&1 </dev/null ||
			{ log_tail "$home"; die "the Redis cluster could not be formed"; }
		touch "$home/formed"
	fi
	for i in 1 2 3; do
		wait_ready "$home/$i" "redis-cluster $i" 30 redis_cluster_ok "${ports[i - 1]}" || die "the Redis cluster is not whole"
	done
	(IFS=, && echo "${addresses[*]}") >"$home/address"
}

redis_cluster_ok() { redis-cli -h 127.0.0.1 -p "$1" cluster info | grep -q '^cluster_state:ok'; }

redis_cluster_down() {
	local i
	for i in 1 2 3; do
		[[ ! -d $1/$i ]] || stop "$1/$i" "redis-cluster $i" "$2"
	done
}
redis_cluster_forget() { :; }
redis_cluster_need() { need redis-cluster "redis-server redis-cli" redis-server; }
