package logic

import (
	"context"
	"slices"
	"strings"

	"github.com/gatepost/gatepost/idl/gen/appserverpb"
	"github.com/gatepost/gatepost/store"
)

// Presence tells which device classes of up to 1,000 users have a session at a live gate. While that cannot be told for certain (the
// table is away, was emptied, or some gate has not registered all of its sessions) it fails as unavailable. Errors are *AppError.
func (n *Node) Presence(ctx context.Context, key string, req *appserverpb.PresenceRequest) (*appserverpb.PresenceResponse, error) {
	c, leave, refusal := n.enterApp(ctx, key, RightPresence, req.Domain)
	if refusal != nil {
		return appResult[appserverpb.PresenceResponse](n, appPresence, c, nil, refusal)
	}
	defer leave()
	res, refusal := n.whoIsOnline(ctx, c.domain, req.Uids)
	return appResult(n, appPresence, c, res, refusal)
}

func (n *Node) whoIsOnline(ctx context.Context, domain string, uids []string) (*appserverpb.PresenceResponse, *AppError) {
	users, bad, refusal := appUsers(domain, uids)
	if refusal != nil {
		return nil, refusal
	}
	for i, e := range bad {
		if e != nil {
			return nil, appErrorf(AppInvalid, "uid %d: %s", i, e.Reason)
		}
	}
	found, err := n.lookup(ctx, users)
	switch {
	case err != nil:
		n.metrics.lookupFailures.Inc()
		return nil, &AppError{Fault: AppUnavailable, Reason: "the presence table is away", cause: err}
	case len(found.Routes) != len(users):
		return nil, appErrorf(AppUnavailable, "the presence table gave no full answer")
	case !n.presenceComplete(found.Epoch):
		return nil, appErrorf(AppUnavailable, "the presence table is being rebuilt")
	}
	res := &appserverpb.PresenceResponse{Users: make([]*appserverpb.UserPresence, len(users))}
	for i, routes := range found.Routes {
		u := &appserverpb.UserPresence{Uid: strings.Clone(uids[i])}
		for _, r := range routes {
			if _, ok := n.gates.find(ctx, r.GateEpoch); ok {
				u.Online = append(u.Online, appserverpb.DeviceClass(r.Class))
			}
		}
		slices.Sort(u.Online)
		res.Users[i] = u
	}
	return res, nil
}

// presenceComplete reports whether each live gate has registered its sessions under the table's epoch.
func (n *Node) presenceComplete(epoch uint64) bool {
	return epoch != 0 && !slices.ContainsFunc(n.gates.live(), func(g store.Gate) bool { return g.PresenceEpoch != epoch })
}
