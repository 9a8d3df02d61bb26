// Package gate is the room at the edge: it holds one connection for each device, keeps bad input out, and hands frames on
// to logic nodes in batches. It knows the connection commands (hello, keepalive, close) and no other: how a command travels
// is written in its number [P-3.1], and what an answer does to a connection (bind, unbind, close) is said by the answer.
//
// A frame's way:
//
//	listen.go   accept, limits, handshake          conn.go    the state of a connection
//	read.go     one goroutine reads, or waits      answer.go  what logic's answers do
//	stream.go   is the ordered stream open?        lane.go    batches to logic, one in flight where order counts
//	nodes.go    which logic node, is it alive      table.go   who is logged in here
//	deliver.go  pushes and kicks from logic        queue.go   what waits for the socket
//	writer.go   sealing and writing                register.go keeping the presence table true
//
// An idle connection costs its struct, its socket and one parked goroutine, with the smallest stack there is: no buffer, no writer,
// no timer goroutine.
//
// Lock order: conn.mu, then a shard of the session table, then the registrar's queues. No lock is held around I/O or a call to logic.
package gate
