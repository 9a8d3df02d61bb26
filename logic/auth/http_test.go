package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// codeOf is the code of a refusal.
func codeOf(t *testing.T, err error) status.Code {
	t.Helper()
	var refusal *status.Error
	switch {
	case err == nil:
		return status.OK
	case errors.As(err, &refusal):
		return refusal.Code
	}
	t.Fatalf("not a refusal: %v", err)
	return 0
}

func TestHTTPAuthenticator(t *testing.T) {
	for _, c := range []struct {
		name  string
		token string
		code  int
		body  string
		want  status.Code
	}{
		{"good", "t", 200, `{"ok":true}`, status.OK},
		{"said no", "t", 200, `{"ok":false}`, status.BadToken},
		{"401", "t", 401, "", status.BadToken},
		{"403", "t", 403, "", status.Unavailable},
		{"500", "t", 500, `{"ok":true}`, status.Unavailable},
		{"empty", "t", 200, "", status.Unavailable},
		{"no ok", "t", 200, "{}", status.Unavailable},
		{"not text", "\xff", 200, `{"ok":true}`, status.BadToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if body, _ := io.ReadAll(r.Body); string(body) != `{"domain":"d","uid":"u","device":2,"token":"t"}` {
					t.Errorf("asked: %s", body)
				}
				w.WriteHeader(c.code)
				fmt.Fprint(w, c.body)
			}))
			defer s.Close()
			a, err := NewHTTP(HTTPConfig{URL: s.URL})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if got := codeOf(t, a.Authenticate(context.Background(), store.UserKey{Domain: "d", UID: "u"}, 2, []byte(c.token))); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestHTTPAuthenticatorBreaks(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	a, err := NewHTTP(HTTPConfig{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var refusal *status.Error
	for range 6 {
		err = a.Authenticate(context.Background(), store.UserKey{Domain: "d", UID: "u"}, 1, []byte("t"))
		if !errors.As(err, &refusal) || refusal.Code != status.Unavailable {
			t.Fatal(err)
		}
	}
	if refusal.RetryAfterMS == 0 {
		t.Errorf("not told when: %v", err)
	}
	if _, err := NewHTTP(HTTPConfig{}); err == nil {
		t.Error("an authenticator without a URL")
	}
}
