package sql_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/gatepost/gatepost/store"
	"github.com/gatepost/gatepost/store/storetest"
)

// benchmarkCycle appends and removes messages of 200 bytes in batches of 200, each to a receiver with a registered class, beside depth messages
// that stay. Beside the rate it reports the processor time of this process for each message.
func benchmarkCycle(b *testing.B, db storetest.Database, depth int) {
	const rows, users = 200, 50
	ctx := b.Context()
	owners := make([]store.UserKey, users)
	for i := range owners {
		owners[i] = store.UserKey{Domain: "bench", UID: "user-" + string(rune('A'+i))}
		if _, err := db.Devices.Register(ctx, store.Device{Owner: owners[i], Class: 1, SeenAt: time.Now()}); err != nil {
			b.Fatal(err)
		}
	}
	content := make([]byte, 200)
	now := time.Now()
	batch := make([]store.Message, rows)
	confirmations := make([]store.Confirmation, users)
	id := uint64(0)
	fill := func() {
		for i := range batch {
			id++
			m := store.Message{ID: store.MsgID(id), ClientMsgID: uuid.Must(uuid.NewV7()), Owner: owners[i%users], From: owners[(i+1)%users], FromClass: 1,
				Stream: 1 << 60, TargetSeq: id, Type: "text", Content: content, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
			m.Digest = store.DigestOf(m.From, m.ClientMsgID, m.Kind, m.Owner)
			batch[i] = m
		}
		if _, err := db.Inbox.Append(ctx, batch); err != nil {
			b.Fatal(err)
		}
	}
	for id < uint64(depth) {
		fill()
	}
	resting := id
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	b.ReportAllocs()
	for b.Loop() {
		fill()
		for i := range confirmations {
			confirmations[i] = store.Confirmation{Owner: owners[i], Class: 1, IDs: confirmations[i].IDs[:0]}
		}
		for i := range batch {
			confirmations[i%users].IDs = append(confirmations[i%users].IDs, batch[i].ID)
		}
		if _, err := db.Inbox.Confirm(ctx, confirmations); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	n := float64(id - resting)
	b.ReportMetric(n/b.Elapsed().Seconds(), "messages/s")
	b.ReportMetric(float64(after.Utime.Nano()-before.Utime.Nano()+after.Stime.Nano()-before.Stime.Nano())/1e3/n, "cpu-µs/message")
	if n := db.Raw(b); uint64(n) != resting {
		b.Fatalf("%d rows stay, not %d", n, resting)
	}
}

// depths are how many messages rest in the inboxes.
var depths = []int{0, 200_000}

func BenchmarkSQLite(b *testing.B) {
	for _, depth := range depths {
		b.Run(fmt.Sprintf("depth=%d", depth), func(b *testing.B) { benchmarkCycle(b, sqliteDatabase(b), depth) })
	}
}
