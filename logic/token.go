package logic

import (
	"context"
	"time"

	"github.com/gatepost/gatepost/idl/gen/appserverpb"
	"github.com/gatepost/gatepost/store"
)

// Lives of minted tokens.
const (
	minTokenLife     = time.Minute
	maxTokenLife     = 30 * 24 * time.Hour
	defaultTokenLife = time.Hour
)

// Token makes a login token for a user of a domain that uses the platform's own. Errors are *AppError.
func (n *Node) Token(ctx context.Context, key string, req *appserverpb.TokenRequest) (*appserverpb.TokenResponse, error) {
	c, leave, refusal := n.enterApp(ctx, key, RightToken, req.Domain)
	if refusal != nil {
		return appResult[appserverpb.TokenResponse](n, appToken, c, nil, refusal)
	}
	defer leave()
	res, refusal := n.mint(c.domain, req)
	return appResult(n, appToken, c, res, refusal)
}

func (n *Node) mint(domain string, req *appserverpb.TokenRequest) (*appserverpb.TokenResponse, *AppError) {
	user := store.UserKey{Domain: domain, UID: req.Uid}
	if err := checkUser(user); err != nil {
		return nil, appErrorf(AppInvalid, "%v", err)
	}
	class, refusal := appClass(req.DeviceClass)
	if refusal != nil {
		return nil, refusal
	}
	life, ok := millis(req.TtlMs, maxTokenLife)
	if life == 0 && ok {
		life = defaultTokenLife
	}
	if !ok || life < minTokenLife {
		return nil, appErrorf(AppInvalid, "a token lives for 1 minute to 30 days")
	}
	d := n.domain(domain)
	if d == nil || d.Mint == nil {
		return nil, appErrorf(AppDenied, "the tokens of this domain are made elsewhere")
	}
	expires := n.now().Add(life).Truncate(time.Second) // as precise as a token is
	token, err := d.Mint.Mint(user, class, expires)
	if err != nil {
		return nil, &AppError{Fault: AppInternal, Reason: "the token could not be made", cause: err}
	}
	return &appserverpb.TokenResponse{Token: string(token), ExpiresAtMs: expires.UnixMilli()}, nil
}
