package audit

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/sdk/go/appserver"
)

// AppServer is an App of the Go SDK for app-servers.
type AppServer struct {
	client *appserver.Client
	domain string
}

// NewAppServer pushes to users of domain through the nodes at addresses, host:port, with an app key that has the right push.
func NewAppServer(addresses []string, key, domain string) (*AppServer, error) {
	c, err := appserver.New(appserver.Config{Addresses: addresses, Key: key})
	if err != nil {
		return nil, err
	}
	return &AppServer{client: c, domain: domain}, nil
}

// Push pushes content to users.
func (a *AppServer) Push(ctx context.Context, id [16]byte, users []string, content []byte) ([]Sent, error) {
	results, err := a.client.Push(ctx, appserver.Push{ID: uuid.UUID(id).String(), Domain: a.domain, UIDs: users, Type: "audit", Content: content})
	if err != nil && results == nil {
		return nil, err
	}
	out := make([]Sent, len(results.Users))
	for i, r := range results.Users {
		out[i] = Sent{ID: id, MsgID: r.MsgID}
		switch r.Outcome {
		case appserver.Accepted:
		case appserver.Refused:
			out[i].Code, out[i].Err = uint16(r.Status), fmt.Errorf("refused: %s: %s", r.Status, r.Reason)
		default:
			out[i].Code, out[i].Err = uint16(status.Timeout), fmt.Errorf("%s", r.Outcome)
		}
	}
	return out, nil
}

// OnlineOutcome is what became of an online-only push for one user. The zero value: it was handed to a live connection.
type OnlineOutcome struct {
	NotOnline bool  // there was no live connection
	Err       error // refused for good
}

// PushOnline pushes content to those of users who are online, and stores nothing. The outcomes are in the order of users. An error means
// that nothing is known.
func (a *AppServer) PushOnline(ctx context.Context, id [16]byte, users []string, content []byte) ([]OnlineOutcome, error) {
	results, err := a.client.Push(ctx, appserver.Push{ID: uuid.UUID(id).String(), Domain: a.domain, UIDs: users, Type: "audit", Content: content, OnlineOnly: true})
	if err != nil {
		return nil, err
	}
	out := make([]OnlineOutcome, len(results.Users))
	for i, r := range results.Users {
		switch r.Outcome {
		case appserver.Sent:
		case appserver.NotOnline:
			out[i].NotOnline = true
		default:
			out[i].Err = fmt.Errorf("%s: %s: %s", r.Outcome, r.Status, r.Reason)
		}
	}
	return out, nil
}

// Close ends its connections.
func (a *AppServer) Close() error { return a.client.Close() }
