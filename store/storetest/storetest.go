// Package storetest is the contract of every store: one suite for each port, run over all implementations.
//
// A factory makes an empty store for one test, with nothing in it that another test could see.
package storetest

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatepost/gatepost/store"
)

// Inbox is logic's port of that name.
type Inbox interface {
	Append(ctx context.Context, batch []store.Message) ([]store.AppendResult, error)
	Find(ctx context.Context, digests []store.Digest, now time.Time) ([]store.MsgID, error)
	Page(ctx context.Context, q store.PageQuery) (page []store.Message, upto store.MsgID, more bool, err error)
	Confirm(ctx context.Context, batch []store.Confirmation) (receipts []store.Message, err error)
	Count(ctx context.Context, owner store.UserKey, limit int) (int, error)
}

// Devices is logic's port of that name.
type Devices interface {
	Register(ctx context.Context, d store.Device) (retired bool, err error)
	Retire(ctx context.Context, d store.Device) error
	WasHere(ctx context.Context, d store.Device) (bool, error)
	Known(ctx context.Context, users []store.UserKey) ([]bool, error)
	List(ctx context.Context, owner store.UserKey) ([]store.Device, error)
}

// Nodes is logic's port of that name.
type Nodes interface {
	Lease(ctx context.Context, owner string, now time.Time, maxSkew, ttl, ahead time.Duration) (store.NodeLease, error)
	Renew(ctx context.Context, l store.NodeLease, now time.Time, maxSkew, ttl, ahead time.Duration) (store.NodeLease, error)
	Release(ctx context.Context, l store.NodeLease) error
}

// Sweeper is logic's port of that name.
type Sweeper interface {
	TryLease(ctx context.Context, name, owner string, ttl time.Duration) (bool, error)
	Sweep(ctx context.Context, after store.MsgID, limit int, now time.Time) (next store.MsgID, removed int, err error)
	RetireIdle(ctx context.Context, cutoff time.Time, limit int) (retired int, err error)
}

// AppKeys holds the credentials of app-servers.
type AppKeys interface {
	Create(ctx context.Context, k store.AppKey) error
	List(ctx context.Context, domain string) ([]store.AppKey, error)
	Get(ctx context.Context, id string) (store.AppKey, error)
	Revoke(ctx context.Context, id string, at time.Time) error
}

// Presence is logic's port of that name.
type Presence interface {
	Login(ctx context.Context, user store.UserKey, r store.Route) (store.LoginResult, error)
	Unregister(ctx context.Context, user store.UserKey, class store.DeviceClass, session uint64) error
	Register(ctx context.Context, batch []store.Registration) ([]store.RegisterResult, error)
	Lookup(ctx context.Context, users []store.UserKey) (store.Lookup, error)
}

// Leases is logic's port of that name.
type Leases interface {
	BeatGate(ctx context.Context, g store.Gate, ttl time.Duration) (epoch uint64, err error)
	DropGate(ctx context.Context, epoch uint64) error
	Gates(ctx context.Context) ([]store.Gate, error)
	BeatLogic(ctx context.Context, n store.LogicNode, ttl time.Duration) error
	DropLogic(ctx context.Context, epoch uint64) error
	LogicNodes(ctx context.Context) ([]store.LogicNode, error)
}

// Database is one database with every port over it.
type Database struct {
	Inbox   Inbox
	Devices Devices
	Nodes   Nodes
	Sweeper Sweeper
	AppKeys AppKeys
	// Poison makes the database refuse every row whose content is this one, for a reason that will not pass.
	Poison func(t testing.TB, content []byte)
	// Raw is how many rows the inbox table holds.
	Raw func(t testing.TB) int
}

// DatabaseFactory makes an empty database that t's end removes.
type DatabaseFactory func(t testing.TB) Database

// Table is one presence table with both ports over it.
type Table struct {
	Presence Presence
	Leases   Leases
	// Empty loses everything, as a server without persistence does when it restarts.
	Empty func(t testing.TB)
}

// TableFactory makes an empty presence table whose tombstones live for tombstoneTTL.
type TableFactory func(t testing.TB, tombstoneTTL time.Duration) Table

// The classes that the suites use.
const (
	android store.DeviceClass = 1
	ios     store.DeviceClass = 2
	web     store.DeviceClass = 3
)

