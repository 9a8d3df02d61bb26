package harness

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gatepost/gatepost/audit/faults"
	"github.com/gatepost/gatepost/audit/platform"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/memstore"
)

// Patience is how long a test waits for what must come.
const Patience = 30 * time.Second

// Person is a user on a device: a client of the Go SDK and what it was told.
type Person struct {
	UID    string
	Client *gatepost.Client
	t      testing.TB
	p      *platform.Platform
	cfg    gatepost.Config

	mu     sync.Mutex
	got    []gatepost.Message
	sent   []gatepost.SendResult
	told   []gatepost.Receipt
	states []gatepost.StateChange
	open   *openStore
}

// Option changes the configuration of a person's client.
type Option func(*gatepost.Config)

// On sets the device class.
func On(d gatepost.Device) Option { return func(c *gatepost.Config) { c.Device = d } }

// In makes it a user of another domain of p. Leave does not check its inbox.
func In(p *platform.Platform, domain string) Option {
	return func(c *gatepost.Config) {
		uid := c.User.UID
		c.User.Domain = domain
		c.Token = func(ctx context.Context) (string, error) { return p.TokenIn(ctx, domain, uid) }
	}
}

// Keeping sets the store; a person that comes back with the same store is the same installation.
func Keeping(s gatepost.Store) Option { return func(c *gatepost.Config) { c.Store = s } }

// Through sets the gates, such as the address of a proxy.
func Through(gates ...string) Option { return func(c *gatepost.Config) { c.Gates = gates } }

// Showing sets what is called before a message counts as shown.
func Showing(show func(context.Context, gatepost.Message) error) Option {
	return func(c *gatepost.Config) { c.OnMessage = show }
}

// Dialing sets the dialer.
func Dialing(d func(context.Context, string, string) (net.Conn, error)) Option {
	return func(c *gatepost.Config) { c.Dialer = d }
}

// NewPerson makes a client of uid that is not connected. It is closed at the end of the test.
func NewPerson(t testing.TB, p *platform.Platform, uid string, options ...Option) *Person {
	t.Helper()
	var keys []gatepost.Key
	for _, text := range p.Keys() {
		k, err := gatepost.ParseKey(text)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	x := &Person{UID: uid, t: t, p: p}
	x.cfg = gatepost.Config{
		Gates: p.Addresses(), Keys: keys, User: gatepost.User{Domain: platform.Domain, UID: uid}, Device: gatepost.Android,
		Token:  func(ctx context.Context) (string, error) { return p.Token(ctx, uid) },
		Timing: faults.Timing(),
	}
	for _, o := range options {
		o(&x.cfg)
	}
	if x.cfg.Store == nil {
		x.cfg.Store = memstore.New()
	}
	x.watch()
	show := x.cfg.OnMessage
	x.cfg.OnMessage = func(ctx context.Context, m gatepost.Message) error {
		if show != nil {
			if err := show(ctx, m); err != nil {
				return err
			}
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		x.got = append(x.got, m)
		return nil
	}
	x.cfg.OnReceipt = func(_ context.Context, r gatepost.Receipt) error {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.told = append(x.told, r)
		return nil
	}
	x.cfg.OnSent = func(r gatepost.SendResult) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.sent = append(x.sent, r)
	}
	x.cfg.OnState = func(s gatepost.StateChange) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.states = append(x.states, s)
	}
	x.make()
	t.Cleanup(x.Close)
	return x
}

func (x *Person) make() {
	x.t.Helper()
	c, err := gatepost.New(x.cfg)
	if err != nil {
		x.t.Fatalf("%s: %v", x.UID, err)
	}
	x.Client = c
}

// Login logs in and fails the test when that does not work.
func (x *Person) Login() *Person {
	x.t.Helper()
	if err := x.TryLogin(); err != nil {
		x.t.Fatalf("%s: log in: %v", x.UID, err)
	}
	return x
}

// TryLogin logs in, patiently.
func (x *Person) TryLogin() error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	return x.Client.Login(ctx)
}

// Close closes the client; the store is kept where its kind keeps it.
func (x *Person) Close() {
	if err := x.Client.Close(); err != nil {
		x.t.Errorf("%s: close: %v", x.UID, err)
	}
}

// Restart closes the app and opens it again, not connected. open opens the store of the new life; nil: the same one, in memory.
func (x *Person) Restart(open func() gatepost.Store) {
	x.t.Helper()
	x.Close()
	if open != nil {
		x.cfg.Store = open()
		x.watch()
	}
	x.make()
}

// Pull pulls to the last page.
func (x *Person) Pull() {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := x.Client.Pull(ctx); err != nil {
		x.t.Fatalf("%s: pull: %v", x.UID, err)
	}
}

// Send hands a message over.
func (x *Person) Send(to, text string) *gatepost.Sending {
	x.t.Helper()
	return x.SendFor(to, text, 0)
}

