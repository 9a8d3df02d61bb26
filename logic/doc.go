// Package logic is the stateless node that decides: who may log in, what is accepted, who is owed what, and who is told.
//
// A Node serves gates. Handle carries frames of many connections; the table in table.go says which verb a command is, and each
// verb_*.go file is one verb. What is slow or shared stands behind lanes: workers that carry one batch at a time, while whatever
// arrives meanwhile becomes the next batch.
//
//	Handle → verb (checks) → commit lane (one insert, one commit) → answer
//	                                      └→ delivery lane (one route look-up) → a sender for each gate
//
// The state a node keeps is bounded and may be lost at any moment: what was accepted lies in the inbox, and gates hold the sessions.
// ports.go lists what a node needs from the rooms below it.
package logic
