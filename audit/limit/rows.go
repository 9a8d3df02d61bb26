package limit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// domain of the users whose rows are inserted and removed.
const domain = "limit"

// columns of an inbox row, as a message of one user to another fills them.
const (
	columns = "msg_id, domain, uid, digest, from_domain, from_uid, from_class, stream, target_seq, client_msg_id, kind, type, content, flags, target, created_at, expires_at"
	nColumn = 17
)

// rows makes rows like those of the platform. It is safe for concurrent use.
type rows struct {
	users   int
	content []byte
	id      atomic.Int64 // rises as the time-ordered ids of the platform do
	number  atomic.Int64
}

func newRows(users, size int) *rows {
	r := &rows{users: users, content: filler(size)}
	r.id.Store(time.Now().UnixMilli() << 22)
	return r
}

// filler is JSON of size bytes.
func filler(size int) []byte {
	const text = `{"type":"text","order":"A-20417","body":"the driver is five minutes away","lat":48.13743,"lng":11.57549,"at":1767225600123,` +
		`"shop":{"id":40417,"name":"corner store","open":true},"lines":[{"sku":"81-220","n":2},{"sku":"17-004","n":1}],"note":""}`
	return []byte(strings.Repeat(text, size/len(text)+1)[:size])
}

// row is what identifies an inserted row.
type row struct {
	id  int64
	uid string
}

// append appends the arguments of one row of dom and returns what identifies it.
func (r *rows) append(args []any, dom string) ([]any, row) {
	now := time.Now().UnixMilli()
	n := r.number.Add(1)
	out := row{id: r.id.Add(1), uid: fmt.Sprintf("limit-%d", n%int64(r.users))}
	from := fmt.Sprintf("limit-%d", (n+1)%int64(r.users))
	var client [16]byte // as a UUIDv7: the time, then what is random
	binary.BigEndian.PutUint64(client[:], uint64(now)<<16)
	_, _ = rand.Read(client[6:]) // never fails
	sum := sha256.Sum256(client[:])
	digest := append(append(make([]byte, 0, 16), client[:5]...), sum[:11]...)
	return append(args, out.id, dom, out.uid, digest, dom, from, int64(1), int64(1)<<60, n, client[:], int64(1), "text", r.content, int64(0), "",
		now, now+int64(7*24*time.Hour/time.Millisecond)), out
}

func insertText(n int) string {
	one := "(?" + strings.Repeat(", ?", nColumn-1) + ")"
	return "INSERT INTO inbox (" + columns + ") VALUES " + one + strings.Repeat(", "+one, n-1)
}
