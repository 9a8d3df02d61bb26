// Package storetest is the contract of gatepost.Store as a test: every implementation runs it.
package storetest

import (
	"testing"
	"time"

	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/google/go-cmp/cmp"
)

// Factory opens an empty store. reopen returns what a process finds that starts now, while the first one has not closed: the
// store as after a crash.
type Factory func(t *testing.T) (store gatepost.Store, reopen func() gatepost.Store)

// Run runs the contract.
func Run(t *testing.T, open Factory) {
	alice, bob := gatepost.User{Domain: "d", UID: "alice"}, gatepost.User{Domain: "d", UID: "bob"}
	at := time.Unix(1_700_000_000, 123_000_000)
	entry := gatepost.OutboxEntry{
		Number: 1, ClientMsgID: gatepost.ClientMsgID{1}, To: bob, Stream: 1 << 63, TargetSeq: 1, Type: "t", Content: []byte("x"),
		CreatedAt: at, TTL: time.Hour,
	}
	second := entry
	second.Number, second.TargetSeq, second.Content = 2, 2, nil
	second.Receipt, second.CopyStream, second.CopySeq = true, 1<<63+2, 3
	uplink := gatepost.OutboxEntry{
		Number: 3, Kind: gatepost.SendUplink, ClientMsgID: gatepost.ClientMsgID{7}, Stream: 1<<63 + 3, TargetSeq: 1 << 63, Type: "position",
		Content: []byte("z"), CreatedAt: at, TTL: time.Minute, ReplaceKey: "key", Traceparent: "trace",
	}
	later := uplink
	later.Number, later.TargetSeq = 4, 1<<63+1
	replaced := uplink
	replaced.Content, replaced.Outcome = nil, &gatepost.Outcome{Replaced: true}
	sent := later
	sent.Sent = true
	uplinked := gatepost.Identity{
		User: alice, Device: gatepost.IOS, Installation: [16]byte{1, 2}, LoginCounter: 3, Stream: 1<<63 + 1, UplinkStream: 1<<63 + 3,
		UplinkSeq: 1<<63 + 1,
	}
	message := gatepost.Message{
		MsgID: 1<<63 + 5, From: bob, FromDevice: gatepost.Web, ClientMsgID: gatepost.ClientMsgID{2}, Type: "t", Content: []byte("y"),
		CreatedAt: at, ExpiresAt: at.Add(time.Hour), Stream: 9, TargetSeq: 3, Late: true,
		Kind: gatepost.KindCopy, Receipt: true, To: alice,
	}
	mark := gatepost.Mark{
		Key: gatepost.MarkKey{From: bob, Stream: 1<<63 + 9}, High: 1<<64 - 1, LastUsed: at,
		Gaps: []gatepost.Span{{First: 1, Last: 1}, {First: 3, Last: 1 << 63}},
	}
	outcome := gatepost.Outcome{MsgID: 1<<63 + 7, Duplicate: true, Code: 1007, Reason: "full", Restored: true}
	settled := entry
	settled.Content, settled.Outcome = nil, &outcome
	target := gatepost.Target{To: bob, Stream: 1 << 63, LastSeq: 2, LastUsed: at}
	identity := gatepost.Identity{User: alice, Device: gatepost.IOS, Installation: [16]byte{1, 2}, LoginCounter: 3, Stream: 1<<63 + 1}
	seen := gatepost.SeenID{Number: 4, Kind: gatepost.KindReceipt, From: bob, ID: gatepost.ClientMsgID{3}}

	// Each step is one commit; after each, a process that starts anew must find exactly want.
	steps := []struct {
		name    string
		changes gatepost.Changes
		want    func(s *gatepost.Snapshot)
	}{
		{"identity", gatepost.Changes{Identity: &identity, Durable: true}, func(s *gatepost.Snapshot) { s.Identity = identity }},
		{"outbox", gatepost.Changes{PutTargets: []gatepost.Target{target}, PutOutbox: []gatepost.OutboxEntry{entry, second}, Durable: true},
			func(s *gatepost.Snapshot) {
				s.Targets, s.Outbox = []gatepost.Target{target}, []gatepost.OutboxEntry{entry, second}
			}},
		{"outcome", gatepost.Changes{SetOutcomes: []gatepost.OutboxOutcome{{Number: 1, Outcome: outcome}}},
			func(s *gatepost.Snapshot) { s.Outbox[0] = settled }},
		{"told", gatepost.Changes{DeleteOutbox: []uint64{1, 99}}, func(s *gatepost.Snapshot) { s.Outbox = s.Outbox[1:] }},
		{"targets replaced", gatepost.Changes{DeleteTargets: []gatepost.User{bob}, PutTargets: []gatepost.Target{target}},
			func(*gatepost.Snapshot) {}},
		{"uplink", gatepost.Changes{Identity: &uplinked, PutOutbox: []gatepost.OutboxEntry{uplink}, Durable: true}, func(s *gatepost.Snapshot) {
			s.Identity = uplinked
			s.Outbox = append(s.Outbox, uplink)
		}},
		{"uplink replaced", gatepost.Changes{
			PutOutbox: []gatepost.OutboxEntry{later}, SetOutcomes: []gatepost.OutboxOutcome{{Number: 3, Outcome: *replaced.Outcome}}, Durable: true,
		}, func(s *gatepost.Snapshot) { s.Outbox = append(s.Outbox[:1], replaced, later) }},
		{"uplink sent", gatepost.Changes{SetSent: []uint64{4, 99}, DeleteOutbox: []uint64{3}, Durable: true},
			func(s *gatepost.Snapshot) { s.Outbox = append(s.Outbox[:1], sent) }},
		{"received", gatepost.Changes{
			PutMarks: []gatepost.Mark{mark}, PutReceived: []gatepost.Received{{Number: 7, Message: message}},
			PutSeen: []gatepost.SeenID{seen}, Durable: true,
		}, func(s *gatepost.Snapshot) {
			s.Marks = []gatepost.Mark{mark}
			s.Received, s.Seen = []gatepost.Received{{Number: 7, Message: message}}, []gatepost.SeenID{seen}
		}},
		{"shown", gatepost.Changes{SetShown: []uint64{7}}, func(s *gatepost.Snapshot) {
			s.Received[0] = gatepost.Received{Number: 7, Shown: true, Message: gatepost.Message{MsgID: message.MsgID, Receipt: true}}
		}},
		{"confirmed", gatepost.Changes{DeleteReceived: []uint64{7}, DeleteSeen: []uint64{4}, DeleteMarks: []gatepost.MarkKey{mark.Key}},
			func(s *gatepost.Snapshot) { s.Received, s.Seen, s.Marks = nil, nil, nil }},
	}
	store, reopen := open(t)
	if _, err := store.Load(); err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var want gatepost.Snapshot
	for _, step := range steps {
		if err := store.Commit(&step.changes); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		step.want(&want)
		after := reopen()
		got, err := after.Load()
		if err != nil {
			t.Fatalf("%s: load: %v", step.name, err)
		}
		if diff := cmp.Diff(normal(want), normal(*got)); diff != "" {
			t.Fatalf("%s: a process that starts now finds (-want +got):\n%s", step.name, diff)
		}
		if err := after.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// normal makes empty and nil lists alike.
func normal(s gatepost.Snapshot) gatepost.Snapshot {
	s.Targets = append([]gatepost.Target(nil), s.Targets...)
	s.Outbox = append([]gatepost.OutboxEntry(nil), s.Outbox...)
	s.Marks = append([]gatepost.Mark(nil), s.Marks...)
	s.Received = append([]gatepost.Received(nil), s.Received...)
	s.Seen = append([]gatepost.SeenID(nil), s.Seen...)
	return s
}
