package appserver

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gatepost/gatepost/idl/gen/appserverpb"
)

// Class is a class of devices. The numbers are those of the protocol of clients; others than the named ones are possible.
type Class uint8

// The classes that have a name; AnyClass stands for none in particular.
const (
	AnyClass = Class(appserverpb.DeviceClass_DEVICE_CLASS_NONE)
	Android  = Class(appserverpb.DeviceClass_DEVICE_CLASS_ANDROID)
	IOS      = Class(appserverpb.DeviceClass_DEVICE_CLASS_IOS)
	Web      = Class(appserverpb.DeviceClass_DEVICE_CLASS_WEB)
	Desktop  = Class(appserverpb.DeviceClass_DEVICE_CLASS_DESKTOP)
	IoT      = Class(appserverpb.DeviceClass_DEVICE_CLASS_IOT)
)

// String is the name as events have it.
func (c Class) String() string {
	names := [...]string{"any", "android", "ios", "web", "desktop", "iot"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// Presence of one user.
type Presence struct {
	UID    string
	Online []Class // device classes with a live session; empty: away
}

// Presence tells which of uids are online now, in their order. domain is that of the key when empty.
func (c *Client) Presence(ctx context.Context, domain string, uids ...string) ([]Presence, error) {
	unique, where := distinct(uids)
	found := make([]Presence, len(unique))
	ctx, cancel := c.patient(ctx)
	defer cancel()
	var chunks errgroup.Group
	chunks.SetLimit(chunksAtOnce)
	for begin := 0; begin < len(unique); begin += MaxUsers {
		end := min(begin+MaxUsers, len(unique))
		chunks.Go(func() error { return c.presenceChunk(ctx, domain, unique[begin:end], found[begin:end]) })
	}
	if err := chunks.Wait(); err != nil {
		return nil, err
	}
	out := make([]Presence, len(uids))
	for i := range uids {
		out[i] = found[where[i]]
	}
	return out, nil
}

func (c *Client) presenceChunk(ctx context.Context, domain string, uids []string, found []Presence) error {
	resp, err := invoke[appserverpb.PresenceResponse](ctx, c, "Presence", &appserverpb.PresenceRequest{Domain: domain, Uids: uids})
	if err != nil {
		return err
	}
	if len(resp.Users) != len(uids) {
		return &Error{Op: "presence", Code: Internal, Reason: fmt.Sprintf("%d answers for %d users", len(resp.Users), len(uids))}
	}
	for i, u := range resp.Users {
		found[i].UID = uids[i]
		for _, class := range u.Online {
			found[i].Online = append(found[i].Online, Class(class))
		}
	}
	return nil
}

// Kick ends sessions of a user.
type Kick struct {
	Domain string // that of the key when empty
	UID    string
	Class  Class  // AnyClass: all of them
	Reason string // for the user's app, at most 256 bytes
}

// Kick ends k's sessions, and tells how many were live. Their SDKs stay away until their app logs in again.
// After an attempt whose answer was lost, the sessions that it ended are not counted.
func (c *Client) Kick(ctx context.Context, k Kick) (sessions int, err error) {
	ctx, cancel := c.patient(ctx)
	defer cancel()
	resp, err := invoke[appserverpb.KickResponse](ctx, c, "Kick", &appserverpb.KickRequest{
		Domain: k.Domain, Uid: k.UID, DeviceClass: appserverpb.DeviceClass(k.Class), Reason: k.Reason,
	})
	if err != nil {
		return 0, err
	}
	return int(resp.Sessions), nil
}

// TokenFor asks for a login token.
type TokenFor struct {
	Domain string // that of the key when empty
	UID    string
	Class  Class         // the only class it is good for; AnyClass: any
	TTL    time.Duration // 1 minute to 30 days; 0: 1 hour
}

// Token is a login token. It is a secret of the user's.
type Token struct {
	Token   string
	Expires time.Time
}

// Token makes a login token for a user of a domain that uses the platform's own. Each call makes another one; the earlier stay valid.
func (c *Client) Token(ctx context.Context, t TokenFor) (Token, error) {
	if t.TTL < 0 {
		return Token{}, &Error{Op: "token", Code: InvalidArgument, Reason: "the time to live is negative"}
	}
	ctx, cancel := c.patient(ctx)
	defer cancel()
	resp, err := invoke[appserverpb.TokenResponse](ctx, c, "Token", &appserverpb.TokenRequest{
		Domain: t.Domain, Uid: t.UID, DeviceClass: appserverpb.DeviceClass(t.Class), TtlMs: millis(t.TTL),
	})
	if err != nil {
		return Token{}, err
	}
	return Token{Token: resp.Token, Expires: time.UnixMilli(resp.ExpiresAtMs).UTC()}, nil
}
