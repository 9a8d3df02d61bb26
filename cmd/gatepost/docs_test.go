package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gatepost/gatepost/app"
)

const repository = "../.."

// pages are README.md and the pages of docs.
func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no pages in docs: %v", err)
	}
	texts := make(map[string]string)
	for _, file := range append(files, filepath.Join(repository, "README.md")) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(file)] = string(b)
	}
	return texts
}

// blocks are the fenced blocks of a page in a language.
func blocks(page, language string) (out []string) {
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		out = append(out, m[1])
	}
	return out
}

var inlineCommand = regexp.MustCompile("`((?:bin/)?gatepost [^`\n]+)`")

func TestCommandsOnThePagesExist(t *testing.T) {
	for name, page := range pages(t) {
		t.Run(name, func(t *testing.T) {
			for _, block := range blocks(page, "sh") {
				for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", " ")) {
					checkExample(t, line)
				}
			}
			for _, m := range inlineCommand.FindAllStringSubmatch(page, -1) {
				checkExample(t, m[1])
			}
		})
	}
}

var variable = regexp.MustCompile(`\bGATEPOST_[A-Z_]+\b`)

func TestVariablesOnThePagesExist(t *testing.T) {
	known, err := command(t, "config", "print", "--role", "logic", "--env")
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"gate", "standalone"} {
		more, err := command(t, "config", "print", "--role", role, "--env")
		if err != nil {
			t.Fatal(err)
		}
		known += more
	}
	for name, page := range pages(t) {
		for _, v := range variable.FindAllString(page, -1) {
			if !strings.HasPrefix(v, "GATEPOST_TEST_") && !strings.Contains(known, "\n"+v+"=") {
				t.Errorf("%s: there is no variable %s", name, v)
			}
		}
	}
}

// The snippets of Go stand inside a function whose context and token the reader has.
func TestGoOnThePagesCompiles(t *testing.T) {
	const head = `package main

import (
	"context"
	"fmt"

	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/sqlitestore"
)

func main() {}

func snippet(ctx context.Context, token string) (gatepost.SendResult, error) {
`
	found := 0
	for name, page := range pages(t) {
		for _, block := range blocks(page, "go") {
			found++
			file := filepath.Join(t.TempDir(), "snippet.go")
			if err := os.WriteFile(file, []byte(head+block+"\nreturn result, err\n}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			build := exec.Command("go", "build", "-o", os.DevNull, file)
			build.Dir = repository
			if out, err := build.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s\n%s", name, err, out, block)
			}
		}
	}
	if found == 0 {
		t.Error("README.md shows no Go")
	}
}

var metricName = regexp.MustCompile(`\bgatepost_(gate|logic|store|kafka)_([a-z_]+)`)

func TestMetricsOnThePagesExist(t *testing.T) {
	sources := map[string]string{}
	for room, file := range map[string]string{"gate": "gate/metrics.go", "logic": "logic/metrics.go", "store": "store/sql/durability.go", "kafka": "mq/kafka/metrics.go"} {
		b, err := os.ReadFile(filepath.Join(repository, filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		sources[room] = string(b)
	}
	for name, page := range pages(t) {
		for _, m := range metricName.FindAllStringSubmatch(page, -1) {
			if source := sources[m[1]]; !strings.Contains(source, `"`+m[2]+`"`) && !strings.Contains(source, `"`+m[0]+`"`) {
				t.Errorf("%s: there is no metric %s", name, m[0])
			}
		}
	}
}

var settingName = regexp.MustCompile("`((?:gate|logic|sql|redis|kafka|admin|log|tls)\\.[a-z_.]+)`")

func TestSettingsOnThePagesExist(t *testing.T) {
	known, err := command(t, "config", "print", "--role", "logic", "--env")
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"gate", "standalone"} {
		more, err := command(t, "config", "print", "--role", role, "--env")
		if err != nil {
			t.Fatal(err)
		}
		known += more
	}
	for name, page := range pages(t) {
		for _, m := range settingName.FindAllStringSubmatch(page, -1) {
			if strings.HasSuffix(m[1], ".go") {
				continue // a file
			}
			if !strings.Contains(known, "\n"+app.EnvName(m[1])+"=") {
				t.Errorf("%s: there is no setting %s", name, m[1])
			}
		}
	}
}
