// Package rpc puts a logic node on the network: its service as a Kitex server for gates, and its port to the gates as Kitex clients.
//
// Both ends speak TTHeader with the transmeta handlers (without them a business error arrives as an empty answer without error), over
// plain long connections: a multiplexed client loses its calls when the server stops. Nothing is retried here.
package rpc
