package sql_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/gatepost/gatepost/store"
	"github.com/gatepost/gatepost/store/storetest"
)

// benchmarkCycle appends and removes messages of 200 bytes in batches of 200, each to a receiver with a registered class.
func benchmarkCycle(b *testing.B, db storetest.Database) {
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
	b.ReportAllocs()
	for b.Loop() {
		for i := range confirmations {
			confirmations[i] = store.Confirmation{Owner: owners[i], Class: 1, IDs: confirmations[i].IDs[:0]}
		}
		for i := range batch {
			id++
			m := store.Message{ID: store.MsgID(id), Owner: owners[i%users], From: owners[(i+1)%users], FromClass: 1, Stream: 1 << 60, TargetSeq: id, Type: "text",
				Content: content, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
			binary.BigEndian.PutUint64(m.ClientMsgID[:], id)
			m.Digest = store.DigestOf(m.From, m.ClientMsgID, m.Kind, m.Owner)
			batch[i] = m
			confirmations[i%users].IDs = append(confirmations[i%users].IDs, m.ID)
		}
		if _, err := db.Inbox.Append(ctx, batch); err != nil {
			b.Fatal(err)
		}
		if err := db.Inbox.Confirm(ctx, confirmations); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(id)/b.Elapsed().Seconds(), "messages/s")
	if n := db.Raw(b); n != 0 {
		b.Fatalf("%d rows stay", n)
	}
}

func BenchmarkSQLite(b *testing.B) { benchmarkCycle(b, sqliteDatabase(b)) }
