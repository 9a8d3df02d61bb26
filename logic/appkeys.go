package logic

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatepost/gatepost/store"
)

// Rights of an app key.
const (
	RightPush     = "push"
	RightPresence = "presence"
	RightKick     = "kick"
	RightToken    = "token"
)

// AppRights are all rights that a key may have.
func AppRights() []string { return []string{RightPush, RightPresence, RightKick, RightToken} }

const (
	secretBytes   = 32
	maxKeyIDBytes = 64

	// keyTimeout bounds one look-up of a key.
	keyTimeout = time.Second
	// keyMemory is how long the last answer of the database about a valid key counts while the database is away.
	keyMemory = 10 * time.Minute
	// maxKnownKeys bounds the keys that are remembered for that.
	maxKnownKeys = 4096
	// maxKeyLookups bounds the ids that are being looked up, keyLookups those of them that the database is asked for at one time:
	// half for ids that were valid before, so that strangers cannot keep their bearers out.
	maxKeyLookups = 1024
	keyLookups    = 32
)

// NewAppKey makes a key for the app-servers of domain. text is what they show, and is to be had only now: k, which is to be stored,
// holds a hash of its secret.
func NewAppKey(domain string, rights []string) (text string, k store.AppKey, err error) {
	if err := checkName("domain", domain, maxDomainBytes); err != nil {
		return "", store.AppKey{}, fmt.Errorf("new app key: %w", err)
	}
	if len(rights) == 0 {
		return "", store.AppKey{}, fmt.Errorf("new app key: it has no right; there are %s", strings.Join(AppRights(), ", "))
	}
	for _, r := range rights {
		if !slices.Contains(AppRights(), r) {
			return "", store.AppKey{}, fmt.Errorf("new app key: there is no right %q; there are %s", r, strings.Join(AppRights(), ", "))
		}
	}
	var id [8]byte
	var secret [secretBytes]byte
	rand.Read(id[:]) // never fails: crypto/rand
	rand.Read(secret[:])
	k = store.AppKey{
		ID: hex.EncodeToString(id[:]), Domain: domain, Rights: slices.Compact(slices.Sorted(slices.Values(rights))),
		Hash: sha256.Sum256(secret[:]), CreatedAt: time.Now().UTC().Truncate(time.Millisecond),
	}
	return k.ID + "." + base64.RawURLEncoding.EncodeToString(secret[:]), k, nil
}

// parseAppKey splits a key's text into its public id and the hash of its secret.
func parseAppKey(text string) (id string, hash [32]byte, ok bool) {
	id, encoded, found := strings.Cut(text, ".")
	if !found || id == "" || len(id) > maxKeyIDBytes || checkText("key", id) != nil ||
		len(encoded) != base64.RawURLEncoding.EncodedLen(secretBytes) {
		return "", hash, false
	}
	secret, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return "", hash, false
	}
	return id, sha256.Sum256(secret), true
}

// appKeys checks the keys of app-servers. The database is asked for each call, so a revoked key is refused from then on by every node;
// calls that wait for the same key share one look-up, which began after each of them. While the database is away, its last answer
// about a key that was valid counts; its secret must be shown as ever. No key is logged.
type appKeys struct {
	node    *Node
	store   AppKeys // nil: there are no keys here
	known   slots   // look-ups in flight of ids in valid
	unknown slots   // of other ids

	mu      sync.Mutex
	waiting map[string]*keyQueue // of ids that are being looked up
	valid   map[string]validKey
}

// keyQueue is the look-up of one id that is in flight, and the one that follows it.
type keyQueue struct{ next *keyLookup }

type keyLookup struct {
	done  chan struct{} // closed when the others are set
	begun time.Time
	key   store.AppKey
	err   error
}

// validKey is what the database said last of a key.
type validKey struct {
	key store.AppKey
	at  time.Time
}

func newAppKeys(n *Node, s AppKeys) *appKeys {
	return &appKeys{
		node: n, store: s, known: make(slots, keyLookups/2), unknown: make(slots, keyLookups/2),
		waiting: make(map[string]*keyQueue), valid: make(map[string]validKey),
	}
}

var errBadAppKey = appErrorf(AppUnauthenticated, "the app key is not valid")

// check returns the key whose text was shown, or why the call is refused.
func (a *appKeys) check(ctx context.Context, text string) (store.AppKey, *AppError) {
	if text == "" {
		return store.AppKey{}, appErrorf(AppUnauthenticated, "the call shows no app key")
	}
	id, hash, ok := parseAppKey(text)
	if !ok {
		return store.AppKey{}, errBadAppKey
	}
	if a.store == nil {
		return store.AppKey{}, appErrorf(AppUnavailable, "this node has no app keys")
	}
	l, refusal := a.lookUp(ctx, id)
	if refusal != nil {
		return store.AppKey{}, refusal
	}
	return a.judge(l, id, hash)
}

