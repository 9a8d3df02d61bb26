// Package memory keeps the presence table and the leases of one process. It follows package redis rule for rule:
// store/storetest holds both to the same contract.
package memory
