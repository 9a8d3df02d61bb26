//go:build e2e

package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/audit/faults"
	"github.com/gatepost/gatepost/audit/platform"
	"github.com/gatepost/gatepost/sdk/go/appserver"
	"github.com/gatepost/gatepost/test/harness"
)

// pusher pushes text to users under id until each of them has a final outcome, and returns the message id of each: all are accepted.
type pusher func(ctx context.Context, id string, users []string, text string) (map[string]uint64, error)

// Three app-servers make the same pushes at the same time, over and over, while nodes are killed: two clients of ours
// and one that has only grpc-go and the .proto. Each result is accepted in the end, and each user is shown each message once.
func TestAppServersRetryTheSamePushes(t *testing.T) {
	for _, mode := range []harness.Mode{harness.Standalone, harness.Cluster} {
		t.Run(string(mode), func(t *testing.T) {
			p := start(t, mode)
			key, err := p.AppKey(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var here, away []*harness.Person
			var users []string
			for range 4 {
				here = append(here, harness.NewPerson(t, p, harness.UID(t, "here")).Login())
				away = append(away, harness.NewPerson(t, p, harness.UID(t, "away")))
				users = append(users, here[len(here)-1].UID, away[len(away)-1].UID)
			}
			apps := p.Apps()
			pushers := map[string]pusher{
				"one":     ours(t, apps, key),
				"another": ours(t, []string{apps[len(apps)-1], apps[0]}, key),
				"grpc-go": theirs(harness.NewStranger(t, apps[0], key)),
			}
			strikes := faults.Kill("logic node", p.Logic)
			if mode == harness.Standalone {
				strikes = faults.Kill("platform", p.Gates)
			}
			texts := pushUnderFaults(t, strikes, pushers, users, away)
			t.Logf("%d pushes by each of %d app-servers", len(texts), len(pushers))
			for _, x := range away {
				x.Login()
			}
			for _, x := range append(here, away...) {
				shownOnce(t, x, texts)
				x.Leave()
			}
		})
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// pushUnderFaults makes pushes by all pushers at once until the fault has struck a few times, and returns their texts.
func pushUnderFaults(t *testing.T, strikes audit.Fault, pushers map[string]pusher, users []string, away []*harness.Person) (texts []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	struck := make(chan error, 1)
	go func() {
		rng := rand.New(rand.NewPCG(7, 8))
		for range 4 {
			pause(ctx, 200*time.Millisecond+time.Duration(rng.Int64N(int64(800*time.Millisecond))))
			if _, err := strikes.Strike(ctx, rng); err != nil {
				struck <- err
				return
			}
		}
		struck <- nil
	}()
	for n := 0; ; n++ {
		text, id := fmt.Sprintf("push-%d", n), uuid.NewString()
		texts = append(texts, text)
		var mu sync.Mutex
		msgIDs := map[string]map[uint64]bool{} // by user
		var pushing sync.WaitGroup
		for name, push := range pushers {
			pushing.Go(func() {
				list := slices.Clone(users)
				rand.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
				for range 2 {
					accepted, err := push(ctx, id, list, text)
					if err != nil || len(accepted) != len(list) {
						t.Errorf("%s: %s: %d of %d accepted: %v", name, text, len(accepted), len(list), err)
						return
					}
					mu.Lock()
					for uid, msgID := range accepted {
						if msgIDs[uid] == nil {
							msgIDs[uid] = map[uint64]bool{}
						}
						msgIDs[uid][msgID] = true
					}
					mu.Unlock()
				}
			})
		}
		pushing.Wait()
		for _, x := range away { // whoever has confirmed nothing has one message, for all of them
			if len(msgIDs[x.UID]) != 1 {
				t.Errorf("%s: %s is stored for %s as %v", text, id, x.UID, slices.Collect(maps.Keys(msgIDs[x.UID])))
			}
		}
		if t.Failed() {
			t.FailNow()
		}
		select {
		case err := <-struck:
			if err != nil {
				t.Fatal(err)
			}
			return texts
		default:
		}
	}
}

// shownOnce waits until x was shown all of texts; none of them twice, also after all that may come has come.
func shownOnce(t *testing.T, x *harness.Person, texts []string) {
	t.Helper()
	harness.Eventually(t, harness.Patience, func() error { // he may still be finding his way back
		return x.Client.Pull(t.Context())
	})
	harness.Eventually(t, harness.Patience, func() error {
		times := map[string]int{}
		for _, text := range x.Texts() {
			times[text]++
		}
		for _, text := range texts {
			if times[text] != 1 {
				return fmt.Errorf("%s was shown %s %d times, and %d of %d", x.UID, text, times[text], len(times), len(texts))
			}
		}
		return nil
	})
}

// ours is a client of the Go SDK for app-servers.
func ours(t *testing.T, apps []string, key string) pusher {
	t.Helper()
	client, err := appserver.New(appserver.Config{Addresses: apps, Key: key, RetryCap: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return func(ctx context.Context, id string, users []string, text string) (map[string]uint64, error) {
		results, err := client.Push(ctx, appserver.Push{ID: id, Domain: platform.Domain, UIDs: users, Type: "audit", Content: []byte(text)})
		if err != nil {
			return nil, err
		}
		accepted := map[string]uint64{}
		for _, r := range results.Users {
			if r.Outcome != appserver.Accepted {
				return accepted, fmt.Errorf("%s: %s %s %s", r.UID, r.Outcome, r.Status, r.Reason)
			}
			accepted[r.UID] = r.MsgID
		}
		return accepted, nil
	}
}

// theirs does what docs/app-server.md says, with grpc-go.
func theirs(s *harness.Stranger) pusher {
	later := []codes.Code{codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded}
	return func(ctx context.Context, id string, users []string, text string) (map[string]uint64, error) {
		accepted := map[string]uint64{}
		for open := users; len(open) > 0; {
			if ctx.Err() != nil {
				return accepted, ctx.Err()
			}
			call, cancel := context.WithTimeout(ctx, 10*time.Second)
			answer, err := s.Call(call, "Push", fmt.Sprintf(`{"client_msg_id": %q, "uids": ["%s"], "type": "audit", "content": %q}`,
				id, strings.Join(open, `", "`), harness.Content(text)))
			cancel()
			if err != nil && !slices.Contains(later, grpcstatus.Code(err)) {
				return accepted, err
			}
			if err == nil {
				if open, err = stillOpen(answer, open, accepted); err != nil {
					return accepted, err
				}
			}
			if len(open) > 0 {
				pause(ctx, 50*time.Millisecond)
			}
		}
		return accepted, nil
	}
}

// stillOpen notes who is accepted by the answer to a push, and returns those who are to be tried again.
func stillOpen(answer string, users []string, accepted map[string]uint64) (again []string, err error) {
	var parsed struct {
		Results []struct {
			UID     string `json:"uid"`
			Outcome string `json:"outcome"`
			MsgID   uint64 `json:"msg_id,string"`
			Status  int    `json:"status"`
		} `json:"results"`
	}
	if err := json.Unmarshal([]byte(answer), &parsed); err != nil {
		return nil, err
	}
	for _, r := range parsed.Results {
		switch {
		case r.Outcome == "PUSH_ACCEPTED":
			accepted[r.UID] = r.MsgID
		case r.Status < 2000 || r.Status > 2999:
			return nil, fmt.Errorf("%s: %s %d", r.UID, r.Outcome, r.Status)
		}
	}
	for _, uid := range users {
		if accepted[uid] == 0 {
			again = append(again, uid)
		}
	}
	return again, nil
}