// judge says what l, a look-up of id that is done, means for a caller who showed a secret with that hash. It changes nothing: a
// caller who is slow to ask may come after a later look-up.
func (a *appKeys) judge(l *keyLookup, id string, hash [32]byte) (store.AppKey, *AppError) {
	key, err := l.key, l.err
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		var remembered bool
		if key, remembered = a.recall(id); !remembered {
			a.node.logger.Warn("an app key could not be looked up", slog.Any("error", err))
			return store.AppKey{}, &AppError{Fault: AppUnavailable, Reason: "the app key cannot be checked now", cause: err}
		}
		err = nil
	}
	// A key that is not there is compared too: against a zero hash, which no secret has.
	same := subtle.ConstantTimeCompare(hash[:], key.Hash[:]) == 1
	if err != nil || !key.RevokedAt.IsZero() || !same {
		return store.AppKey{}, errBadAppKey
	}
	return key, nil
}

// lookUp asks the database for the key id, by a look-up that begins after this call.
func (a *appKeys) lookUp(ctx context.Context, id string) (*keyLookup, *AppError) {
	a.mu.Lock()
	q := a.waiting[id]
	idle := q == nil
	if idle {
		if len(a.waiting) >= maxKeyLookups {
			a.mu.Unlock()
			return nil, appErrorf(AppExhausted, "too many app keys are being checked")
		}
		q = &keyQueue{}
		id = strings.Clone(id)
		a.waiting[id] = q
	}
	if q.next == nil {
		q.next = &keyLookup{done: make(chan struct{})}
	}
	l := q.next
	if idle {
		a.node.calls.more() // the caller is inside
		go a.run(context.WithoutCancel(ctx), id, q)
	}
	a.mu.Unlock()
	select {
	case <-l.done:
		return l, nil
	case <-ctx.Done():
		return nil, &AppError{Fault: AppUnavailable, Reason: "the app key could not be checked in time", cause: ctx.Err()}
	}
}

// run looks id up for as long as somebody waits for it.
func (a *appKeys) run(ctx context.Context, id string, q *keyQueue) {
	defer a.node.calls.leave()
	for {
		a.mu.Lock()
		if q.next == nil {
			delete(a.waiting, id)
			a.mu.Unlock()
			return
		}
		pool := a.unknown
		if _, ok := a.valid[id]; ok {
			pool = a.known
		}
		a.mu.Unlock()
		a.one(ctx, id, q, pool)
	}
}

// one carries the look-up that follows.
func (a *appKeys) one(ctx context.Context, id string, q *keyQueue, pool slots) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	slotErr := pool.acquire(ctx)
	a.mu.Lock()
	l := q.next
	q.next = nil // whoever comes now waits for the one after it
	a.mu.Unlock()
	defer close(l.done)
	l.begun = a.node.now()
	if slotErr != nil {
		l.err = fmt.Errorf("wait for a look-up: %w: %w", slotErr, store.ErrUnavailable)
		return
	}
	defer pool.release()
	defer func() {
		if p := recover(); p != nil {
			a.node.metrics.panics.Inc()
			l.err = fmt.Errorf("look up an app key: panic: %v: %w", p, store.ErrUnavailable)
		}
	}()
	l.key, l.err = a.store.Get(ctx, id)
	switch {
	case l.err == nil && l.key.RevokedAt.IsZero():
		a.remember(l.key, l.begun)
	case l.err == nil || errors.Is(l.err, store.ErrNotFound):
		a.forget(id)
	}
}

// remember and forget are called by the look-ups of a key, which follow one another: the latest one counts.
func (a *appKeys) remember(key store.AppKey, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.valid[key.ID]; !ok && len(a.valid) >= maxKnownKeys {
		for id := range a.valid { // any: so many keys are not in use at one time
			delete(a.valid, id)
			break
		}
	}
	a.valid[key.ID] = validKey{key, at}
}

func (a *appKeys) recall(id string) (store.AppKey, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	v, ok := a.valid[id]
	if ok && a.node.now().Sub(v.at) > keyMemory {
		delete(a.valid, id)
		ok = false
	}
	return v.key, ok
}

func (a *appKeys) forget(id string) {
	a.mu.Lock()
	delete(a.valid, id)
	a.mu.Unlock()
}
