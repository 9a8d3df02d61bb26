// Package apprpc puts the service for app-servers on the network: one Kitex server on one port that answers TTHeader and gRPC.
//
// idl/appserver.proto is all that a client needs. A call that fails as a whole ends with a gRPC status; a Kitex client over TTHeader
// sees the same code and sentence as a business error. A request is bounded in size before it is decoded.
package apprpc
