package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/gatepost/gatepost/logic"
	"github.com/gatepost/gatepost/logic/callout"
	"github.com/gatepost/gatepost/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ logic.MayWrite = (*Hook)(nil)

var (
	ann = store.UserKey{Domain: "shop", UID: "ann"}
	bob = store.UserKey{Domain: "post", UID: "bob"}
)

func newHook(t *testing.T, cfg Config, serve http.HandlerFunc) *Hook {
	t.Helper()
	s := httptest.NewServer(serve)
	t.Cleanup(s.Close)
	cfg.URL = s.URL
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func TestAsk(t *testing.T) {
	h := newHook(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		var q map[string]any
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(q); got != "map[from:map[domain:shop uid:ann] to:map[domain:post uid:bob] type:text]" {
			t.Errorf("asked: %s", got)
		}
		fmt.Fprintf(w, `{"allow":false,"reason":%q,"more":1}`, strings.Repeat("é", 200))
	})
	allowed, reason, err := h.Ask(context.Background(), ann, bob, "text")
	if allowed || err != nil || reason != strings.Repeat("é", 128) {
		t.Errorf("%v %q %v", allowed, reason, err)
	}
}

func TestNoAnswer(t *testing.T) {
	for _, body := range []string{"", "{}", `{"allow":"yes"}`, "[", `{"allow":null}`} {
		h := newHook(t, Config{Remember: time.Hour}, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
		for range 2 {
			if allowed, _, err := h.Ask(context.Background(), ann, bob, ""); err == nil || allowed {
				t.Errorf("%q is an answer", body)
			}
		}
	}
	h := newHook(t, Config{}, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprint(w, `{"allow":true}`)
	})
	for range 5 {
		if _, _, err := h.Ask(context.Background(), ann, bob, ""); err == nil {
			t.Error("an error is an answer")
		}
	}
	var open *callout.OpenError
	if _, _, err := h.Ask(context.Background(), ann, bob, ""); !errors.As(err, &open) {
		t.Errorf("asked again: %v", err)
	}
}

func TestAnswersAreRemembered(t *testing.T) {
	var asked atomic.Int32
	serve := func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"allow":%v,"reason":"r"}`, asked.Add(1)%2 == 0)
	}
	h := newHook(t, Config{Remember: time.Hour}, serve)
	for range 3 {
		if allowed, reason, err := h.Ask(context.Background(), ann, bob, "a"); allowed || reason != "r" || err != nil {
			t.Errorf("%v %q %v", allowed, reason, err)
		}
		if allowed, _, err := h.Ask(context.Background(), ann, bob, "b"); !allowed || err != nil {
			t.Errorf("%v %v", allowed, err)
		}
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
	h = newHook(t, Config{}, serve)
	for range 3 {
		if _, _, err := h.Ask(context.Background(), ann, bob, "a"); err != nil {
			t.Error(err)
		}
	}
	if n := asked.Load(); n != 5 {
		t.Errorf("asked %d times", n)
	}
}

func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(time.Minute, 2)
		of := func(kind string) question { return question{From: user(ann), To: user(bob), Type: kind} }
		has := func(want string) {
			t.Helper()
			got := ""
			for _, kind := range []string{"a", "b", "c"} {
				if v, ok := m.recall(of(kind)); ok {
					got += kind
					if v.reason != kind {
						t.Errorf("%s: %+v", kind, v)
					}
				}
			}
			if got != want || len(m.answers) != len(want) || m.byAge.Len() != len(want) {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
		keep := func(kind string) { m.keep(of(kind), verdict{reason: kind}) }
		keep("a")
		time.Sleep(30 * time.Second)
		keep("b")
		has("ab")
		time.Sleep(30 * time.Second)
		has("b")
		keep("a")
		keep("b") // again: is younger now
		keep("c")
		has("bc")
		time.Sleep(time.Minute)
		has("")
	})
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []Config{{}, {URL: "http://a", Remember: -1}, {URL: "http://a", Most: -1}, {URL: "http://a", Concurrency: -1}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}
