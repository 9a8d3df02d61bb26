package logic

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/store"
)

// stored is an inbox that takes everything at once and keeps nothing: what is left is the node's own cost.
type stored struct{ *fakeInbox }

func (stored) Append(_ context.Context, batch []store.Message) ([]store.AppendResult, error) {
	out := make([]store.AppendResult, len(batch))
	for i := range batch {
		out[i].ID = batch[i].ID
	}
	return out, nil
}

// batchOf makes a Handle call of n messages of 200 bytes to receivers who are away.
func batchOf(t testing.TB, n int) *logicpb.HandleRequest {
	req := &logicpb.HandleRequest{GateEpoch: 1}
	for i := range n {
		m := message("bob", uint64(i+1))
		m.Content = make([]byte, 200)
		binary.BigEndian.PutUint64(m.Content, uint64(i))
		req.Frames = append(req.Frames, frame(t, "ann", uint64(i%5), clientpb.Cmd_CMD_C2C, m))
	}
	return req
}

func benchWorld(t testing.TB) *world {
	return newWorld(t, func(w *world, s *setup) {
		s.deps.Inbox = stored{w.inbox}
		s.cfg.InboxBound = 1 << 20
	})
}

func BenchmarkHandle50C2C(b *testing.B) {
	w := benchWorld(b)
	req := batchOf(b, 50)
	b.ReportAllocs()
	for b.Loop() {
		res, err := w.node.Handle(context.Background(), req)
		if err != nil || res.Answers[49].Status != 0 {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*50), "ns/frame")
}

func BenchmarkEncodeDeliver(b *testing.B) {
	row := store.Message{ID: 1, From: store.UserKey{Domain: "d", UID: "ann"}, Content: make([]byte, 200)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := encodeDeliver(&row); err != nil {
			b.Fatal(err)
		}
	}
}

// A c2c frame costs a bounded number of allocations from Handle to its answer, delivery to a receiver who is away included.
func TestAllocsOfABatch(t *testing.T) {
	w := benchWorld(t)
	req := batchOf(t, 50)
	perBatch := testing.AllocsPerRun(100, func() {
		if _, err := w.node.Handle(context.Background(), req); err != nil {
			t.Fatal(err)
		}
	})
	const most = 20
	if perFrame := perBatch / 50; perFrame > most {
		t.Errorf("%.1f allocations for a frame, more than %d", perFrame, most)
	} else {
		t.Logf("%.1f allocations for a frame", perFrame)
	}
}

// Bodies are decoded from buffers that belong to the gate, so the decoder must copy out of them.
func TestDecoderCopies(t *testing.T) {
	body, err := prutal.MarshalAppend(nil, message("bob", 1))
	if err != nil {
		t.Fatal(err)
	}
	var m clientpb.C2C
	if err := prutal.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	clear(body)
	if m.To.Uid != "bob" || string(m.Content) != "hello 1" || m.ClientMsgId[0] != 1 {
		t.Fatalf("the decoded body changed with its input: %+v", &m)
	}
}
