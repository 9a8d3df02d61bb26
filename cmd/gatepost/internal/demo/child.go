package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/gatepost/gatepost/cmd/gatepost/internal/clientstore"
	"github.com/gatepost/gatepost/cmd/gatepost/internal/target"
	gatepost "github.com/gatepost/gatepost/sdk/go"
)

// childSpec tells a client process, by stdin, what to be and to do.
type childSpec struct {
	User   gatepost.User
	Store  string // path
	To     gatepost.User
	Send   []string // sent to To in this order, once online
	Stall  bool     // the app's callback never returns
	Retire bool     // leave by Logout, so that nothing is kept for this device afterwards
}

// event is one line that a client process prints.
type event struct {
	Kind          eventKind
	ID            gatepost.ClientMsgID // of the message
	Text          string               // of the message
	MaybeRepeated bool                 `json:",omitempty"`
	Late          bool                 `json:",omitempty"`
	Duplicate     bool                 `json:",omitempty"`
	Error         string               `json:",omitempty"`
}

type eventKind string

const (
	evOnline eventKind = "online"
	evShown  eventKind = "shown"  // the app's callback was entered
	evQueued eventKind = "queued" // the outbox has the message
	evSent   eventKind = "sent"   // its final outcome
	evFailed eventKind = "failed"
)

// RunChild is the client process of the steps in which one is killed. It ends in order when in does.
func RunChild(ctx context.Context, t *target.Target, in io.Reader, out io.Writer) error {
	dec := json.NewDecoder(in)
	var spec childSpec
	if err := dec.Decode(&spec); err != nil {
		return fmt.Errorf("what to do: %w", err)
	}
	var mu sync.Mutex
	enc := json.NewEncoder(out)
	say := func(e event) {
		mu.Lock()
		defer mu.Unlock()
		enc.Encode(e) // a parent that is gone is noticed at stdin
	}
	if err := childClient(ctx, t, spec, in, say); err != nil {
		say(event{Kind: evFailed, Error: err.Error()})
		return err
	}
	return nil
}

func childClient(ctx context.Context, t *target.Target, spec childSpec, in io.Reader, say func(event)) error {
	store, err := clientstore.Open(spec.Store)
	if err != nil {
		return err
	}
	cfg := t.Client(spec.User, device)
	cfg.Store = store
	cfg.OnMessage = func(ctx context.Context, m gatepost.Message) error {
		say(event{Kind: evShown, ID: m.ClientMsgID, Text: string(m.Content), MaybeRepeated: m.MaybeRepeated, Late: m.Late})
		if spec.Stall {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	cfg.OnSent = func(r gatepost.SendResult) {
		e := event{Kind: evSent, ID: r.ClientMsgID, Duplicate: r.Duplicate}
		if r.Err != nil {
			e.Error = r.Err.Error()
		}
		say(e)
	}
	client, err := gatepost.New(cfg)
	if err != nil {
		store.Close()
		return err
	}
	defer client.Close()
	if err := client.Login(ctx); err != nil {
		return err
	}
	say(event{Kind: evOnline})
	for _, text := range spec.Send {
		sending, err := client.C2C(ctx, spec.To, gatepost.Outgoing{Type: "text", Content: []byte(text)})
		if err != nil {
			return err
		}
		say(event{Kind: evQueued, ID: sending.ID(), Text: text})
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	if spec.Retire {
		return client.Logout(ctx)
	}
	return client.Close()
}
