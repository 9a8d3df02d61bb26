package logic

import (
	"context"

	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// doors is the table of authenticators by domain. Each has slots of its own, so a slow one holds up its own domain's logins alone.
type doors struct {
	byDomain map[string]*door
	standard *door // of every other domain; nil: they are unknown
}

type door struct {
	check Authenticator
	slots slots
}

// slots bounds what runs at once.
type slots chan struct{}

// acquire waits for a slot until ctx ends.
func (s slots) acquire(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	default:
	}
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s slots) release() { <-s }

func newDoors(byDomain map[string]Authenticator, standard Authenticator, concurrency int) doors {
	d := doors{byDomain: make(map[string]*door, len(byDomain))}
	for domain, a := range byDomain {
		d.byDomain[domain] = &door{check: a, slots: make(slots, concurrency)}
	}
	if standard != nil {
		d.standard = &door{check: standard, slots: make(slots, concurrency)}
	}
	return d
}

func (d doors) of(domain string) *door {
	if x, ok := d.byDomain[domain]; ok {
		return x
	}
	return d.standard
}

// knows reports whether anybody can log in to domain.
func (d doors) knows(domain string) bool { return d.of(domain) != nil }

// authenticate checks a token within the login timeout. Refusals are *status.Error.
func (n *Node) authenticate(ctx context.Context, user store.UserKey, class store.DeviceClass, token []byte) *status.Error {
	d := n.doors.of(user.Domain)
	if d == nil {
		return status.New(status.UnknownDomain, "the domain is not known here")
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.LoginTimeout)
	defer cancel()
	if err := d.slots.acquire(ctx); err != nil {
		return status.Wrap(status.Overloaded, err, "too many logins of this domain are being checked")
	}
	defer d.slots.release()
	return status.Of(d.check.Authenticate(ctx, user, class, token), status.Unavailable)
}
