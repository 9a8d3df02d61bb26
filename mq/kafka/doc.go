// Package kafka speaks to Kafka by sarama: Config turns into settings that keep G1 and G3, and Check tells what
// the brokers at hand can promise. Its tests on a real broker have the tag integration and need GATEPOST_TEST_KAFKA.
package kafka
