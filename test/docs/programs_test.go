// Package docs checks what the pages say where no other test does.
package docs

import (
	"bytes"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

const repository = "../.."

var programs = regexp.MustCompile("(?ms)^```go program\n(.*?)^```$")

// Whole programs on the pages compile as they stand, and look as gofmt wants them.
func TestProgramsOnThePagesCompile(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range programs.FindAllSubmatch(text, -1) {
			found++
			if pretty, err := format.Source(m[1]); err != nil || !bytes.Equal(pretty, m[1]) {
				t.Errorf("%s: not as gofmt wants it, %v\n%s", filepath.Base(page), err, m[1])
			}
			file := filepath.Join(t.TempDir(), "main.go")
			if err := os.WriteFile(file, m[1], 0o600); err != nil {
				t.Fatal(err)
			}
			build := exec.Command("go", "build", "-o", os.DevNull, file)
			build.Dir = repository
			if out, err := build.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s\n%s", filepath.Base(page), err, out, m[1])
			}
		}
	}
	if found == 0 {
		t.Error("docs/app-server.md shows no program")
	}
}
