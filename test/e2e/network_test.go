//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gatepost/gatepost/audit/faults"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/test/harness"
)

// Connections are cut at drawn bytes in both directions and halved, again and again: everything is accepted and shown once, in order.
func TestResendsOverReconnects(t *testing.T) {
	const seed, messages = 11, 400
	rng := rand.New(rand.NewPCG(seed, 0))
	effects := make([]faults.Effect, 60) // those after them are left in peace
	for i := range effects {
		effects[i] = faults.Effect{Halve: rng.IntN(2) == 0}
		if rng.IntN(2) == 0 {
			effects[i].CutUp = 200 + rng.Int64N(6000)
		} else {
			effects[i].CutDown = 200 + rng.Int64N(6000)
		}
	}
	effect := func(n int) faults.Effect {
		if n < len(effects) {
			return effects[n]
		}
		return faults.Effect{}
	}
	proxy := harness.NewProxy(t, address(0), effect)
	a := person(t, "a", harness.Through(proxy.Address())).Login()
	b := person(t, "b", harness.Through(proxy.Address())).Login()
	want := texts("cut", messages)
	for _, text := range want {
		a.Send(b.UID, text)
	}
	b.Wants(want...)
	harness.Eventually(t, harness.Patience, func() error { return acceptedOnce(a, messages) })
	for _, m := range b.Got() {
		if m.Late || m.MaybeRepeated {
			t.Errorf("%s is flagged: %+v", m.Content, m)
		}
	}
	if n := proxy.Connections(); n < 6 {
		t.Errorf("only %d connections: nothing was cut", n)
	}
	b.Leave()
}

// A connection that is open and passes nothing: the client notices by a request that is not answered, and goes another way.
func TestStalledConnections(t *testing.T) {
	for name, e := range map[string]faults.Effect{"up": {StallUp: 900}, "down": {StallDown: 900}} {
		t.Run(name, func(t *testing.T) {
			proxy := harness.NewProxy(t, address(0), func(n int) faults.Effect {
				if n == 0 {
					return e
				}
				return faults.Effect{}
			})
			b := person(t, "b").Login()
			a := person(t, "a", harness.Through(proxy.Address()), func(c *gatepost.Config) { c.Timing.Request = time.Second }).Login()
			want := texts("stall", 30)
			for _, text := range want {
				a.Send(b.UID, text)
			}
			b.Wants(want...)
			harness.Eventually(t, harness.Patience, func() error { return acceptedOnce(a, len(want)) })
		})
	}
}

// A gate that cannot be reached is passed over for the next of the list.
func TestFailoverToTheNextGate(t *testing.T) {
	b := person(t, "b").Login()
	a := person(t, "a", harness.Through("tcp://127.0.0.1:1", "tcp://"+address(1))).Login()
	a.Accepted(b.UID, "by the other gate")
	b.Wants("by the other gate")
}

// A pull ends although new messages come without a pause, and their order holds.
func TestSteadyTrafficDuringAPull(t *testing.T) {
	a, b := person(t, "a").Login(), person(t, "b").Login()
	b.Restart(nil)
	var sent []string
	for i := range 600 { // more than one page lies there
		sent = append(sent, fmt.Sprintf("m-%d", i))
		a.Send(b.UID, sent[i])
	}
	stop, ended := make(chan struct{}), make(chan []string)
	go func() {
		var more []string
		for i := 0; ; i++ {
			select {
			case <-stop:
				ended <- more
				return
			default:
			}
			text := fmt.Sprintf("live-%d", i)
			ctx, cancel := withPatience()
			_, err := a.Client.C2C(ctx, gatepost.User{Domain: "local", UID: b.UID}, gatepost.Outgoing{Type: "text", Content: []byte(text)})
			cancel()
			if err != nil { // the outbox is full: faster than the platform
				time.Sleep(time.Millisecond)
				i--
				continue
			}
			more = append(more, text)
			if i%20 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	b.Login()
	for range 5 {
		b.Pull()
	}
	close(stop)
	sent = append(sent, <-ended...)
	b.Wants(sent...)
	for _, m := range b.Got() {
		if m.Late {
			t.Fatalf("%s is late", m.Content)
		}
	}
	b.Leave()
}

// While a user logs in, somebody sends to him: committed before or after the route was registered, the message is found, thousands of times.
func TestLoginRacesWithASend(t *testing.T) {
	const workers, rounds, budget = 4, 1000, 40 * time.Second
	deadline := time.Now().Add(budget)
	done := make(chan int, workers)
	for w := range workers {
		go func() {
			n := 0
			defer func() { done <- n }()
			n = race(t, w, rounds, deadline)
		}()
	}
	total := 0
	for range workers {
		total += <-done
	}
	t.Logf("%d logins raced with a send", total)
	if total < workers*rounds/4 && !t.Failed() {
		t.Errorf("only %d rounds in %s", total, budget)
	}
}

func race(t *testing.T, worker, rounds int, deadline time.Time) (n int) {
	rng := rand.New(rand.NewPCG(3, uint64(worker)))
	fail := func(err error) int {
		t.Errorf("worker %d, round %d: %v", worker, n, err)
		return n
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline.Add(harness.Patience))
	defer cancel()
	to, from := harness.UID(t, "to"), harness.UID(t, "from")
	token, err := p.Token(ctx, to)
	if err != nil {
		return fail(err)
	}
	sender, err := harness.DialRaw(address(worker), p.Keys()[0])
	if err != nil {
		return fail(err)
	}
	defer sender.Close()
	if err := sender.LoginAs(t, p, from, gatepost.Android); err != nil {
		return fail(err)
	}
	registrar, err := harness.DialRaw(address(0), p.Keys()[0])
	if err != nil {
		return fail(err)
	}
	if err := registrar.LoginAs(t, p, to, gatepost.Android); err != nil {
		return fail(err)
	}
	registrar.Close()
	installation, counter := registrar.Installation, registrar.Counter
	for ; n < rounds && time.Now().Before(deadline); n++ {
		receiver, err := harness.DialRaw(address(n), p.Keys()[0])
		if err != nil {
			return fail(err)
		}
		counter++
		receiver.Installation, receiver.Counter = installation, counter
		pause := time.Duration(rng.Int64N(int64(1500 * time.Microsecond)))
		text := fmt.Sprintf("round %d", n)
		sent := make(chan error, 1)
		go func() {
			time.Sleep(pause) // moves the send over the whole of the login
			sent <- sender.Call(clientpb.Cmd_CMD_C2C, restartFlag, harness.C2C(to, text, 9, uint64(n)+1), &clientpb.C2CAnswer{})
		}()
		err = receiver.Login(to, token, gatepost.Android)
		if err == nil {
			err = receiveOne(receiver, text)
		}
		if sendErr := <-sent; sendErr != nil {
			return fail(fmt.Errorf("send: %w", sendErr))
		}
		receiver.Close()
		if err != nil {
			return fail(err)
		}
	}
	return n
}

// receiveOne pulls once and then waits for what is pushed, until the text came; it confirms it.
func receiveOne(r *harness.Raw, text string) error {
	page, err := r.Pull(0, 0)
	if err != nil {
		return err
	}
	found := page.Messages
	for {
		for _, m := range found {
			if string(m.Content) == text {
				return r.Confirm(m.MsgId)
			}
		}
		if found, err = r.NextPushed(); err != nil {
			return fmt.Errorf("%q neither pulled nor pushed: %w", text, err)
		}
	}
}
