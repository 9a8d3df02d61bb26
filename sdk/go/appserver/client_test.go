package appserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/google/uuid"

	"github.com/gatepost/gatepost/idl/gen/appserverpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/sdk/go/appserver"
)

func TestCalls(t *testing.T) {
	p := startPlatform(t, &platform{})
	c := newClient(t, p.addr)
	ctx := t.Context()
	res, err := c.Push(ctx, appserver.Push{UIDs: []string{"a", "b", "a"}, Type: "t", Content: []byte("hi"), TTL: 1500 * time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	if id, err := uuid.Parse(res.ID); err != nil || id.Version() != 7 {
		t.Error(res.ID, err)
	}
	want := []appserver.Result{{UID: "a", Outcome: appserver.Accepted, MsgID: 1}, {UID: "b", Outcome: appserver.Accepted, MsgID: 2}, {UID: "a", Outcome: appserver.Accepted, MsgID: 1}}
	if !slices.Equal(res.Users, want) {
		t.Errorf("%+v", res.Users)
	}
	if r := p.asked()[0]; r.ClientMsgId != res.ID || r.Type != "t" || string(r.Content) != "hi" || r.TtlMs != 2 || len(r.Uids) != 2 {
		t.Errorf("%+v", r)
	}
	users, err := c.Presence(ctx, "", "a", "b", "b", "a")
	if err != nil || len(users) != 4 || len(users[0].Online) != 2 || users[0].Online[1] != 17 || len(users[1].Online) != 0 || len(users[3].Online) != 2 {
		t.Error(users, err)
	}
	if n, err := c.Kick(ctx, appserver.Kick{UID: "u", Class: appserver.IOS, Reason: "why"}); err != nil || n != 3 {
		t.Error(n, err)
	}
	token, err := c.Token(ctx, appserver.TokenFor{UID: "u", TTL: time.Minute + time.Microsecond})
	if err != nil || token.Token != "token of u" || token.Expires.UnixMilli() != 1_700_000_000_000 {
		t.Error(token, err)
	}
	for _, k := range p.shown() {
		if k != "[Bearer "+testKey+"]" {
			t.Errorf("the key came as %q", k)
		}
	}
}

// TestPushRetries: a call that fails for a while is made again under its id, for those users that are left.
func TestPushRetries(t *testing.T) {
	p := startPlatform(t, &platform{push: func(n int, req *appserverpb.PushRequest) (*appserverpb.PushResponse, error) {
		switch n {
		case 1:
			return nil, refuse(codes.Unavailable, "this node is stopping")
		case 2:
			return nil, refuse(codes.ResourceExhausted, "too much")
		}
		resp := accept(req)
		for _, r := range resp.Results {
			switch {
			case r.Uid == "stranger":
				*r = appserverpb.PushResult{Uid: r.Uid, Status: uint32(status.UnknownReceiver), Reason: "who?"}
			case r.Uid == "late" && n < 5:
				*r = appserverpb.PushResult{Uid: r.Uid, Status: uint32(status.Unavailable), RetryAfterMs: 1}
			case r.Uid == "away":
				r.Outcome = appserverpb.PushOutcome_PUSH_NOT_ONLINE
			}
		}
		return resp, nil
	}})
	c := newClient(t, p.addr)
	id := uuid.NewString()
	res, err := c.Push(t.Context(), appserver.Push{ID: id, UIDs: []string{"a", "late", "stranger", "away"}})
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range []appserver.Outcome{appserver.Accepted, appserver.Accepted, appserver.Refused, appserver.NotOnline} {
		if res.Users[i].Outcome != o {
			t.Errorf("%+v, want %v", res.Users[i], o)
		}
	}
	if r := res.Users[2]; r.Status != status.UnknownReceiver || r.Reason != "who?" {
		t.Errorf("%+v", r)
	}
	var asked []string
	for _, r := range p.asked() {
		if r.ClientMsgId != id {
			t.Errorf("an attempt under %q", r.ClientMsgId)
		}
		asked = append(asked, strings.Join(r.Uids, " "))
	}
	all := "a late stranger away"
	if want := []string{all, all, all, "late", "late"}; !slices.Equal(asked, want) {
		t.Errorf("%q", asked)
	}
}

// TestFinalErrors: what the platform refuses for good is told once, with its code and reason.
func TestFinalErrors(t *testing.T) {
	for _, code := range []codes.Code{codes.Unauthenticated, codes.PermissionDenied, codes.InvalidArgument} {
		p := startPlatform(t, &platform{push: func(int, *appserverpb.PushRequest) (*appserverpb.PushResponse, error) {
			return nil, refuse(code, "not like this")
		}})
		c := newClient(t, p.addr)
		res, err := c.Push(t.Context(), appserver.Push{UIDs: []string{"a"}})
		var e *appserver.Error
		if !errors.As(err, &e) || e.Code != appserver.Code(code) || e.Reason != "not like this" || appserver.CodeOf(err) != e.Code {
			t.Fatalf("%v: %v", code, err)
		}
		if res.Users[0].Outcome != appserver.Unanswered || len(p.asked()) != 1 {
			t.Fatalf("%+v after %d calls", res, len(p.asked()))
		}
	}
}

func TestChunks(t *testing.T) {
	p := startPlatform(t, &platform{})
	c := newClient(t, p.addr)
	uids := make([]string, 2500)
	for i := range uids {
		uids[i] = fmt.Sprint("user-", i)
	}
	res, err := c.Push(t.Context(), appserver.Push{UIDs: uids})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range res.Users {
		if r.UID != uids[i] || r.Outcome != appserver.Accepted || r.MsgID != uint64(i%1000+1) {
			t.Fatalf("%d: %+v", i, r)
		}
	}
	var sizes []int
	for _, r := range p.asked() {
		sizes = append(sizes, len(r.Uids))
		if r.ClientMsgId != res.ID {
			t.Error("a chunk has an id of its own")
		}
	}
	slices.Sort(sizes)
	if !slices.Equal(sizes, []int{500, 1000, 1000}) {
		t.Error(sizes)
	}
	if users, err := c.Presence(t.Context(), "", uids...); err != nil || len(users) != 2500 || users[1001].UID != "user-1001" || len(users[1000].Online) == 0 {
		t.Error(len(users), err)
	}
}

// deadAddress refuses connections.
func deadAddress(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// TestDeadAddress: a node that is away costs nothing but an attempt, also when it goes in the middle.
func TestDeadAddress(t *testing.T) {
	one, two := startPlatform(t, &platform{}), startPlatform(t, &platform{})
	c := newClient(t, deadAddress(t), one.addr, two.addr)
	push := func() {
		t.Helper()
		if _, err := c.Push(t.Context(), appserver.Push{UIDs: []string{"a"}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		push()
	}
	if len(one.asked()) == 0 || len(two.asked()) == 0 {
		t.Errorf("%d and %d calls", len(one.asked()), len(two.asked()))
	}
	one.stop()
	for range 10 {
		push()
	}
}

// TestNobodyThere: attempts end with the context, and say what was the matter.
func TestNobodyThere(t *testing.T) {
	c := newClient(t, deadAddress(t))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	res, err := c.Push(ctx, appserver.Push{UIDs: []string{"a"}})
	if !errors.Is(err, context.DeadlineExceeded) || !appserver.CodeOf(err).Temporary() {
		t.Fatal(err)
	}
	if res.ID == "" || res.Users[0].Outcome != appserver.Unanswered {
		t.Errorf("%+v", res)
	}
}

// TestHangingCall: an answer that does not come is asked for again, under the same id.
func TestHangingCall(t *testing.T) {
	release := make(chan struct{})
	p := &platform{}
	p.push = func(n int, req *appserverpb.PushRequest) (*appserverpb.PushResponse, error) {
		if n == 1 {
			<-release
		}
		return accept(req), nil
	}
	startPlatform(t, p)
	t.Cleanup(func() { close(release) })
	c, err := appserver.New(appserver.Config{Addresses: []string{p.addr}, Key: testKey, CallTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Push(t.Context(), appserver.Push{UIDs: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	if asked := p.asked(); len(asked) < 2 || asked[0].ClientMsgId != asked[1].ClientMsgId {
		t.Errorf("%d attempts", len(asked))
	}
}

// TestLaterForever: a user that stays "later" ends with the context, and the result says so.
func TestLaterForever(t *testing.T) {
	p := startPlatform(t, &platform{push: func(_ int, req *appserverpb.PushRequest) (*appserverpb.PushResponse, error) {
		resp := accept(req)
		for _, r := range resp.Results {
			if r.Uid == "b" {
				*r = appserverpb.PushResult{Uid: "b", Status: uint32(status.Overloaded), Reason: "busy"}
			}
		}
		return resp, nil
	}})
	c := newClient(t, p.addr)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	res, err := c.Push(ctx, appserver.Push{UIDs: []string{"a", "b"}})
	if code := appserver.CodeOf(err); !errors.Is(err, context.DeadlineExceeded) || !code.Temporary() {
		t.Fatal(err)
	}
	if res.Users[0].Outcome != appserver.Accepted || res.Users[1].Outcome != appserver.Refused || res.Users[1].Status != status.Overloaded {
		t.Errorf("%+v", res.Users)
	}
}

// TestTLS: through a proxy that ends TLS, as the name of the address has it.
func TestTLS(t *testing.T) {
	p := startPlatform(t, &platform{})
	certified := httptest.NewUnstartedServer(nil) // for its certificate alone
	certified.StartTLS()
	t.Cleanup(certified.Close)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			outer, err := ln.Accept()
			if err != nil {
				return
			}
			inner, err := net.Dial("tcp", p.addr)
			if err != nil {
				t.Error(err)
				return
			}
			for _, way := range [][2]net.Conn{{inner, outer}, {outer, inner}} {
				passing.Go(func() {
					_, _ = io.Copy(way[0], way[1]) // until one side closes
					_ = inner.Close()
					_ = outer.Close()
				})
			}
		}
	})
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	c, err := appserver.New(appserver.Config{Addresses: []string{ln.Addr().String()}, Key: testKey, TLS: &tls.Config{RootCAs: roots}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Push(t.Context(), appserver.Push{UIDs: []string{"a"}}); err != nil {
		t.Error(err)
	}
	if err := errors.Join(c.Close(), ln.Close()); err != nil {
		t.Error(err)
	}
	passing.Wait()
	if len(p.asked()) != 1 {
		t.Errorf("%d calls", len(p.asked()))
	}
}

// TestKeyStaysSecret: nothing that is printed or logged has the key in it.
func TestKeyStaysSecret(t *testing.T) {
	var logged bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg := appserver.Config{Addresses: []string{deadAddress(t)}, Key: testKey, Logger: logger, Patience: 30 * time.Millisecond}
	c, err := appserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Push(t.Context(), appserver.Push{UIDs: []string{"a"}})
	logger.Info("config", "config", cfg)
	bad := cfg
	bad.Key += "\n"
	seen := fmt.Sprintf("%v %+v %#v %v %v", cfg, cfg, cfg, err, bad.Validate()) + logged.String()
	if strings.Contains(seen, "c2VjcmV0") || err == nil || bad.Validate() == nil || logged.Len() == 0 {
		t.Fatal(seen)
	}
}

func TestBadRequests(t *testing.T) {
	if _, err := appserver.New(appserver.Config{Addresses: []string{"nowhere"}, CallTimeout: -1}); err == nil ||
		strings.Count(err.Error(), "\n") != 2 {
		t.Error(err)
	}
	c := newClient(t, "127.0.0.1:1")
	for _, p := range []appserver.Push{{}, {UIDs: []string{"a"}, ID: "x"}, {UIDs: []string{"a"}, TTL: -1}} {
		if res, err := c.Push(t.Context(), p); appserver.CodeOf(err) != appserver.InvalidArgument || res != nil {
			t.Error(res, err)
		}
	}
	if _, err := c.Token(t.Context(), appserver.TokenFor{TTL: -1}); appserver.CodeOf(err) != appserver.InvalidArgument {
		t.Error(err)
	}
	if users, err := c.Presence(t.Context(), ""); err != nil || len(users) != 0 {
		t.Error(users, err)
	}
}
