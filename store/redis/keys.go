package redis

import (
	"strings"

	"github.com/gatepost/gatepost/store"
)

// keys makes every key. What stands in braces chooses the slot of a cluster; it contains no brace itself.
type keys struct{ prefix string }

// user is the hash of a user's sessions. It lives for Config.RouteTTL after the last login or registration.
func (k keys) user(u store.UserKey) string {
	var b strings.Builder
	b.Grow(len(k.prefix) + len(u.Domain) + len(u.UID) + 8)
	b.WriteString(k.prefix)
	b.WriteString(":u:{")
	escape(&b, u.Domain)
	b.WriteByte('/')
	escape(&b, u.UID)
	b.WriteByte('}')
	return b.String()
}

// gates are the leases of gates: expiries and records. They live for leaseKeep after the last beat.
func (k keys) gates() []string {
	return []string{k.prefix + ":{leases}:gates", k.prefix + ":{leases}:gate"}
}

// nodes are the leases of logic nodes.
func (k keys) nodes() []string {
	return []string{k.prefix + ":{leases}:nodes", k.prefix + ":{leases}:node"}
}

// epoch is the hash of the presence table's epoch. It lives for leaseKeep after the last beat.
func (k keys) epoch() string { return k.prefix + ":{leases}:epoch" }

// escape writes s with everything but letters, digits and "-._~@+" as %XX, so that two users never share a key.
func escape(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~@+", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
}
