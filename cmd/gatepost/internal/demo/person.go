package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/gatepost/gatepost/cmd/gatepost/internal/clientstore"
	gatepost "github.com/gatepost/gatepost/sdk/go"
)

// person is a user with a client in this process.
type person struct {
	user   gatepost.User
	client *gatepost.Client

	mu       sync.Mutex
	shown    []gatepost.Message
	receipts []gatepost.Receipt
	states   []gatepost.StateChange
	news     chan struct{} // closed and replaced when one of them grows
}

// login opens the store at path and brings user online. onMessage may be nil.
func (r *run) login(ctx context.Context, user gatepost.User, path string, onMessage func(gatepost.Message) error) (*person, error) {
	return r.loginOn(ctx, user, device, path, onMessage)
}

// loginOn is login on a device of any class.
func (r *run) loginOn(ctx context.Context, user gatepost.User, on gatepost.Device, path string, onMessage func(gatepost.Message) error) (*person, error) {
	store, err := clientstore.Open(path)
	if err != nil {
		return nil, fmt.Errorf("store of %s: %w", user.UID, err)
	}
	p := &person{user: user, news: make(chan struct{})}
	cfg := r.Target.Client(user, on)
	cfg.Store = store
	cfg.OnMessage = func(_ context.Context, m gatepost.Message) error {
		if onMessage != nil {
			if err := onMessage(m); err != nil {
				return err
			}
		}
		p.note(func() { p.shown = append(p.shown, m) })
		return nil
	}
	cfg.OnReceipt = func(_ context.Context, rec gatepost.Receipt) error {
		p.note(func() { p.receipts = append(p.receipts, rec) })
		return nil
	}
	cfg.OnState = func(s gatepost.StateChange) { p.note(func() { p.states = append(p.states, s) }) }
	if p.client, err = gatepost.New(cfg); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	if err := p.client.Login(ctx); err != nil {
		return nil, fmt.Errorf("log in %s: %w", user.UID, errors.Join(err, p.client.Close()))
	}
	return p, nil
}

func (p *person) note(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.news)
	p.news = make(chan struct{})
}

// until waits for done to become true of what p has seen.
func (p *person) until(ctx context.Context, what string, done func() bool) error {
	for {
		p.mu.Lock()
		ok, news := done(), p.news
		p.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("%s has not seen %s: %w", p.user.UID, what, ctx.Err())
		}
	}
}

// message waits until the message id has been shown to p.
func (p *person) message(ctx context.Context, what string, id gatepost.ClientMsgID) (found gatepost.Message, err error) {
	err = p.until(ctx, what, func() bool {
		for _, m := range p.shown {
			if m.ClientMsgID == id {
				found = m
				return true
			}
		}
		return false
	})
	return found, err
}

// count is how often the message id was shown to p.
func (p *person) count(id gatepost.ClientMsgID) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.shown {
		if m.ClientMsgID == id {
			n++
		}
	}
	return n
}

// send hands the texts over and waits until each of them is accepted.
func (p *person) send(ctx context.Context, to gatepost.User, texts ...string) ([]gatepost.SendResult, error) {
	var sendings []*gatepost.Sending
	for _, text := range texts {
		s, err := p.client.C2C(ctx, to, gatepost.Outgoing{Type: "text", Content: []byte(text)})
		if err != nil {
			return nil, fmt.Errorf("%s sends %q: %w", p.user.UID, text, err)
		}
		sendings = append(sendings, s)
	}
	var results []gatepost.SendResult
	for i, s := range sendings {
		res, err := s.Wait(ctx)
		if err != nil {
			return nil, fmt.Errorf("%q of %s was not accepted: %w", texts[i], p.user.UID, err)
		}
		results = append(results, res)
	}
	return results, nil
}

// expect waits for the last of texts and checks that from has been shown to p as exactly texts, each once, in this order.
func (p *person) expect(ctx context.Context, from gatepost.User, texts ...string) error {
	last := texts[len(texts)-1]
	var got []string
	err := p.until(ctx, fmt.Sprintf("%q", last), func() bool {
		got = nil
		for _, m := range p.shown {
			if m.From == from {
				got = append(got, string(m.Content))
			}
		}
		return slices.Contains(got, last)
	})
	if err != nil {
		return err
	}
	if !slices.Equal(got, texts) {
		return fmt.Errorf("%s was shown [%s], want [%s]", p.user.UID, strings.Join(got, ", "), strings.Join(texts, ", "))
	}
	return nil
}
