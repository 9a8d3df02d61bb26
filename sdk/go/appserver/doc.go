// Package appserver is Gatepost for business services in Go.
//
// Client calls the platform: it pushes messages to users, asks who is online, ends sessions and makes login tokens. Every call may be
// made again without doing harm, and Client does so by itself where that can help.
//
// Consumer receives what devices report: it reads topics of Kafka as a member of a consumer group, hands over each record in the order
// of its partition, once by its id within a window, and commits it after the handler is done.
//
// Both are safe for concurrent use. The package registers nothing with database/sql and has no global state.
package appserver
