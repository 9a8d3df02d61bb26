// Package kafka speaks to Kafka by sarama. Producer carries records in lanes, one for each partition, so that what is acknowledged is
// with all in-sync replicas (G1) and nothing overtakes within a key (G3). Check tells what the brokers at hand can promise, ListTopics
// what topics look like. Its tests on a real broker have the tag integration and need GATEPOST_TEST_KAFKA and GATEPOST_TEST_SERVERS.
package kafka
