package callout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Breaker
		pass := func(r Result) error {
			leave, err := b.Enter()
			if err == nil {
				leave(r)
			}
			return err
		}
		isOpen := func(want time.Duration) {
			t.Helper()
			var open *OpenError
			if err := pass(Succeeded); !errors.As(err, &open) || open.RetryAfter() != want || b.Check() == nil {
				t.Fatalf("got %v, want open for %v", err, want)
			}
		}
		for range breakAfter - 1 {
			_ = pass(Failed)
		}
		_ = pass(Succeeded) // not in a row
		late, err := b.Enter()
		if err != nil {
			t.Fatal(err)
		}
		for range breakAfter {
			_ = pass(Unknown)
			if err := pass(Failed); err != nil {
				t.Fatal(err)
			}
		}
		isOpen(time.Second)
		late(Failed) // began before: makes nothing longer
		isOpen(time.Second)
		time.Sleep(time.Second)
		leave, err := b.Enter()
		if err != nil {
			t.Fatal(err)
		}
		isOpen(minOpen) // only one may try
		leave(Failed)
		isOpen(2 * time.Second)
		for open := 2 * time.Second; open <= 2*maxOpen; open *= 2 {
			time.Sleep(min(open, maxOpen))
			if err := pass(Failed); err != nil {
				t.Fatal(err)
			}
		}
		isOpen(maxOpen)
		time.Sleep(maxOpen)
		if err := pass(Unknown); err != nil { // the next one may try
			t.Fatal(err)
		}
		for range breakAfter {
			if err := pass(Succeeded); err != nil {
				t.Fatal(err)
			}
		}
		for range breakAfter {
			_ = pass(Failed)
		}
		isOpen(time.Second) // as at first
	})
}

func newEndpoint(t *testing.T, cfg Config, serve http.HandlerFunc) *Endpoint {
	t.Helper()
	s := httptest.NewServer(serve)
	t.Cleanup(s.Close)
	cfg.URL = s.URL + "/ask"
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func wantOK(code int, body []byte) error {
	if code != http.StatusOK || string(body) != `"yes"` {
		return fmt.Errorf("HTTP status %d %s", code, body)
	}
	return nil
}

func TestAsk(t *testing.T) {
	e := newEndpoint(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.Path != "/ask" || r.Header.Get("Content-Type") != "application/json" || string(body) != `{"a":1}` {
			t.Errorf("%s %s %v %s", r.Method, r.URL, r.Header, body)
		}
		fmt.Fprint(w, `"yes"`)
	})
	if err := e.Ask(context.Background(), map[string]int{"a": 1}, wantOK); err != nil {
		t.Error(err)
	}
}

func TestNoAnswers(t *testing.T) {
	for name, serve := range map[string]http.HandlerFunc{
		"error": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
		},
		"endless": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("x", maxAnswerBytes+1)) },
		"cut":     func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"hangs":   func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			e := newEndpoint(t, Config{Timeout: 100 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				_, _ = io.Copy(io.Discard, r.Body) // else the server does not see the client go
				serve(w, r)
			})
			for range breakAfter {
				if err := e.Ask(context.Background(), 1, wantOK); err == nil {
					t.Fatal("an answer")
				}
			}
			var open *OpenError
			if err := e.Ask(context.Background(), 1, wantOK); !errors.As(err, &open) || open.RetryAfter() <= 0 {
				t.Errorf("got %v", err)
			}
			if n := asked.Load(); n != breakAfter {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

func TestConcurrencyIsBounded(t *testing.T) {
	var now, peak atomic.Int32
	e := newEndpoint(t, Config{Concurrency: 2, Timeout: 10 * time.Second}, func(w http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
		}
		fmt.Fprint(w, `"yes"`)
	})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := e.Ask(context.Background(), 1, wantOK); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if peak.Load() > 2 {
		t.Errorf("%d at once", peak.Load())
	}
}

// Who gives up says nothing about the endpoint, neither does who had no turn.
func TestGivingUpBreaksNothing(t *testing.T) {
	entered, release := make(chan struct{}, 1), make(chan struct{})
	e := newEndpoint(t, Config{Concurrency: 1, Timeout: 10 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		entered <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
		fmt.Fprint(w, `"yes"`)
	})
	for range 2 * breakAfter {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- e.Ask(ctx, 1, wantOK) }()
		<-entered
		short, end := context.WithTimeout(context.Background(), time.Millisecond)
		if err := e.Ask(short, 1, wantOK); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		end()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	close(release)
	if err := e.Ask(context.Background(), 1, wantOK); err != nil {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []Config{{}, {URL: "shop.example/ask"}, {URL: "ftp://u:secret@shop.example"}, {URL: "http://"}, {URL: "http://a b"},
		{URL: "http://shop.example", Timeout: -1}, {URL: "http://shop.example", Concurrency: -1}} {
		if _, err := New(c); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
