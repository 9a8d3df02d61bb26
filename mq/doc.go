// Package mq is the room of the queue towards the business lines: what clients report (c2s, uplink) ends in
// a Kafka topic of its business line and is acknowledged to the client only after all in-sync replicas have it (G1).
//
// This release carries no uplink yet: commands of class 0x02 are answered UNKNOWN_COMMAND. The record, the map from
// (domain, type) to topic and the producer come with the next release. What is here already is package kafka:
// how we speak to Kafka, and the check whether a cluster can promise G1.
package mq
