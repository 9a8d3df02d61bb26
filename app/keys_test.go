package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKeysSurviveTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	keys, err := GenerateKeys()
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteKeys(path, keys); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	got, err := ReadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(keys, got); d != "" {
		t.Error(d)
	}
	if err := WriteKeys(path, keys); !errors.Is(err, fs.ErrExist) {
		t.Errorf("written over: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("files were left beside it: %v", entries)
	}
}

func TestKeysNeverShowSecrets(t *testing.T) {
	keys, err := GenerateKeys()
	if err != nil {
		t.Fatal(err)
	}
	private, secret := base64url.EncodeToString(keys.Noise[0].Private[:]), base64url.EncodeToString(keys.Tokens[0].Secret[:])
	for _, format := range []string{"%v", "%+v", "%s"} {
		if text := fmt.Sprintf(format, keys); strings.Contains(text, private) || strings.Contains(text, secret) || !strings.Contains(text, keys.Noise[0].PublicKey().String()) {
			t.Errorf("%s shows %s", format, text)
		}
	}
	if text := keys.LogValue().String(); strings.Contains(text, secret) {
		t.Error("the log shows a secret")
	}
}

func TestReadKeysRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	keys, err := GenerateKeys()
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteKeys(path, keys); err != nil {
		t.Fatal(err)
	}
	for mode, ok := range map[fs.FileMode]bool{0o600: true, 0o400: true, 0o640: true, 0o644: false, 0o660: false, 0o604: false, 0o666: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeys(path); (err == nil) != ok || !ok && !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	for name, content := range map[string]string{
		"no JSON":            "secret",
		"unknown field":      `{"nois":[]}`,
		"empty":              `{}`,
		"no key":             `{"noise":[{"private":"1:AAAA"}],"tokens":[{"id":"1","secret":"AAAA"}]}`,
		"public of another":  `{"noise":[{"private":"` + keys.Noise[0].Text() + `","public":"1:AAAA"}],"tokens":[]}`,
		"token without a id": `{"noise":[{"private":"` + keys.Noise[0].Text() + `"}],"tokens":[{"id":"","secret":"` + base64url.EncodeToString(keys.Tokens[0].Secret[:]) + `"}]}`,
	} {
		file := write(t, "keys.json", content)
		if _, err := ReadKeys(file); err == nil || strings.Contains(err.Error(), keys.Noise[0].Text()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadKeys(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestManyStartsMakeOneKeysFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	var wg sync.WaitGroup
	got := make([]Keys, 16)
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = ensureKeys(path, true); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range got {
		if d := cmp.Diff(got[0], k); d != "" {
			t.Fatal("two processes have different keys")
		}
	}
}
