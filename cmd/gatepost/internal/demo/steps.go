package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatepost/gatepost/idl/status"
	gatepost "github.com/gatepost/gatepost/sdk/go"
)

var errNobody = errors.New("nobody is logged in: an earlier step failed")

func logIn(ctx context.Context, r *run) (seen string, err error) {
	if r.alice, err = r.login(ctx, r.names.alice, r.store("alice"), nil); err != nil {
		return "", err
	}
	if r.bob, err = r.login(ctx, r.names.bob, r.store("bob"), nil); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s and %s are online", r.alice.user.UID, r.bob.user.UID), nil
}

func talk(ctx context.Context, r *run) (string, error) {
	if r.alice == nil || r.bob == nil {
		return "", errNobody
	}
	asks := []string{"Are you there?", "I have a parcel for you.", "Two, in fact."}
	begin := time.Now()
	if _, err := r.alice.send(ctx, r.names.bob, asks[0]); err != nil {
		return "", err
	}
	accepted := time.Since(begin)
	if err := r.bob.expect(ctx, r.names.alice, asks[0]); err != nil {
		return "", err
	}
	shown := time.Since(begin)
	if _, err := r.alice.send(ctx, r.names.bob, asks[1:]...); err != nil {
		return "", err
	}
	if err := r.bob.expect(ctx, r.names.alice, asks...); err != nil {
		return "", err
	}
	answers := []string{"I am.", "Leave them at the door."}
	if _, err := r.bob.send(ctx, r.names.alice, answers...); err != nil {
		return "", err
	}
	if err := r.alice.expect(ctx, r.names.bob, answers...); err != nil {
		return "", err
	}
	return fmt.Sprintf("3 there and 2 back, in order; the first was accepted after %v and shown after %v",
		accepted.Round(10*time.Microsecond), shown.Round(10*time.Microsecond)), nil
}

func away(ctx context.Context, r *run) (string, error) {
	if r.alice == nil || r.bob == nil {
		return "", errNobody
	}
	if err := r.bob.client.Close(); err != nil {
		return "", fmt.Errorf("bob goes: %w", err)
	}
	r.bob = nil
	texts := []string{"You went out?", "The parcels are at the door.", "It looks like rain."}
	if _, err := r.alice.send(ctx, r.names.bob, texts...); err != nil {
		return "", err
	}
	back := time.Now()
	bob, err := r.login(ctx, r.names.bob, r.store("bob"), nil)
	if err != nil {
		return "", err
	}
	r.bob = bob
	if err := bob.expect(ctx, r.names.alice, texts...); err != nil {
		return "", err
	}
	return fmt.Sprintf("3 were accepted while he was away; all were shown %v after he came back", time.Since(back).Round(100*time.Microsecond)), nil
}

func killReceiver(ctx context.Context, r *run) (string, error) {
	if r.alice == nil {
		return "", errNobody
	}
	carol := childSpec{User: r.names.carol, Store: r.store("carol")}

	carol.Stall = true
	first, err := r.startChild(ctx, carol)
	if err != nil {
		return "", err
	}
	defer first.kill()
	if _, err := first.await(ctx, match{kind: evOnline}); err != nil {
		return "", err
	}
	const text, last = "This one is cut off.", "This one is not."
	if _, err := r.alice.send(ctx, r.names.carol, text); err != nil {
		return "", err
	}
	before, err := first.await(ctx, match{kind: evShown, text: text})
	if err != nil {
		return "", err
	}
	first.kill() // the app has the message, and nobody knows whether its user has seen it

	carol.Stall = false
	second, err := r.startChild(ctx, carol)
	if err != nil {
		return "", err
	}
	defer second.kill()
	again, err := second.await(ctx, match{kind: evShown, text: text})
	if err != nil {
		return "", fmt.Errorf("lost: %w", err)
	}
	if again.ID != before.ID || !again.MaybeRepeated {
		return "", fmt.Errorf("it was shown again without the flag, or as another message")
	}
	if err := second.end(ctx); err != nil { // in order this time: it is confirmed
		return "", err
	}

	carol.Retire = true
	third, err := r.startChild(ctx, carol)
	if err != nil {
		return "", err
	}
	defer third.kill()
	if _, err := r.alice.send(ctx, r.names.carol, last); err != nil {
		return "", err
	}
	if _, err := third.await(ctx, match{kind: evShown, text: last}); err != nil { // what waited before it would have come before it
		return "", err
	}
	if err := third.end(ctx); err != nil {
		return "", err
	}
	if n := third.count(match{kind: evShown, text: text}); n != 0 {
		return "", fmt.Errorf("it was shown a third time")
	}
	return fmt.Sprintf("process %d was killed inside the callback; process %d showed it again, flagged; process %d did not", first.pid(), second.pid(), third.pid()), nil
}

func killSender(ctx context.Context, r *run) (string, error) {
	if r.bob == nil {
		return "", errNobody
	}
	dave := childSpec{User: r.names.dave, Store: r.store("dave"), To: r.names.bob}
	const text, next = "Written, and then the lights went out.", "Back again."

	dave.Send = []string{text}
	first, err := r.startChild(ctx, dave)
	if err != nil {
		return "", err
	}
	defer first.kill()
	queued, err := first.await(ctx, match{kind: evQueued, text: text})
	if err != nil {
		return "", err
	}
	first.kill() // it may have left already, or not

	dave.Send, dave.Retire = []string{next}, true
	second, err := r.startChild(ctx, dave)
	if err != nil {
		return "", err
	}
	defer second.kill()
	again, err := second.await(ctx, match{kind: evSent, id: queued.ID})
	if err != nil {
		return "", err
	}
	if again.Error != "" {
		return "", fmt.Errorf("the message was refused: %s", again.Error)
	}
	if err := r.bob.expect(ctx, r.names.dave, text, next); err != nil {
		return "", err
	}
	if err := second.end(ctx); err != nil {
		return "", err
	}
	how := ""
	if again.Duplicate {
		how = " (the new process sent it again, and the platform knew it)"
	}
	return fmt.Sprintf("process %d was killed; bob was shown the message once%s, then the next one", first.pid(), how), nil
}

func secondLogin(ctx context.Context, r *run) (string, error) {
	if r.alice == nil || r.bob == nil {
		return "", errNobody
	}
	winner, err := r.login(ctx, r.names.alice, r.store("alice-again"), nil)
	if err != nil {
		return "", err
	}
	loser := r.alice
	r.alice = winner
	var last gatepost.StateChange
	err = loser.until(ctx, "that a newer login won", func() bool {
		if len(loser.states) > 0 {
			last = loser.states[len(loser.states)-1]
		}
		return last.State == gatepost.Closed
	})
	if err != nil {
		return "", err
	}
	if last.Code() != status.Replaced {
		return "", fmt.Errorf("the older login was closed with %q, want %q", last.Code(), status.Replaced)
	}
	if err := loser.client.Close(); err != nil {
		return "", err
	}
	const text = "It is still me."
	if _, err := winner.send(ctx, r.names.bob, text); err != nil {
		return "", err
	}
	err = r.bob.until(ctx, "the message of the newer login", func() bool {
		return len(r.bob.shown) > 0 && string(r.bob.shown[len(r.bob.shown)-1].Content) == text
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("the older login was told: %v", last.Err), nil
}
