// Package kafkahere is the Kafka of a standalone gatepost: a broker inside the process, with its log on disk, that business services
// reach with their usual clients.
//
// What was acknowledged, and what groups have committed, survives kill -9, because every write is synced. That holds on conditions
// which this package keeps: topics are made explicitly before they are used (asking for one never makes it), and the broker's own
// retention stays off, because it forgets where a partition ended when it empties one. Server trims by itself and leaves the last
// record of every partition. One retention holds for all topics; what a client says of retention when it makes a topic is passed over.
//
// It is one broker: no replicas, no authentication, no quotas.
package kafkahere
