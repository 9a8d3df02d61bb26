package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatepost/gatepost/app"
	"github.com/spf13/cobra"
)

// command runs a command line in this process.
func command(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	root, _ := newRoot()
	var b bytes.Buffer
	root.SetOut(&b)
	root.SetErr(&b)
	root.SetArgs(args)
	err = root.ExecuteContext(t.Context())
	return b.String(), err
}

func TestEveryCommandTeaches(t *testing.T) {
	root, _ := newRoot()
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "completion" {
			return
		}
		if c.Short == "" || c.Long == "" {
			t.Errorf("%s: Short or Long is missing", c.CommandPath())
		}
		if !c.Hidden && c.HasParent() && !strings.Contains(c.Example, "gatepost") {
			t.Errorf("%s: no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			checkExample(t, line)
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
}

// checkExample checks that the commands of this binary in a line of shell, and their flags and settings, exist.
func checkExample(t *testing.T, line string) {
	t.Helper()
	words := strings.Fields(line)
	for i, w := range words {
		if strings.HasPrefix(w, "#") {
			return
		}
		if path.Base(w) == "gatepost" && (i == 0 || strings.Contains(words[i-1], "=") || slices.Contains(separators, words[i-1])) {
			checkCommand(t, line, words[i+1:])
		}
	}
}

// separators of commands in a line of shell.
var separators = []string{"&&", "||", "|", ";"}

// checkCommand checks the words behind gatepost, up to the end of the command.
func checkCommand(t *testing.T, line string, words []string) {
	t.Helper()
	if end := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "#") || slices.Contains(separators, w) }); end >= 0 {
		words = words[:end]
	}
	root, _ := newRoot()
	cmd, rest, err := root.Find(words)
	if err != nil || cmd == root {
		t.Errorf("example %q: no such command (%v)", line, err)
		return
	}
	if cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		t.Errorf("example %q: %s has no command %s", line, cmd.CommandPath(), rest[0])
	}
	for i, w := range rest {
		name, isFlag := strings.CutPrefix(w, "--")
		name, value, inWord := strings.Cut(name, "=")
		if !isFlag || name == "" {
			continue
		}
		if cmd.Flags().Lookup(name) == nil && name != "help" {
			t.Errorf("example %q: no flag --%s", line, name)
		}
		if !inWord && i+1 < len(rest) {
			value = rest[i+1]
		}
		if name == "set" {
			if _, err := app.Load(app.Standalone, app.Sources{Set: []string{value}}); err != nil {
				t.Errorf("example %q: %v", line, err)
			}
		}
	}
}

func TestHelpOfEveryCommand(t *testing.T) {
	for _, args := range []string{"", "standalone", "gate", "logic", "migrate up", "migrate status", "keys init", "keys show-public", "token", "chat", "demo",
		"audit", "bench c2c", "config check", "config print", "version"} {
		out, err := command(t, append(strings.Fields(args), "--help")...)
		if err != nil || !strings.Contains(out, "Usage:") {
			t.Errorf("%s --help: %v\n%s", args, err, out)
		}
	}
}

func TestExitCodes(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	for args, want := range map[string]int{
		"version":                    0,
		"nonsense":                   exitUsage,
		"version --nonsense":         exitUsage,
		"version nonsense":           exitUsage,
		"keys":                       0,
		"keys nonsense":              exitUsage,
		"bench c2c --pairs 0":        exitUsage,
		"migrate up":                 exitUsage,
		"token":                      exitUsage,
		"token --uid a --data-dir x": exitFailed,
		"config check --set no=1":    exitUsage,
		"config check --role x":      exitUsage,
		"gate":                       exitUsage,
		"demo --data-dir nowhere":    exitFailed,
		"bench c2c --redis x":        exitUsage,
		"bench c2c --servers foo":    exitUsage,
		"audit --users 1":            exitUsage,
		"audit --kinds mail":         exitUsage,
		"audit --kinds uplinks":      exitUsage,
		"chat --gate tcp://127.0.0.1:1 --uid a --to b": exitUsage,
		"demo --gate tcp://127.0.0.1:1":                exitUsage,
		"keys init --keys-file nowhere/keys.json":      exitFailed,
		"keys show-public --keys-file nowhere.json":    exitFailed,
		fmt.Sprintf("standalone --data-dir %s --admin 127.0.0.1:0 --tls 127.0.0.1:0 --tcp %s", dir, taken.Addr()): exitAddressTaken,
	} {
		if got := run(t.Context(), strings.Fields(args), io.Discard); got != want {
			t.Errorf("gatepost %s: exit code %d, want %d", args, got, want)
		}
	}
}

func TestKeysAndTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	made, err := command(t, "keys", "init", "--keys-file", file)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := command(t, "keys", "show-public", "--keys-file", file)
	if err != nil || !strings.HasPrefix(shown, "1:") || !strings.HasSuffix(made, shown) {
		t.Errorf("init said %q, show-public %q, %v", made, shown, err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{made, shown} {
		for _, word := range strings.Fields(out) {
			if strings.Contains(string(content), `"private": "`+word) {
				t.Error("a secret was shown")
			}
		}
	}
	if _, err := command(t, "keys", "init", "--keys-file", file); err == nil {
		t.Error("the file was made twice")
	}
	for _, args := range [][]string{{"--domain", "shop", "--uid", "alice"}, {"shop/alice"}} {
		token, err := command(t, append([]string{"token", "--keys-file", file}, args...)...)
		if err != nil || strings.Count(token, ".") != 2 {
			t.Errorf("token %v: %q, %v", args, token, err)
		}
	}
}

// builtBinary builds the binary, for tests with processes of it.
func builtBinary(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "gatepost")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// startStandalone starts a standalone process on a fresh data directory. stop ends it in order.
func startStandalone(t *testing.T, binary string) (dir string, stop func()) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	server := exec.Command(binary, "standalone", "--data-dir", dir, "--tcp", "127.0.0.1:0", "--tls", "", "--app", "127.0.0.1:0",
		"--kafka-listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--exit-on-stdin-eof")
	stdin, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Kill() })
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := app.ReadRuntime(dir); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	return dir, func() {
		stdin.Close()
		if err := server.Wait(); err != nil {
			t.Errorf("standalone: %v", err)
		}
	}
}

// The demo starts and kills processes of the binary.
func TestDemoHoldsAndFindsItsDataAgain(t *testing.T) {
	binary := builtBinary(t)
	dir, stop := startStandalone(t, binary)
	for _, want := range []string{"this is the first run", "waited"} {
		out, err := exec.Command(binary, "demo", "--data-dir", dir, "--exit").CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) || strings.Count(string(out), "\n   ✓ ") != 15 || !strings.Contains(string(out), "✓✓") {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	keys, err := command(t, "app-key", "list", "--data-dir", dir)
	if err != nil || strings.Count(keys, "revoked") != 2 || strings.Contains(keys, "valid") {
		t.Errorf("the keys of the demo: %v\n%s", err, keys)
	}
	rt, err := app.ReadRuntime(dir)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary, "demo", "--gate", "tcp://"+rt.TCP, "--keys-file", rt.KeysFile, "--data-dir", t.TempDir(), "--exit").CombinedOutput()
	if err != nil || strings.Count(string(out), "\n   – left out") != 5 || !strings.Contains(string(out), "5 were left out") {
		t.Errorf("where only a gate is named: %v\n%s", err, out)
	}
	stop()
}

func TestFaultsSayWhatToDo(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none", "keys.json")
	for _, c := range []struct {
		args string
		want []string
	}{
		{"bench c2c --servers foo", []string{"--servers foo: must be local, running"}},
		{"audit --servers ftp://host:1", []string{"--servers ftp://host:1: must be"}},
		{"keys init --keys-file " + none, []string{filepath.Dir(none), "is not there: make it"}},
		{"keys show-public --keys-file " + none, []string{"gatepost keys init --keys-file " + none}},
		{"chat --gate tcp://127.0.0.1:1 --uid a --to b", []string{"--keys-file", "--token"}},
	} {
		var stderr bytes.Buffer
		run(t.Context(), strings.Fields(c.args), &stderr)
		for _, want := range c.want {
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("gatepost %s: %q is not in %s", c.args, want, &stderr)
			}
		}
	}
}
