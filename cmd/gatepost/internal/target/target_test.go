package target

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatepost/gatepost/app"
	gatepost "github.com/gatepost/gatepost/sdk/go"
)

func key(t *testing.T) gatepost.Key {
	t.Helper()
	keys, err := app.GenerateKeys()
	if err != nil {
		t.Fatal(err)
	}
	k, err := gatepost.ParseKey(keys.Public()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestEachPlatformHasStoresOfItsOwn(t *testing.T) {
	dir, a, b := t.TempDir(), key(t), key(t)
	path := func(gate string, keys ...gatepost.Key) string {
		p, err := (&Target{DataDir: dir, Gates: []string{gate}, Keys: keys}).StorePath("default", "alice.db")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := path("tcp://h:1", a)
	if rel, err := filepath.Rel(dir, first); err != nil || !strings.HasPrefix(rel, "clients"+string(filepath.Separator)) {
		t.Errorf("%s is not below clients in %s", first, dir)
	}
	if path("tcp://h:2", a) != first {
		t.Error("another gate of the same platform has another store")
	}
	if path("tcp://h:1", b, a) != first {
		t.Error("a new key in front of the pinned one gives the store up")
	}
	if path("tcp://h:1", b) == first {
		t.Error("two platforms share a store")
	}
	if path("tls://h:1") == path("tls://h:2") {
		t.Error("two platforms without pinned keys share a store")
	}
}

func TestFileNameIsOneElement(t *testing.T) {
	for _, name := range []string{"..", ".demo", "a/b", "../../x", "a\x00b"} {
		if got := FileName(name); strings.ContainsAny(got, "/\x00") || strings.HasPrefix(got, ".") {
			t.Errorf("FileName(%q) = %q", name, got)
		}
	}
	if FileName("alice") != "alice" {
		t.Error("a plain name is changed")
	}
}
