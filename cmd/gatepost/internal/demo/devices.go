package demo

import (
	"context"
	"fmt"
	"time"

	gatepost "github.com/gatepost/gatepost/sdk/go"
)

func receipt(ctx context.Context, r *run) (string, error) {
	if r.alice == nil || r.bob == nil {
		return "", errNobody
	}
	begin := time.Now()
	sending, err := r.alice.client.C2C(ctx, r.names.bob, gatepost.Outgoing{Type: "text", Content: []byte("Tell me that you have read this."), Receipt: true})
	if err != nil {
		return "", err
	}
	if _, err := sending.Wait(ctx); err != nil {
		return "", err
	}
	var got []gatepost.Receipt
	err = r.alice.until(ctx, "the receipt", func() bool {
		got = nil
		for _, rec := range r.alice.receipts {
			if rec.ClientMsgID == sending.ID() {
				got = append(got, rec)
			}
		}
		return len(got) > 0
	})
	if err != nil {
		return "", err
	}
	took := time.Since(begin)
	if got[0].By != r.names.bob || got[0].ByDevice != device {
		return "", fmt.Errorf("the receipt is by %s on %v, want %s on %v", got[0].By.UID, got[0].ByDevice, r.names.bob.UID, device)
	}
	if n := r.bob.count(sending.ID()); n != 1 {
		return "", fmt.Errorf("there is a receipt, and bob was shown the message %d times", n)
	}
	return fmt.Sprintf("✓✓ %s has it on his %v; alice knew %v after she wrote", got[0].By.UID, got[0].ByDevice, took.Round(10*time.Microsecond)), nil
}

func secondDevice(ctx context.Context, r *run) (string, error) {
	if r.alice == nil || r.bob == nil {
		return "", errNobody
	}
	phone, err := r.loginOn(ctx, r.names.bob, gatepost.Android, r.store("bob-phone"), nil)
	if err != nil {
		return "", err
	}
	defer phone.client.Logout(ctx) // the platform keeps nothing for the phone
	if err := phone.client.Pull(ctx); err != nil {
		return "", fmt.Errorf("register the phone: %w", err)
	}
	const text, answer = "Look at your phone.", "I write from it."
	results, err := r.alice.send(ctx, r.names.bob, text)
	if err != nil {
		return "", err
	}
	for _, p := range []*person{r.bob, phone} {
		if _, err := p.message(ctx, fmt.Sprintf("%q", text), results[0].ClientMsgID); err != nil {
			return "", err
		}
	}
	sending, err := phone.client.C2C(ctx, r.names.alice, gatepost.Outgoing{Type: "text", Content: []byte(answer), Copy: true})
	if err != nil {
		return "", err
	}
	if _, err := sending.Wait(ctx); err != nil {
		return "", err
	}
	if _, err := r.alice.message(ctx, fmt.Sprintf("%q", answer), sending.ID()); err != nil {
		return "", err
	}
	got, err := r.bob.message(ctx, "the copy of what his phone sent", sending.ID())
	if err != nil {
		return "", err
	}
	if got.Kind != gatepost.KindCopy || got.To != r.names.alice || got.FromDevice != gatepost.Android || string(got.Content) != answer {
		return "", fmt.Errorf("his desktop was shown %q as kind %v to %s, want a copy to %s", got.Content, got.Kind, got.To.UID, r.names.alice.UID)
	}
	if a, b := r.bob.count(sending.ID()), phone.count(sending.ID()); a != 1 || b != 0 {
		return "", fmt.Errorf("the copy was shown %d times on the desktop and %d times on the phone, want 1 and 0", a, b)
	}
	return fmt.Sprintf("desktop and phone were shown the message; the desktop also a copy of %q, which the phone sent to alice", answer), nil
}
