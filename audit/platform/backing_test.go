package platform

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestOpenBacking(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenBacking(dir, ""); err == nil || !strings.Contains(err.Error(), "mariadb") {
		t.Fatalf("nothing is there: %v", err)
	}
	write(t, filepath.Join(dir, "mariadb", "address"), "root@tcp(127.0.0.1:1)/\n", 0o600)
	write(t, filepath.Join(dir, "mariadb", "pid"), "12 3456\n", 0o600)
	if _, err := OpenBacking(dir, ""); err == nil || !strings.Contains(err.Error(), "redis") {
		t.Fatalf("Redis is not there: %v", err)
	}
	write(t, filepath.Join(dir, "redis", "address"), "10.0.0.1:6379\n", 0o600) // given: no process of ours
	b, err := OpenBacking(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.CheckScripts(); err == nil || !strings.Contains(err.Error(), "up.sh") { // the working directory is this package
		t.Errorf("there are no scripts here: %v", err)
	}
	if a := b.Address(MariaDB); a != "root@tcp(127.0.0.1:1)/" {
		t.Errorf("address of MariaDB: %q", a)
	}
	if a := b.Address(Kafka); a != "" {
		t.Errorf("address of Kafka: %q", a)
	}
	if diff := cmp.Diff([]Server{{MariaDB, 12}}, b.Processes()); diff != "" {
		t.Error(diff)
	}
	if !b.Owns(MariaDB) || b.Owns(Redis) || b.Owns(Kafka) {
		t.Error("it owns what has a process, and nothing else")
	}
}

// The scripts are told the directory and the kinds, and never the address of another server.
func TestBackingCallsTheScripts(t *testing.T) {
	t.Setenv("GATEPOST_TEST_REDIS", "127.0.0.1:1")
	scripts, dir := t.TempDir(), t.TempDir()
	for _, name := range []string{"up.sh", "down.sh"} {
		write(t, filepath.Join(scripts, name), "#!/bin/sh\necho \"${0##*/} $* ${GATEPOST_TEST_REDIS:-}\" >>'"+dir+"/calls'\n", 0o700)
	}
	b, err := NewBacking(dir, scripts)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{b.CheckScripts(), b.Kill(t.Context(), MariaDB, Redis), b.Start(t.Context(), MariaDB), b.Remove(t.Context())} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	want := "down.sh --dir " + dir + " --kill --keep mariadb redis \nup.sh --dir " + dir + " mariadb \ndown.sh --dir " + dir + " \n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	write(t, filepath.Join(scripts, "up.sh"), "#!/bin/sh\necho no room >&2\nexit 3\n", 0o700)
	if err := b.Start(t.Context(), Kafka); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("a script that fails: %v", err)
	}
}
