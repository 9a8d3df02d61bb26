// Package demo shows what Gatepost promises, on a running platform, through its public ports and the real SDK.
//
// Each step makes one promise come true or says that it did not: what it reports was seen by a client, nothing is assumed.
// Its users are new in each run, but for one, patience, who finds in each run what the run before has left for him.
package demo
