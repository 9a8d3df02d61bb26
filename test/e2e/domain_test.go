//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/gatepost/gatepost/audit/platform"
	"github.com/gatepost/gatepost/idl/event"
	"github.com/gatepost/gatepost/idl/status"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/test/harness"
)

// in is a client of a user of another domain, which is not connected.
func in(t *testing.T, domain, uid string) *harness.Person {
	t.Helper()
	return harness.NewPerson(t, p, uid, harness.In(p, domain))
}

// outcome sends a text and returns the code of its outcome.
func outcome(t *testing.T, from *harness.Person, to gatepost.User, text string) status.Code {
	t.Helper()
	_, err := from.Outcome(from.SendAs(to, gatepost.Outgoing{Type: "text", Content: []byte(text)}))
	if err == nil {
		return status.OK
	}
	var e *gatepost.Error
	if !errors.As(err, &e) {
		t.Fatalf("%s to %s: %v", from.UID, to, err)
	}
	return e.Code
}

// Users of two domains write to each other where the receiving one allows it. The same uid in two domains is two users, and who
// somebody is the server says.
func TestUsersOfTwoDomains(t *testing.T) {
	uid := harness.UID(t, "u")
	local, guest, closed := person(t, "local").Login(), in(t, harness.Guests, uid).Login(), in(t, harness.Closed, uid).Login()
	asked := local.SendAs(guest.User(), gatepost.Outgoing{Type: "text", Content: []byte("welcome"), Receipt: true})
	if _, err := local.Outcome(asked); err != nil {
		t.Fatal(err)
	}
	guest.Wants("welcome")
	harness.Eventually(t, harness.Patience, func() error {
		if told := local.Receipts(); len(told) != 1 || told[0].ClientMsgID != asked.ID() || told[0].By != guest.User() {
			return fmt.Errorf("receipts %+v", told)
		}
		return nil
	})
	if code := outcome(t, guest, local.User(), "thank you"); code != status.OK {
		t.Errorf("the guest's answer: %s", code)
	}
	local.Wants("thank you")
	if m := local.Got()[0]; m.From != guest.User() {
		t.Errorf("from %s, want %s", m.From, guest.User())
	}
	for _, c := range []struct {
		from *harness.Person
		to   gatepost.User
		want status.Code
	}{
		{local, closed.User(), status.NotAllowed},
		{closed, local.User(), status.NotAllowed},
		{closed, guest.User(), status.NotAllowed},
		{guest, closed.User(), status.NotAllowed},
		{local, gatepost.User{Domain: "nowhere", UID: uid}, status.UnknownReceiver},
		{closed, closed.User(), status.OK}, // to himself
	} {
		if code := outcome(t, c.from, c.to, "across"); code != c.want {
			t.Errorf("%s to %s: %s, want %s", c.from.User(), c.to, code, c.want)
		}
	}
	// What was refused holds up nothing, and reaches nobody.
	if code := outcome(t, local, guest.User(), "still here"); code != status.OK {
		t.Error(code)
	}
	guest.Wants("welcome", "still here")
	closed.Wants("across")
	local.Leave()
}

// A message to somebody who has never logged in is stored for him, or refused, as his domain says.
func TestUnknownReceivers(t *testing.T) {
	a, stored, unknown := person(t, "a").Login(), person(t, "stored"), in(t, harness.Guests, harness.UID(t, "unknown"))
	if code := outcome(t, a, stored.User(), "for your first day"); code != status.OK {
		t.Errorf("to a domain that stores: %s", code)
	}
	if code := outcome(t, a, unknown.User(), "nobody"); code != status.UnknownReceiver {
		t.Errorf("to a domain that refuses: %s", code)
	}
	stored.Login().Wants("for your first day")
	unknown.Login()
	if code := outcome(t, a, unknown.User(), "now you are known"); code != status.OK {
		t.Errorf("to one who has logged in: %s", code)
	}
	unknown.Wants("now you are known")
	a.Leave()
	stored.Leave()
}

// Each domain has its own topics, and reports that have none are refused for good.
func TestUplinksOfTwoDomains(t *testing.T) {
	guest, closed := in(t, harness.Guests, harness.UID(t, "g")).Login(), in(t, harness.Closed, harness.UID(t, "c")).Login()
	for _, c := range []struct {
		from *harness.Person
		kind string
		want status.Code
	}{{guest, "note", status.NoTopic}, {closed, "trip.begun", status.NoTopic}, {guest, "trip.begun", status.OK}} {
		_, err := c.from.Outcome(c.from.Report(gatepost.Report{Type: c.kind, Content: []byte("x")}))
		if got := harness.Code(err); err == nil && c.want != status.OK || err != nil && got != c.want {
			t.Errorf("%s from %s: %v, want %s", c.kind, c.from.User(), err, c.want)
		}
	}
	if r := recordsOf(t, guest.UID, 1)[0]; string(r.Key) != event.KeyOf(harness.Guests, guest.UID) || headers(r)[event.Domain] != harness.Guests {
		t.Errorf("key %q, headers %v", r.Key, headers(r))
	}
}

