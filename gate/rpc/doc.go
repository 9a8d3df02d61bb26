// Package rpc carries a gate's calls over the network with Kitex: it serves GateService to logic nodes and reaches LogicService for
// the gate. Both ends speak TTHeader with its meta handlers (without them a refusal would arrive as an empty success), over long
// connections that are not multiplexed, and nothing is ever tried twice: what a call that failed has done is not known here.
//
// A refusal (*status.Error) crosses as a Kitex business status, its reason as the message. A timeout arrives as an error that wraps
// context.DeadlineExceeded.
package rpc
