package logic

import (
	"context"
	"time"

	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/mq"
	"github.com/gatepost/gatepost/store"
)

// The ports: what logic needs of the rooms below it. Implementations are safe for concurrent use,
// wrap the sentinels of package store, and keep no slice they were given after they have returned.

// Inbox holds what users have not confirmed yet.
type Inbox interface {
	// Append commits the rows of batch, and answers in their order. Rows come sorted in no way; two rows of a batch may share a digest.
	// A row whose digest is there keeps the row that is there, with its time to live; but one that had expired at the new row's CreatedAt
	// makes way for it, and leaves it the classes that have confirmed it.
	// store.ErrUnavailable: nothing is known of the outcome, some rows may be stored. Any other error: nothing was committed, and some row of the batch is to blame.
	Append(ctx context.Context, batch []store.Message) ([]store.AppendResult, error)
	// Find returns, in the order of digests, the ids of the rows that have them and have not expired at now; 0: there is no such row.
	// A digest may come twice.
	Find(ctx context.Context, digests []store.Digest, now time.Time) ([]store.MsgID, error)
	// Page returns at most limit rows of owner with after < id <= upto that class has not confirmed and that have not expired at now,
	// ordered by id, together at most maxBytes of content (but at least one row, if there is one). more: rows were left out.
	// upto 0 means the highest id there is, which is returned; 0 is returned when the inbox holds nothing for class.
	Page(ctx context.Context, q store.PageQuery) (page []store.Message, upto store.MsgID, more bool, err error)
	// Confirm marks each id that belongs to the confirmation's owner as confirmed by its class, and removes the rows that every registered
	// class of the owner has confirmed. Ids of others, and ids that are gone, are passed over. After an error some may be confirmed.
	// Of each of Receipts whose row has store.FlagReceipt and was confirmed by no class before, it stores the receipt in the transaction
	// that marks the row; the receipts that it stored are returned. store.ErrIDCollision: the id of a receipt was taken.
	Confirm(ctx context.Context, batch []store.Confirmation) (receipts []store.Message, err error)
	// Count counts owner's rows, at most limit.
	Count(ctx context.Context, owner store.UserKey, limit int) (int, error)
}

// Devices holds the device classes that are owed a user's messages.
type Devices interface {
	// Register owes d's class the user's messages from now on, and remembers d's login counter. retired: the class had been registered
	// before and was retired since. When a higher session number has registered or retired the class, it stays as that one left it.
	Register(ctx context.Context, d store.Device) (retired bool, err error)
	// Retire stops owing d's class the user's messages, and removes the rows that only it had not confirmed.
	// It does nothing when a higher session number has registered the class.
	Retire(ctx context.Context, d store.Device) error
	// WasHere reports whether d's installation has called Register for d's class with d's login counter or a higher one.
	// Of each class the last eight installations are remembered, also when it is retired.
	WasHere(ctx context.Context, d store.Device) (bool, error)
	// Known reports, in the order of users, whether any device class of each has ever been registered.
	Known(ctx context.Context, users []store.UserKey) ([]bool, error)
	// List returns the registered device classes of a user, without installations and login counters.
	List(ctx context.Context, owner store.UserKey) ([]store.Device, error)
}

// Nodes leases the node numbers in message ids.
type Nodes interface {
	// Lease takes a free number for owner. now is this node's clock: when it differs from the database's by more than maxSkew, store.ErrClockSkew.
	Lease(ctx context.Context, owner string, now time.Time, maxSkew, ttl, ahead time.Duration) (store.NodeLease, error)
	// Renew prolongs the lease and reserves ids ahead of now. store.ErrLeaseLost when owner does not hold it any more; store.ErrClockSkew as above.
	Renew(ctx context.Context, l store.NodeLease, now time.Time, maxSkew, ttl, ahead time.Duration) (store.NodeLease, error)
	// Release gives the number back.
	Release(ctx context.Context, l store.NodeLease) error
}

// Sweeper removes what has expired, in bounded chunks, under a lease that one node holds at a time.
type Sweeper interface {
	// TryLease takes or renews the named lease for owner; false: another one holds it.
	TryLease(ctx context.Context, name, owner string, ttl time.Duration) (bool, error)
	// Sweep removes rows that have expired at now among the next limit rows behind after, and returns where to go on; 0: the end was reached.
	Sweep(ctx context.Context, after store.MsgID, limit int, now time.Time) (next store.MsgID, removed int, err error)
	// RetireIdle retires at most limit device classes that were last seen before cutoff.
	RetireIdle(ctx context.Context, cutoff time.Time, limit int) (retired int, err error)
}

// Presence is the index of who is online and where; gates hold the truth. All changes are compare-and-set by session number.
type Presence interface {
	// Login fences and replaces the session of the user's device class. r.Session is logic's clock id: the session number
	// becomes max(stored+1, r.Session), tombstones counted.
	// Inside one installation the higher login counter wins, between installations the later login. The counters of the installation
	// that holds the class and of the three before it are remembered: a login that was overtaken on its way undoes nothing.
	Login(ctx context.Context, user store.UserKey, r store.Route) (store.LoginResult, error)
	// Unregister removes the route if it still is session number session, and leaves a tombstone (number, installation, counter).
	Unregister(ctx context.Context, user store.UserKey, class store.DeviceClass, session uint64) error
	// Register puts sessions back that a gate holds, unless a newer login or a tombstone of that number stands there.
	Register(ctx context.Context, batch []store.Registration) ([]store.RegisterResult, error)
	// Lookup returns the routes of users, in one round trip.
	Lookup(ctx context.Context, users []store.UserKey) (store.Lookup, error)
}

// Leases holds the live gates and logic nodes. A lease that is not renewed within its time to live is gone.
type Leases interface {
	// BeatGate writes a gate's lease, begins a new presence epoch when the table has none, and returns the epoch.
	BeatGate(ctx context.Context, g store.Gate, ttl time.Duration) (epoch uint64, err error)
	DropGate(ctx context.Context, epoch uint64) error
	Gates(ctx context.Context) ([]store.Gate, error)
	BeatLogic(ctx context.Context, n store.LogicNode, ttl time.Duration) error
	DropLogic(ctx context.Context, epoch uint64) error
	LogicNodes(ctx context.Context) ([]store.LogicNode, error)
}

// AppKeys holds the credentials of app-servers.
type AppKeys interface {
	// Get returns a key by its id, revoked or not; store.ErrNotFound.
	Get(ctx context.Context, id string) (store.AppKey, error)
}

// Uplinks carries events into Kafka topics.
//
// Events of one topic and key share a partition. One request for each partition is in flight, the next one only after its outcome,
// so an event is never overtaken by one that was produced behind it.
type Uplinks interface {
	// Produce queues r and returns at once. r.Done is called exactly once, from another goroutine, with nil when all in-sync replicas
	// have the record, or with an error that wraps a sentinel of package mq. r is not changed until then.
	Produce(r *mq.Record)
}

// Gates reaches gates by the address of their lease. In one process it is the gate itself.
type Gates interface {
	Deliver(ctx context.Context, rpcAddress string, req *gatepb.DeliverRequest) (*gatepb.DeliverResponse, error)
	Kick(ctx context.Context, rpcAddress string, req *gatepb.KickRequest) (*gatepb.KickResponse, error)
}

// Authenticator decides whether a token proves a user of its domain. Refusals are *status.Error.
type Authenticator interface {
	Authenticate(ctx context.Context, user store.UserKey, class store.DeviceClass, token []byte) error
}
