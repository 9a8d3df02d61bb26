# Kafka: one broker in KRaft mode from Maven's artifacts, topics made explicitly only. Sourced by up.sh and down.sh.
# shellcheck shell=bash

# java_fits: a Java of 17 or more.
java_fits() {
	local version
	version=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
	[[ -n $version ]] && ((version >= 17))
}

kafka_need() {
	local jdk=openjdk-17-jre-headless
	if ! java_fits; then
		if can_install && ! apt-cache show "$jdk" >/dev/null 2>&1; then
			apt_lists /dev/null
			apt-cache show "$jdk" >/dev/null 2>&1 || jdk=default-jre-headless
		fi
		can_install || die "kafka needs Java 17 (Debian: $jdk): install that, be root on Debian, or name a server of yours in $(variable_of kafka)"
		say "kafka: installing $jdk"
		apt_install "$jdk"
		java_fits || die "Java is still missing or older than 17 after installing $jdk"
	fi
	[[ -d $(kafka_libs) ]] || need kafka mvn maven
	kafka_fetch
}

# kafka_libs: where the jars lie. Another pom, another folder.
kafka_libs() {
	local pom=$SERVERS_HOME/kafka/pom.xml
	printf '%s/kafka-%s-%s\n' "$CACHE" "$(sed -n 's/.*<kafka.version>\(.*\)<.*/\1/p' "$pom")" "$(sha256sum <"$pom" | cut -c1-8)"
}

# kafka_fetch: brings the jars once. The folder gets its name when it is whole, so that an interrupted download is no cache.
kafka_fetch() {
	local libs part log attempt
	libs=$(kafka_libs)
	[[ ! -d $libs ]] || return 0
	mkdir -p "$CACHE"
	part=$(mktemp -d "$CACHE/kafka-part.XXXXXX")
	log=$part.log
	say "kafka: fetching its jars by Maven (56 MB, once)"
	for attempt in 1 2; do
		if mvn -B -f "$SERVERS_HOME/kafka/pom.xml" dependency:copy-dependencies -DoutputDirectory="$part" >"$log" 2>&1 </dev/null; then
			chmod 755 "$part"
			mv -T "$part" "$libs" 2>/dev/null || rm -rf "$part" # another run was faster
			rm -f "$log"
			return
		fi
		say "kafka: Maven failed (attempt $attempt)"
	done
	tail -n 20 "$log" >&2
	rm -rf "$part" "$log"
	die "the jars of Kafka could not be fetched"
}

kafka_java() {
	printf '%s\n' java -Xms64m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "-Dlog4j.configuration=file:$1/log4j.properties" \
		-cp "$(kafka_libs)/*"
}

# kafka_configure HOME PORT CONTROLLER_PORT. The broker's session is short because one that was killed is let in again only when it is over.
kafka_configure() {
	cat >"$1/server.properties" <<-END
		process.roles=broker,controller
		node.id=1
		controller.quorum.voters=1@127.0.0.1:$3
		listeners=PLAINTEXT://127.0.0.1:$2,CONTROLLER://127.0.0.1:$3
		advertised.listeners=PLAINTEXT://127.0.0.1:$2
		controller.listener.names=CONTROLLER
		listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
		log.dirs=$1/data
		auto.create.topics.enable=false
		num.partitions=1
		default.replication.factor=1
		min.insync.replicas=1
		offsets.topic.num.partitions=4
		offsets.topic.replication.factor=1
		transaction.state.log.num.partitions=4
		transaction.state.log.replication.factor=1
		transaction.state.log.min.isr=1
		group.initial.rebalance.delay.ms=0
		log.cleaner.dedupe.buffer.size=16777216
		broker.session.timeout.ms=3000
		broker.heartbeat.interval.ms=500
	END
	cat >"$1/log4j.properties" <<-'END'
		log4j.rootLogger=WARN, out
		log4j.appender.out=org.apache.log4j.ConsoleAppender
		log4j.appender.out.layout=org.apache.log4j.PatternLayout
		log4j.appender.out.layout.ConversionPattern=%d %p %m (%c)%n
		log4j.logger.kafka.server.KafkaRaftServer=INFO
	END
}

kafka_up() {
	local home=$1 port controller id attempt java
	for attempt in 1 2 3; do
		port=$(kept_port "$home")
		[[ -s $home/controller-port ]] || free_port >"$home/controller-port"
		controller=$(cat "$home/controller-port")
		kafka_configure "$home" "$port" "$controller"
		mapfile -t java < <(kafka_java "$home")
		if [[ ! -e $home/data/meta.properties ]]; then
			say "kafka: formatting its log directory"
			id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | cut -c1-22)
			"${java[@]}" kafka.tools.StorageTool format -t "$id" -c "$home/server.properties" >>"$home/log" 2>&1 </dev/null ||
				{ log_tail "$home"; die "Kafka's log directory could not be formatted"; }
		fi
		: >"$home/log"
		spawn "$home" "${java[@]}" kafka.Kafka "$home/server.properties"
		if wait_ready "$home" kafka 90 grep -q 'Kafka Server started' "$home/log"; then
			echo "127.0.0.1:$port" >"$home/address"
			return
		fi
		stop "$home" kafka TERM
		((attempt < 3)) && grep -q 'Address already in use' "$home/log" || die "kafka did not start"
		rm -rf "$home/port" "$home/controller-port" "$home/data"
	done
}

kafka_down() { stop "$1" kafka "$2"; }
kafka_forget() { :; }
