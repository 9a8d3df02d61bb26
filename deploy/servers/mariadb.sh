# MariaDB: one server, TCP on loopback, root without a password, flush at commit. Sourced by up.sh and down.sh.
# shellcheck shell=bash

mariadb_need() { need mariadb "mariadbd mariadb-install-db mariadb-admin" mariadb-server; }

# mariadb_data HOME: its data directory. mariadbd gives up root for the user mysql, who must be able to get there:
# where a folder on the way is closed to him (a checkout in /root is), the data lies in /var/tmp.
mariadb_data() {
	local home=$1 data=$1/data
	if [[ ! -s $home/data-at ]]; then
		mkdir -p "$data"
		if ((EUID == 0)); then
			chmod 755 "$home"
			chown mysql: "$data"
			if ! setpriv --reuid=mysql --regid=mysql --clear-groups test -w "$data" 2>/dev/null; then
				rmdir "$data"
				data=$(mktemp -d /var/tmp/gatepost-mariadb.XXXXXX)
				chown mysql: "$data"
			fi
		fi
		echo "$data" >"$home/data-at"
	fi
	cat "$home/data-at"
}

mariadb_up() {
	local home=$1 data port attempt user=()
	((EUID == 0)) && user=(--user=mysql)
	data=$(mariadb_data "$home")
	if [[ ! -d $data/mysql ]]; then
		say "mariadb: making the data directory"
		(cd / && mariadb-install-db --no-defaults "${user[@]}" --datadir="$data" --auth-root-authentication-method=normal \
			--skip-test-db) >>"$home/log" 2>&1 </dev/null || { log_tail "$home"; die "mariadb-install-db failed"; }
	fi
	for attempt in 1 2 3; do
		port=$(kept_port "$home")
		# The socket's name is relative to the data directory: an address of a socket has 107 characters at most.
		spawn "$home" mariadbd --no-defaults "${user[@]}" --datadir="$data" --socket=mariadb.sock --pid-file="$data/mariadb.pid" \
			--bind-address=127.0.0.1 --port="$port" --skip-log-bin --max-connections=500 --skip-name-resolve \
			--innodb-flush-log-at-trx-commit=1 --innodb-buffer-pool-size="${GATEPOST_MARIADB_POOL:-256M}" --innodb-log-file-size=128M
		if wait_ready "$home" mariadb 60 mariadb-admin --no-defaults --protocol=tcp --host=127.0.0.1 --port="$port" --user=root ping; then
			echo "root@tcp(127.0.0.1:$port)/" >"$home/address"
			return
		fi
		stop "$home" mariadb TERM
		((attempt < 3)) && grep -q 'Address already in use' "$home/log" || die "mariadb did not start"
		rm -f "$home/port"
	done
}

mariadb_down() { stop "$1" mariadb "$2"; }

# mariadb_forget HOME: what lies outside of HOME.
mariadb_forget() {
	local data
	data=$(cat "$1/data-at" 2>/dev/null) || return 0
	[[ $data != /var/tmp/gatepost-mariadb.* ]] || rm -rf "$data"
}
