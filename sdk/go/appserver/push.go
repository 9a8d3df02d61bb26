package appserver

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/gatepost/gatepost/idl/gen/appserverpb"
	"github.com/gatepost/gatepost/idl/status"
)

const (
	// MaxUsers is how many users one call of the platform takes. Longer lists are cut by Client.
	MaxUsers = 1000
	// chunksAtOnce is how many parts of one long list are under way at a time.
	chunksAtOnce = 4
)

// Push is one message to some users of one domain.
type Push struct {
	// ID names the push, a UUID in its text form; made by Client when empty. A push that is made again with the same ID, whole or in
	// part, also by another process, reaches nobody twice. Keep it with what the push is about, to try again after a crash.
	ID string
	// Domain of the users; that of the key when empty.
	Domain string
	// UIDs are the receivers, any number from 1. One that is named twice gets the message once.
	UIDs    []string
	Type    string // 0..64 bytes
	Content []byte // at most 32,768 bytes, or less when the domain says so; not changed, and not kept after Push returned
	// TTL is how long the message waits for users that are away; 0: the longest, 7 days. Whole milliseconds, rounded up. It counts from
	// when the message is stored, which an attempt that is repeated may do later, by Config.Patience at most.
	TTL time.Duration
	// OnlineOnly stores nothing: only who is online now gets it.
	OnlineOnly bool
}

// Outcome of a push for one user.
type Outcome uint8

const (
	// Unanswered: no attempt was answered for this user; whether he gets the message is unknown.
	Unanswered Outcome = iota
	// Refused: Result.Status says why.
	Refused
	// Accepted: stored until each device of the user has confirmed it or its time to live ends.
	Accepted
	// Sent: online only; handed to a live connection. Whether it arrived is not known.
	Sent
	// NotOnline: online only; there was no live connection.
	NotOnline
)

// String is the outcome in lower case words.
func (o Outcome) String() string {
	switch o {
	case Unanswered:
		return "unanswered"
	case Refused:
		return "refused"
	case Accepted:
		return "accepted"
	case Sent:
		return "sent"
	case NotOnline:
		return "not online"
	}
	return fmt.Sprintf("outcome %d", uint8(o))
}

// Result of a push for one user.
type Result struct {
	UID       string
	Outcome   Outcome
	Status    status.Code // of a refusal; its range is its behaviour: 1000..1999 never retry, 2000..2999 retry later
	Reason    string      // of a refusal: one sentence for a human
	MsgID     uint64      // when accepted
	Duplicate bool        // accepted by an earlier call, under MsgID
}

// final reports whether there is nothing to be gained from another attempt.
func (r *Result) final() bool {
	return r.Outcome != Unanswered && (r.Outcome != Refused || r.Status.Behaviour() != status.RetryLater)
}

// Results of a push.
type Results struct {
	ID    string   // of the push, also when Client made it
	Users []Result // in the order of Push.UIDs
}

// Push sends p. Attempts that fail for a while, as a whole or for some users, are repeated for those users under the same ID until ctx
// is done (Config.Patience when it has no deadline).
//
// A nil error means that each user has a final outcome: Accepted, Sent, NotOnline, or Refused for good. With an error that is an *Error
// the Results are there too and tell how far it came: make the same Push again with Results.ID, then or later. The first fault of a
// Push itself, such as an ID that is no UUID, is an error without Results.
func (c *Client) Push(ctx context.Context, p Push) (*Results, error) {
	req, err := p.request()
	if err != nil {
		return nil, err
	}
	unique, where := distinct(p.UIDs)
	results := make([]Result, len(unique))
	for i, uid := range unique {
		results[i].UID = uid
	}
	ctx, cancel := c.patient(ctx)
	defer cancel()
	var chunks errgroup.Group
	chunks.SetLimit(chunksAtOnce)
	for begin := 0; begin < len(results); begin += MaxUsers {
		part := results[begin:min(begin+MaxUsers, len(results))]
		chunks.Go(func() error { return c.pushChunk(ctx, req, part) })
	}
	err = chunks.Wait()
	out := &Results{ID: req.ClientMsgId, Users: make([]Result, len(p.UIDs))}
	for i := range p.UIDs {
		out.Users[i] = results[where[i]]
	}
	return out, err
}

