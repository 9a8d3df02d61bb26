// Package fault is the suite of faults: an audit load while processes are killed, frozen and cut off, and the oracle's verdict at the end.
//
//	go test -tags e2e ./test/fault
//
// The clusters stand on a MariaDB and a Redis of the suite's own, which deploy/servers starts, because they are killed too.
// GATEPOST_TEST_FAULT_SECONDS is how long the load of each scenario lasts (6); the seed of a run is in its log.
package fault
