// Package archtest holds the arrows between the rooms as a table and the checker that compares it with what
// the packages import. A room is a folder below the module's root; what has no row in the table is a fault too.
//
//	go test ./test/archtest            the arrows hold
//	make arrows                        which arrows there are, as a Mermaid picture
package archtest