// start is where the tests' time begins: the database's clock plays no part in what expires.
var start = time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)

var (
	alice = store.UserKey{Domain: "shop", UID: "alice"}
	bob   = store.UserKey{Domain: "shop", UID: "bob"}
)

var lastID atomic.Uint64

// nextID is an id that no other call returns.
func nextID() store.MsgID { return store.MsgID(1<<40 + lastID.Add(1)) }

var lastUUID atomic.Uint64

func newUUID() (u [16]byte) {
	binary.BigEndian.PutUint64(u[:], lastUUID.Add(1))
	binary.BigEndian.PutUint64(u[8:], rand.Uint64())
	return u
}

// message makes a message that is new in every way.
func message(from, to store.UserKey) store.Message {
	m := store.Message{
		ID: nextID(), Owner: to, From: from, FromClass: android, Stream: rand.Uint64() | 1<<63, TargetSeq: 1, ClientMsgID: newUUID(),
		Kind: store.KindC2C, Type: "text", Content: []byte("hello"), Flags: 1 << 31, CreatedAt: start, ExpiresAt: start.Add(time.Hour),
	}
	m.Digest = store.DigestOf(m.From, m.ClientMsgID, m.Kind, m.Owner)
	return m
}

// resend is m under another id.
func resend(m store.Message) store.Message {
	m.ID = nextID()
	return m
}

func messages(n int, from, to store.UserKey) []store.Message {
	list := make([]store.Message, n)
	for i := range list {
		list[i] = message(from, to)
		list[i].Content = fmt.Appendf(nil, "message %d", i)
	}
	return list
}

func ids(list []store.Message) []store.MsgID {
	out := make([]store.MsgID, len(list))
	for i := range list {
		out[i] = list[i].ID
	}
	return out
}

// eventually polls f until it is content, for at most ten seconds.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still after ten seconds: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (db Database) append(t testing.TB, batch ...store.Message) []store.AppendResult {
	t.Helper()
	res, err := db.Inbox.Append(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	if len(res) != len(batch) {
		t.Fatalf("%d results for %d rows", len(res), len(batch))
	}
	return res
}

func (db Database) stored(t testing.TB, batch ...store.Message) {
	t.Helper()
	for i, r := range db.append(t, batch...) {
		if r != (store.AppendResult{ID: batch[i].ID, Outcome: store.Stored}) {
			t.Fatalf("row %d: %+v, want stored under %d", i, r, batch[i].ID)
		}
	}
}

// page reads the whole inbox as class sees it.
func (db Database) all(t testing.TB, owner store.UserKey, class store.DeviceClass) []store.Message {
	t.Helper()
	page, _, more, err := db.Inbox.Page(t.Context(), store.PageQuery{Owner: owner, Class: class, Limit: 10000, MaxBytes: 1 << 30, Now: start})
	if err != nil || more {
		t.Fatalf("page: more %v, %v", more, err)
	}
	return page
}

func (db Database) confirm(t testing.TB, owner store.UserKey, class store.DeviceClass, list ...store.MsgID) {
	t.Helper()
	if _, err := db.Inbox.Confirm(t.Context(), []store.Confirmation{{Owner: owner, Class: class, IDs: list}}); err != nil {
		t.Fatal(err)
	}
}

func (db Database) register(t testing.TB, owner store.UserKey, class store.DeviceClass, session uint64) (retired bool) {
	t.Helper()
	retired, err := db.Devices.Register(t.Context(), deviceOf(owner, class, session))
	if err != nil {
		t.Fatal(err)
	}
	return retired
}

func (db Database) retire(t testing.TB, owner store.UserKey, class store.DeviceClass, session uint64) {
	t.Helper()
	if err := db.Devices.Retire(t.Context(), deviceOf(owner, class, session)); err != nil {
		t.Fatal(err)
	}
}

// deviceOf is the same installation for each class of a user, whose login counter goes with the sessions.
func deviceOf(owner store.UserKey, class store.DeviceClass, session uint64) store.Device {
	return store.Device{Owner: owner, Class: class, Session: session, LoginCounter: session, Installation: [16]byte{byte(class)}, SeenAt: start}
}

func (db Database) rows(t testing.TB, want int) {
	t.Helper()
	if n := db.Raw(t); n != want {
		t.Fatalf("the inbox table holds %d rows, want %d", n, want)
	}
}
