// Package bench puts loads on a platform and measures it, with a verdict over the same run: a figure without one is not a figure.
//
// The loads that send messages and uplinks go through the engine of package audit, so every accept, delivery, confirmation and record is
// counted and judged. Online-only pushes, logins and idle connections have loads of their own. All of them are real: handshakes of Noise,
// sealed frames, tokens that the platform checks.
//
// Rates are taken between two snapshots, so that neither the begin nor the end of a load is in them. Times are histograms of the messages that
// were meant to be sent between the two. The CPU of servers on this machine is read from /proc at both snapshots, and so is that of the
// load itself, which shares the machine: it is told apart and never taken off.
package bench