// SendFor hands over a message with a time to live.
func (x *Person) SendFor(to, text string, ttl time.Duration) *gatepost.Sending {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	s, err := x.Client.C2C(ctx, gatepost.User{Domain: platform.Domain, UID: to}, gatepost.Outgoing{Type: "text", Content: []byte(text), TTL: ttl})
	if err != nil {
		x.t.Fatalf("%s: send: %v", x.UID, err)
	}
	return s
}

// SendAs hands over a message that is more than its text.
func (x *Person) SendAs(to gatepost.User, m gatepost.Outgoing) *gatepost.Sending {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	s, err := x.Client.C2C(ctx, to, m)
	if err != nil {
		x.t.Fatalf("%s: send: %v", x.UID, err)
	}
	return s
}

// Report hands an uplink over.
func (x *Person) Report(r gatepost.Report) *gatepost.Sending {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	s, err := x.Client.C2S(ctx, r)
	if err != nil {
		x.t.Fatalf("%s: report: %v", x.UID, err)
	}
	return s
}

// Receipts are those told so far.
func (x *Person) Receipts() []gatepost.Receipt {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]gatepost.Receipt(nil), x.told...)
}

// Outcome waits for the outcome of a message.
func (x *Person) Outcome(s *gatepost.Sending) (gatepost.SendResult, error) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	r, err := s.Wait(ctx)
	if ctx.Err() != nil && err != nil {
		x.t.Fatalf("%s: no outcome: %v", x.UID, err)
	}
	return r, err
}

// Accepted sends and waits until the message is accepted.
func (x *Person) Accepted(to, text string) gatepost.SendResult {
	x.t.Helper()
	r, err := x.Outcome(x.Send(to, text))
	if err != nil || r.MsgID == 0 {
		x.t.Fatalf("%s: %q was not accepted: %+v %v", x.UID, text, r, err)
	}
	return r
}

// Got are the messages shown so far.
func (x *Person) Got() []gatepost.Message {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]gatepost.Message(nil), x.got...)
}

// Sent are the outcomes told so far.
func (x *Person) Sent() []gatepost.SendResult {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]gatepost.SendResult(nil), x.sent...)
}

// Texts are the contents shown so far.
func (x *Person) Texts() []string {
	var out []string
	for _, m := range x.Got() {
		out = append(out, string(m.Content))
	}
	return out
}

// State is the last change of state, with all those before it.
func (x *Person) States() []gatepost.StateChange {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]gatepost.StateChange(nil), x.states...)
}

// Wants waits until exactly these texts were shown, in this order.
func (x *Person) Wants(texts ...string) {
	x.t.Helper()
	Eventually(x.t, Patience, func() error {
		got := x.Texts()
		if fmt.Sprint(got) != fmt.Sprint(texts) || len(got) != len(texts) {
			return fmt.Errorf("%s was shown %d messages %.300q, want %d %.300q", x.UID, len(got), got, len(texts), texts)
		}
		return nil
	})
}

// openStore counts the messages that were received and whose confirmation is not answered: they are in the store.
type openStore struct {
	gatepost.Store
	mu   sync.Mutex
	open map[uint64]struct{}
}

func (x *Person) watch() {
	if watched, ok := x.cfg.Store.(*openStore); ok {
		x.open = watched
		return
	}
	x.open = &openStore{Store: x.cfg.Store, open: map[uint64]struct{}{}}
	x.cfg.Store = x.open
}

func (s *openStore) Commit(c *gatepost.Changes) error {
	if err := s.Store.Commit(c); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range c.PutReceived {
		s.open[r.Number] = struct{}{}
	}
	for _, n := range c.DeleteReceived {
		delete(s.open, n)
	}
	return nil
}

// User is who it is.
func (x *Person) User() gatepost.User { return x.cfg.User }

// Leave waits until everything that was shown is confirmed, closes the client, and checks that its inbox is empty.
func (x *Person) Leave() {
	x.t.Helper()
	for range 2 { // a row that came again is confirmed without a trace in the store; the second pull is behind that
		Eventually(x.t, Patience, func() error {
			x.open.mu.Lock()
			defer x.open.mu.Unlock()
			if n := len(x.open.open); n > 0 {
				return fmt.Errorf("%s: %d confirmations are not answered", x.UID, n)
			}
			return nil
		})
		x.Pull()
	}
	x.Close()
	if x.cfg.User.Domain != platform.Domain {
		return
	}
	InboxIsEmpty(x.t, x.p, x.UID, x.cfg.Device)
}

// InboxIsEmpty looks into the inbox with an installation of the same class that was never there; it waits, because confirmations are
// on their way. The person must be closed or of another class: the newest login of a class wins.
func InboxIsEmpty(t testing.TB, p *platform.Platform, uid string, d gatepost.Device) {
	t.Helper()
	r, err := DialRaw(p.Gates[0].Ready("tcp"), p.Keys()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.LoginAs(t, p, uid, d); err != nil {
		t.Fatal(err)
	}
	Eventually(t, Patience, func() error {
		page, err := r.Pull(0, 0)
		if err != nil {
			return err
		}
		if n := len(page.Messages); n > 0 {
			return fmt.Errorf("%d messages are in the inbox of %s, the first is %d", n, uid, page.Messages[0].MsgId)
		}
		return nil
	})
}
