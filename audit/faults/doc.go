// Package faults is what goes wrong around a platform of local processes while audit drives it: processes that are killed, stopped or
// frozen, the servers below them killed, and a Network between clients and gates that cuts, halves and stalls.
//
// Each fault puts together again what it broke before it returns. What it draws comes from the generator that it is handed.
package faults