// A key reaches the users of its domain alone, with its rights alone, and from the moment of its revocation nobody, on every node.
func TestAppKeys(t *testing.T) {
	ctx, cancel := withPatience()
	defer cancel()
	add := func(domain, rights string) string {
		key, err := p.AddAppKey(ctx, domain, rights)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	guest := in(t, harness.Guests, harness.UID(t, "g")).Login()
	key, narrow := add(harness.Guests, "push"), add(harness.Guests, "presence")
	push := func(s stranger, domain string) (string, error) {
		return s.call("Push", `{"client_msg_id": %q, "uids": [%q], "domain": %q, "content": %q}`, uuid.NewString(), guest.UID, domain, harness.Content("push"))
	}
	var nodes []stranger
	for n := range p.Apps() {
		s := newStranger(t, n, key)
		nodes = append(nodes, s)
		if a, err := push(s, ""); err != nil || !strings.Contains(a, "PUSH_ACCEPTED") {
			t.Errorf("node %d: %s %v", n, a, err)
		}
		for what, err := range map[string]error{
			"another domain": second(push(s, platform.Domain)),
			"another right":  second(s.call("Presence", `{"uids": [%q]}`, guest.UID)),
			"no right":       second(push(newStranger(t, n, narrow), "")),
		} {
			if grpcstatus.Code(err) != codes.PermissionDenied {
				t.Errorf("node %d: %s: %v", n, what, err)
			}
		}
	}
	guest.Wants(strings.Fields(strings.Repeat("push ", len(nodes)))...)
	if m := guest.Got()[0]; m.From != (gatepost.User{Domain: harness.Guests}) {
		t.Errorf("from %s", m.From)
	}
	if err := p.RevokeAppKey(ctx, key); err != nil {
		t.Fatal(err)
	}
	for n, s := range nodes {
		if a, err := push(s, ""); grpcstatus.Code(err) != codes.Unauthenticated {
			t.Errorf("node %d after the revocation: %s %v", n, a, err)
		}
		if _, err := newStranger(t, n, narrow).call("Presence", `{"uids": [%q]}`, guest.UID); err != nil {
			t.Errorf("node %d: the other key: %v", n, err)
		}
	}
}

func second(_ string, err error) error { return err }

// An app-server ends sessions wherever they are, of one device class or of all, and through whichever node it calls.
func TestKickEndsSessionsEverywhere(t *testing.T) {
	s := newStranger(t, 1, appKey(t))
	through := func(n int) harness.Option { return harness.Through("tcp://" + address(n)) }
	phone := person(t, "u", through(0), harness.On(gatepost.Android)).Login()
	desktop := again(t, phone, through(1), harness.On(gatepost.Desktop)).Login()
	tablet := again(t, phone, through(1), harness.On(gatepost.IOS)).Login()
	other := person(t, "other", through(1)).Login()
	if a := s.must(t, "Kick", `{"uid": %q, "device_class": "DEVICE_CLASS_DESKTOP", "reason": "one"}`, phone.UID); a != `{"sessions":1}` {
		t.Errorf("one class: %s", a)
	}
	closedBy(t, desktop, status.Kicked)
	other.Accepted(phone.UID, "still here")
	phone.Wants("still here")
	tablet.Wants("still here")
	if a := s.must(t, "Kick", `{"uid": %q, "reason": "all"}`, phone.UID); a != `{"sessions":2}` {
		t.Errorf("all classes: %s", a)
	}
	closedBy(t, phone, status.Kicked)
	closedBy(t, tablet, status.Kicked)
	harness.Eventually(t, harness.Patience, func() error {
		a, err := s.call("Presence", `{"uids": [%q, %q]}`, phone.UID, other.UID)
		if want := fmt.Sprintf(`{"users":[{"uid":%q},{"uid":%q,"online":["DEVICE_CLASS_ANDROID"]}]}`, phone.UID, other.UID); err != nil || a != want {
			return fmt.Errorf("%s, %w; want %s", a, err, want)
		}
		return nil
	})
	if a := s.must(t, "Kick", `{"uid": %q}`, phone.UID); a != "{}" {
		t.Errorf("nobody is there: %s", a)
	}
	// Who was kicked stays away until the app logs in again.
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	if err := phone.Client.Login(ctx); err != nil {
		t.Fatal(err)
	}
	other.Accepted(phone.UID, "back again")
	phone.Wants("still here", "back again")
}
