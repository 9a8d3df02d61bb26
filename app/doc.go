// Package app composes the rooms: a gate, a logic node, or the whole platform in one process, from one configuration.
//
// Composition is all that happens here. Standalone is the same gate and the same logic with other adapters behind the same ports:
// SQLite instead of MySQL, presence in memory instead of Redis, and a function call instead of Kitex between the two.
//
// A [Process] is a list of parts. Start starts them in order and, when one of them fails, stops those that had started;
// Stop stops them in the reverse order, which is the stop order of docs/architecture.md.
package app
