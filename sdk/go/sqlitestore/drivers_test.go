package sqlitestore_test

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// The SDK is linked into other people's programs: its store lives beside each SQLite driver that they may have. Two of the
// drivers register the same name, so each has a program of its own.
func TestLivesBesideDrivers(t *testing.T) {
	for _, driver := range []string{"modernc", "glebarez", "mattn"} {
		t.Run(driver, func(t *testing.T) {
			cmd := exec.Command("go", "run", "./"+driver, filepath.Join(t.TempDir(), "store.db"))
			cmd.Dir = "testdata" // a module of its own: the drivers are none of ours
			if out, err := cmd.CombinedOutput(); err != nil || string(out) != "ok 1\n" {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}
