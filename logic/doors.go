package logic

import (
	"context"

	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

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

// authenticate checks a token within the login timeout. Refusals are *status.Error. Each domain has slots of its own, so a slow
// authenticator holds up its own domain's logins alone.
func (n *Node) authenticate(ctx context.Context, user store.UserKey, class store.DeviceClass, token []byte) *status.Error {
	d := n.account(user.Domain)
	if d == nil || d.Auth == nil {
		return status.New(status.UnknownDomain, "the domain is not known here")
	}
	if refusal := n.spend(user.Domain, rateLogins, 1); refusal != nil {
		return refusal
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.LoginTimeout)
	defer cancel()
	if err := d.logins.acquire(ctx); err != nil {
		return status.Wrap(status.Overloaded, err, "too many logins of this domain are being checked")
	}
	defer d.logins.release()
	return status.Of(d.Auth.Authenticate(ctx, user, class, token), status.Unavailable)
}
