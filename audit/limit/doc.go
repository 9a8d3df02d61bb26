// Package limit measures what the parts below Gatepost do alone, on the same machine and with the same rows: the database, Kafka, and the wire.
// A platform is compared with them.
//
// It shares nothing with the platform but the tables (package migrations), the names of the Kafka headers and the frames of the wire: the
// statements, the batches and the producer are its own, and those that proved fastest when it looked.
package limit
