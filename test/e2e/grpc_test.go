//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/test/harness"
)

// stranger is a stranger who calls one node and waits with a test's patience.
type stranger struct{ *harness.Stranger }

// newStranger calls the n-th node for app-servers.
func newStranger(t *testing.T, n int, key string) stranger {
	t.Helper()
	apps := p.Apps()
	return stranger{harness.NewStranger(t, apps[n%len(apps)], key)}
}

func (s stranger) call(method, format string, args ...any) (string, error) {
	ctx, cancel := withPatience()
	defer cancel()
	return s.Call(ctx, method, fmt.Sprintf(format, args...))
}

func (s stranger) must(t *testing.T, method, format string, args ...any) string {
	t.Helper()
	answer, err := s.call(method, format, args...)
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	return answer
}

func appKey(t *testing.T) string {
	t.Helper()
	ctx, cancel := withPatience()
	defer cancel()
	key, err := p.AppKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A stranger pushes to who is online and to who is away, asks who is there, makes a token, and kicks.
func TestStrangerOverGRPC(t *testing.T) {
	s := newStranger(t, 0, appKey(t))
	b, away := person(t, "b").Login(), person(t, "away")
	push := func(online bool, text string) string {
		return s.must(t, "Push", `{"client_msg_id": %q, "uids": [%q, %q], "type": "order", "content": %q, "online_only": %t}`,
			uuid.NewString(), b.UID, away.UID, harness.Content(text), online)
	}
	harness.Eventually(t, harness.Patience, func() error {
		answer, err := s.call("Presence", `{"uids": [%q, %q]}`, away.UID, b.UID)
		if want := fmt.Sprintf(`{"users":[{"uid":%q},{"uid":%q,"online":["DEVICE_CLASS_ANDROID"]}]}`, away.UID, b.UID); err != nil || answer != want {
			return fmt.Errorf("%s, %w; want %s", answer, err, want)
		}
		return nil
	})
	if a := push(true, "only now"); strings.Count(a, "PUSH_SENT") != 1 || strings.Count(a, "PUSH_NOT_ONLINE") != 1 {
		t.Errorf("online only: %s", a)
	}
	b.Wants("only now")
	if a := push(false, "for later"); strings.Count(a, "PUSH_ACCEPTED") != 2 {
		t.Errorf("durable: %s", a)
	}
	b.Wants("only now", "for later")
	away.Login().Wants("for later")
	if a := s.must(t, "Token", `{"uid": %q}`, b.UID); !strings.Contains(a, `"token":"`) {
		t.Errorf("token: %s", a)
	}
	if a := s.must(t, "Kick", `{"uid": %q, "reason": "enough"}`, b.UID); a != `{"sessions":1}` {
		t.Errorf("kick: %s", a)
	}
	closedBy(t, b, status.Kicked)
	away.Leave()
}

// Two app-servers that retry the same push at once, through different nodes, send one message: to who is away it is stored once, and
// to who confirms it in between it may be stored once more, but is shown once.
func TestTwoStrangersRetryTheSamePush(t *testing.T) {
	key, b, away, id := appKey(t), person(t, "b").Login(), person(t, "away"), uuid.NewString()
	var calls sync.WaitGroup
	answers := make(chan string, 20)
	for n := range 2 {
		s := newStranger(t, n, key)
		for range 10 {
			calls.Go(func() {
				answer, err := s.call("Push", `{"client_msg_id": %q, "uids": [%q, %q], "content": %q}`, id, b.UID, away.UID, harness.Content("once"))
				if err != nil {
					t.Error(err)
				}
				answers <- answer
			})
		}
	}
	calls.Wait()
	close(answers)
	fresh := 0
	for a := range answers {
		if strings.Count(a, "PUSH_ACCEPTED") != 2 {
			t.Errorf("answer %s", a)
		}
		if _, ofAway, _ := strings.Cut(a, away.UID); !strings.Contains(ofAway, `"duplicate":true`) {
			fresh++
		}
	}
	if fresh != 1 {
		t.Errorf("%d answers say that they were the first", fresh)
	}
	s := newStranger(t, 0, key)
	s.must(t, "Push", `{"client_msg_id": %q, "uids": [%q], "content": %q}`, uuid.NewString(), b.UID, harness.Content("next"))
	b.Wants("once", "next")
	away.Login().Wants("once")
	b.Leave()
	away.Leave()
}

// Who has no key, or a forged one, is let nowhere.
func TestStrangersWithoutAKey(t *testing.T) {
	key := appKey(t)
	id, _, _ := strings.Cut(key, ".")
	for _, bad := range []string{"", "key", id + "." + strings.Repeat("A", 43), "0123456789abcdef." + strings.Repeat("A", 43)} {
		_, err := newStranger(t, 0, bad).call("Presence", `{"uids": ["u"]}`)
		if grpcstatus.Code(err) != codes.Unauthenticated {
			t.Errorf("%v", err)
		}
	}
	_, err := newStranger(t, 0, key).call("Presence", `{"uids": ["u"], "domain": "another"}`)
	if grpcstatus.Code(err) != codes.PermissionDenied {
		t.Errorf("another domain: %v", err)
	}
}
