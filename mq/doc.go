// Package mq is the room of the queue towards the business lines: what clients report (c2s, uplink) ends in
// a Kafka topic of its business line and is acknowledged to the client only after all in-sync replicas have it (G1).
//
// An Event is a CloudEvent; a Record is an Event on its way, with the outcome told to Done. TopicMap says which topic
// the reports of a domain go to. Package kafka carries records, makes topics, and checks whether a cluster can promise G1.
package mq
