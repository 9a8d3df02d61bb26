package store_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/gatepost/gatepost/store"
)

// TestDigest: a message has the digest that older releases stored, any other message another one, and later ids have later digests.
func TestDigest(t *testing.T) {
	from, to := store.UserKey{Domain: "d", UID: "from"}, store.UserKey{Domain: "d", UID: "to"}
	id := [16]byte{0x01, 0x9a, 0x3b, 0x4c, 0x5d, 0x6e, 0x70, 1, 0x80, 2}
	base := store.DigestOf(from, id, store.KindC2C, to)
	if got := hex.EncodeToString(base[:]); got != "019a3b4c5dcb29c8c3e2f204a333003c" {
		t.Fatal(got)
	}
	last := id
	last[15]++
	seen := map[store.Digest]string{base: "the message itself"}
	for what, d := range map[string]store.Digest{
		"another id of the same time":     store.DigestOf(from, last, store.KindC2C, to),
		"another kind":                    store.DigestOf(from, id, store.KindS2C, to),
		"another sender":                  store.DigestOf(to, id, store.KindC2C, to),
		"another receiver":                store.DigestOf(from, id, store.KindC2C, from),
		"the sender's border elsewhere":   store.DigestOf(store.UserKey{Domain: "df", UID: "rom"}, id, store.KindC2C, to),
		"the receiver's border elsewhere": store.DigestOf(from, id, store.KindC2C, store.UserKey{Domain: "dt", UID: "o"}),
	} {
		if other, ok := seen[d]; ok {
			t.Errorf("%s has the digest of %s: %x", what, other, d)
		}
		seen[d] = what
	}
	later := id
	later[4]++ // 256 ms
	if d := store.DigestOf(from, later, store.KindC2C, to); bytes.Compare(d[:], base[:]) <= 0 {
		t.Errorf("%x comes later and sorts before %x", d, base)
	}
}

func TestStatementRows(t *testing.T) {
	kept := map[int]bool{}
	for n := 1; n <= 2*store.MaxStatementRows; n++ {
		rows := store.StatementRows(n)
		kept[rows] = true
		if rows > n || rows > store.MaxStatementRows || rows*5 < min(n, store.MaxStatementRows)*4 {
			t.Errorf("%d of %d", rows, n)
		}
		if again := store.StatementRows(rows); again != rows {
			t.Errorf("%d of %d, which is itself one statement's", again, rows)
		}
	}
	if len(kept) != 32 {
		t.Errorf("%d statements to keep", len(kept))
	}
}
