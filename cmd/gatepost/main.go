// Command gatepost is the whole of Gatepost in one binary: the servers, the tools that set them up, and clients to try and to judge them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/gatepost/gatepost/app"
)

// Exit codes, as root's help tells them.
const (
	exitFailed       = 1
	exitUsage        = 2
	exitAddressTaken = 3
)

func main() {
	// The first signal asks for a stop in order; the second one ends the process at once.
	ctx, release := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, release)
	os.Exit(run(ctx, os.Args[1:], os.Stderr))
}

// run executes a command line. What goes wrong is told to stderr; the exit code is returned.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	root, started := newRoot()
	root.SetArgs(args)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "gatepost:", strings.TrimPrefix(err.Error(), "gatepost: ")) // the SDK begins its errors so as well
	switch {
	case !*started || errors.As(err, new(usageError)): // cobra refuses commands, flags and arguments before anything starts
		return exitUsage
	case errors.Is(err, app.ErrAddressTaken):
		return exitAddressTaken
	}
	return exitFailed
}

// usageError is a fault of the command line or of the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }
