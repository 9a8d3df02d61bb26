// Package redis keeps the presence table and the leases of gates and logic nodes in Redis 6.2 or later, a single server, a failover pair or a Redis Cluster.
//
// A hash for each user has a field for each device class; every change is one Lua script on that one key, compare-and-set by session number.
// Keys are hash-tagged by user, and the leases share one slot. All times in scripts are the server's.
// Whatever Redis answers in error wraps store.ErrUnavailable: the table is an index that gates rebuild.
package redis