// request is p without its users.
func (p *Push) request() (*appserverpb.PushRequest, error) {
	if len(p.UIDs) == 0 {
		return nil, &Error{Op: "push", Code: InvalidArgument, Reason: "no users are named"}
	}
	if p.TTL < 0 {
		return nil, &Error{Op: "push", Code: InvalidArgument, Reason: "the time to live is negative"}
	}
	id := p.ID
	if id == "" {
		made, err := uuid.NewV7()
		if err != nil {
			return nil, &Error{Op: "push", Code: Internal, Reason: err.Error(), cause: err}
		}
		id = made.String()
	} else if _, err := uuid.Parse(id); err != nil {
		return nil, &Error{Op: "push", Code: InvalidArgument, Reason: "the ID is no UUID"}
	}
	return &appserverpb.PushRequest{
		ClientMsgId: id, Domain: p.Domain, Type: p.Type, Content: p.Content, OnlineOnly: p.OnlineOnly, TtlMs: millis(p.TTL),
	}, nil
}

// pushChunk pushes to the users of part, until each has a final result. It writes to part alone.
func (c *Client) pushChunk(ctx context.Context, p *appserverpb.PushRequest, part []Result) error {
	pending := make([]int, len(part))
	for i := range pending {
		pending[i] = i
	}
	wait := backoff{base: c.cfg.RetryBase, cap: c.cfg.RetryCap}
	for {
		req := &appserverpb.PushRequest{ClientMsgId: p.ClientMsgId, Domain: p.Domain, Type: p.Type, Content: p.Content, TtlMs: p.TtlMs, OnlineOnly: p.OnlineOnly}
		req.Uids = make([]string, len(pending))
		for i, k := range pending {
			req.Uids[i] = part[k].UID
		}
		resp, err := invoke[appserverpb.PushResponse](ctx, c, "Push", req)
		if err != nil {
			return err
		}
		if len(resp.Results) != len(pending) {
			return &Error{Op: "push", Code: Internal, Reason: fmt.Sprintf("%d results for %d users", len(resp.Results), len(pending))}
		}
		var later []int
		var asked time.Duration
		for i, k := range pending {
			part[k] = resultOf(part[k].UID, resp.Results[i])
			if !part[k].final() {
				later = append(later, k)
				asked = max(asked, time.Duration(resp.Results[i].RetryAfterMs)*time.Millisecond)
			}
		}
		if len(later) == 0 {
			return nil
		}
		if !sleep(ctx, asked+wait.next()) {
			r := &part[later[0]]
			return &Error{Op: "push", Code: Code(r.Status), Reason: fmt.Sprintf("%d users are to be tried again later, the first because of: %s", len(later), r.Reason), cause: ctx.Err()}
		}
		pending = later
	}
}

func resultOf(uid string, r *appserverpb.PushResult) Result {
	out := Result{UID: uid, Status: status.Code(min(r.Status, 65535)), Reason: r.Reason, MsgID: r.MsgId, Duplicate: r.Duplicate}
	switch r.Outcome {
	case appserverpb.PushOutcome_PUSH_ACCEPTED:
		out.Outcome = Accepted
	case appserverpb.PushOutcome_PUSH_SENT:
		out.Outcome = Sent
	case appserverpb.PushOutcome_PUSH_NOT_ONLINE:
		out.Outcome = NotOnline
	default:
		out.Outcome = Refused
	}
	return out
}

// distinct returns each of list once, and for each place in list where it is.
func distinct(list []string) (unique []string, where []int) {
	at := make(map[string]int, len(list))
	unique, where = make([]string, 0, len(list)), make([]int, len(list))
	for i, s := range list {
		k, ok := at[s]
		if !ok {
			k = len(unique)
			at[s] = k
			unique = append(unique, s)
		}
		where[i] = k
	}
	return unique, where
}

// millis is d in whole milliseconds, rounded up.
func millis(d time.Duration) uint64 { return uint64((d + time.Millisecond - 1) / time.Millisecond) }
