package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/gatepost/gatepost/cmd/gatepost/internal/target"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/google/uuid"
)

// device is the device class of all users of the demo.
const device = gatepost.Desktop

// Config of a run.
type Config struct {
	Target  *target.Target
	Command []string // starts a client process: RunChild behind this command line
	Domain  string
	Timeout time.Duration // of one step
	Out     io.Writer
}

// step is one promise and how it is tried. do returns what was seen, for the reader.
type step struct {
	title   string
	promise string
	do      func(context.Context, *run) (string, error)
}

var steps = []step{
	{"What the last run left behind", "A message waits, durably, until its receiver has confirmed it (G1, G2).", findLeft},
	{"Two users log in", "Every frame is sealed to the key of the gate; the first pull registers the device for its messages.", logIn},
	{"They write to each other", "Accepted means committed to disk. Each message is shown once, in the order it was sent (G1, G2, G3).", talk},
	{"One of them is away", "What was accepted meanwhile waits in the inbox, and is shown in order when he comes back (G1, G3).", away},
	{"A receiver is killed in the middle of a message", "Nothing is lost; what was inside the app's callback is shown again, flagged, and never after that (G2).", killReceiver},
	{"A sender is killed right after it wrote", "The outbox is durable and resends are absorbed: the message arrives, once, before the next one (G2, G3).", killSender},
	{"A second login of the same device class", "The newest login wins; the older one is told who won, and stays away (G5).", secondLogin},
	{"Did he read it?", "A message that asks for it is answered by a receipt, once the receiver's app has been shown it (G2).", receipt},
	{"The other one has a phone, too", "Each device class gets every message, and a copy of what the others sent (G1, G2).", secondDevice},
	{"A client reports where it is", "An accepted report is in the topic of its type, each user's in order, and a consumer is handed it once (G1, G2, G3).", report},
	{"An app-server comes with a key of its own", "A key is for one account system and some rights, and the database has no more of it than a hash.", startAppServer},
	{"It pushes to somebody who is online", "Accepted means committed to disk, as between users; then it is shown at once (G1, G2).", pushOnline},
	{"It pushes to somebody who is away", "What is kept waits for him; what is only for those online says that he is not (G1).", pushAway},
	{"Its key is revoked", "The next call is refused, with a code that says so (G6).", revokeKey},
	{"Something for the next run", "The message is accepted and its receiver is away: the next run finds it (G1).", leave},
}

// leftOut is why a step cannot be played here. It is no failure.
type leftOut string

func (l leftOut) Error() string { return string(l) }

// run is the state of one run.
type run struct {
	Config
	app        *appServer // nil: none, or its key is revoked
	tmp        string     // the stores of this run's users
	alice, bob *person
	names      struct{ alice, bob, carol, dave gatepost.User } // new in each run
}

// Run plays all steps and reports whether every one of them held. The error is of the demo itself, not of a step.
func Run(ctx context.Context, cfg Config) (held bool, err error) {
	if !cfg.Target.CanMint() {
		return false, errors.New("the demo makes tokens for its users and needs the secrets of the platform: name them by --keys-file")
	}
	tmp, err := os.MkdirTemp("", "gatepost-demo-")
	if err != nil {
		return false, fmt.Errorf("stores of the demo's users: %w", err)
	}
	defer os.RemoveAll(tmp)
	r := &run{Config: cfg, tmp: tmp}
	for name, user := range map[string]*gatepost.User{"alice": &r.names.alice, "bob": &r.names.bob, "carol": &r.names.carol, "dave": &r.names.dave} {
		*user = gatepost.User{Domain: cfg.Domain, UID: name + "-" + uuid.NewString()[:8]}
	}
	defer r.leaveAll()
	held = true
	skipped := 0
	for i, s := range steps {
		fmt.Fprintf(cfg.Out, "\n%d. %s\n   %s\n", i+1, s.title, s.promise)
		begin := time.Now()
		seen, err := r.try(ctx, s)
		took := time.Since(begin).Round(100 * time.Microsecond)
		var why leftOut
		if errors.As(err, &why) {
			skipped++
			fmt.Fprintf(cfg.Out, "   – left out: %v\n", why)
		} else if err != nil {
			held = false
			fmt.Fprintf(cfg.Out, "   ✗ %v (after %v)\n", err, took)
		} else {
			fmt.Fprintf(cfg.Out, "   ✓ %s (%v)\n", seen, took)
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
	switch {
	case held && skipped == 0:
		fmt.Fprintln(cfg.Out, "\nEvery step held.")
	case held:
		fmt.Fprintf(cfg.Out, "\nEvery step that was played held; %d were left out.\n", skipped)
	}
	return held, nil
}

func (r *run) try(ctx context.Context, s step) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	return s.do(ctx, r)
}

// leaveAll logs this run's users out, so that the platform keeps nothing for them, and revokes a key that is still valid.
func (r *run) leaveAll() {
	ctx, cancel := context.WithTimeout(context.Background(), r.Timeout)
	defer cancel()
	if a := r.app; a != nil {
		if err := r.stopAppServer(ctx); err != nil {
			fmt.Fprintf(r.Out, "app key %s is still valid: %v\n", a.keyID, err)
		}
		if a.client != nil {
			a.client.Close()
		}
	}
	for _, p := range []*person{r.alice, r.bob} {
		if p != nil {
			p.client.Logout(ctx)
		}
	}
}

// store is the path of a store that lasts as long as this run.
func (r *run) store(name string) string { return filepath.Join(r.tmp, name+".db") }

// GoOn prints the commands to go on by hand with the platform in dataDir, for a shell that knows this binary as gatepost.
func GoOn(w io.Writer, gatepost, dataDir string) {
	fmt.Fprintf(w, `
Go on by hand, in two terminals:
  %[1]s chat --data-dir %[2]s --uid alice --to bob
  %[1]s chat --data-dir %[2]s --uid bob --to alice
Push to one of them as an app-server does, and read what clients report:
  %[1]s app-key add --data-dir %[2]s --domain default --rights push,presence --keep
  %[1]s push --data-dir %[2]s --to default/bob --type order --content 'two parcels'
  %[1]s consume --data-dir %[2]s --topic uplinks
Kill one of them while the other writes, and start it again. What it does under load, with a verdict:
  %[1]s bench c2c --servers running --data-dir %[2]s
`, gatepost, dataDir)
}
