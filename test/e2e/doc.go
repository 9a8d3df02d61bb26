// Package e2e is the end-to-end suite: one for a platform in one process and for a cluster of real processes.
//
//	GATEPOST_TEST_E2E=standalone go test -tags e2e ./test/e2e
//	GATEPOST_TEST_E2E=cluster    go test -tags e2e ./test/e2e    (needs GATEPOST_TEST_MYSQL and GATEPOST_TEST_REDIS)
package e2e
