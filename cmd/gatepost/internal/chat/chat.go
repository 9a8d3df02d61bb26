// Package chat is a chat for two terminals: what the SDK can do, in the fewest words.
package chat

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	gatepost "github.com/gatepost/gatepost/sdk/go"
)

// Config of a chat.
type Config struct {
	Client gatepost.Config // complete but for the callbacks
	To     gatepost.User
	In     io.Reader // a line is a message
	Out    io.Writer
	Copy   bool          // the user's own other devices get what is sent
	Linger time.Duration // how long the end of In waits for messages that are not accepted yet
}

// chat is one running chat.
type chat struct {
	Config
	mu     sync.Mutex          // guards Out
	kept   []*gatepost.Sending // what was typed; of the loop in Run
	closed chan error          // the client stays away
}

// Run chats until In or ctx ends, or the platform tells the client to stay away.
func Run(ctx context.Context, cfg Config) error {
	c := &chat{Config: cfg, closed: make(chan error, 1)}
	c.Client.OnMessage = c.show
	c.Client.OnSent = c.sent
	c.Client.OnReceipt = c.receipt
	c.Client.OnState = c.state
	client, err := gatepost.New(c.Client)
	if err != nil {
		return errors.Join(err, c.Client.Store.Close())
	}
	defer client.Close()
	lines := make(chan string)
	go c.read(ctx, lines)
	go client.Login(ctx) // what comes of it is told by OnState
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				c.linger(ctx)
				return client.Close()
			}
			c.send(ctx, client, line)
		case err := <-c.closed:
			return err
		case <-ctx.Done():
			return client.Close()
		}
	}
}

// read ends with In. When the chat ends before, it ends with the next line or with the process.
func (c *chat) read(ctx context.Context, lines chan<- string) {
	defer close(lines)
	in := bufio.NewScanner(c.In)
	for in.Scan() {
		if in.Text() == "" {
			continue
		}
		select {
		case lines <- in.Text():
		case <-ctx.Done():
			return
		}
	}
}

func (c *chat) send(ctx context.Context, client *gatepost.Client, line string) {
	sending, err := client.C2C(ctx, c.To, gatepost.Outgoing{Type: "text", Content: []byte(line), Receipt: true, Copy: c.Copy})
	if err != nil {
		c.printf("  ! not taken: %v", err)
		return
	}
	c.kept = append(c.kept, sending)
	if client.State() != gatepost.Online {
		c.printf("  . kept; it leaves when there is a connection")
	}
}

// linger gives what was typed last the time to be accepted, so that a chat can be fed by a pipe.
func (c *chat) linger(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.Linger)
	defer cancel()
	waiting := 0
	for _, s := range c.kept {
		if _, err := s.Wait(ctx); errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			waiting++
		}
	}
	if waiting > 0 {
		c.printf("  . %d not accepted yet: kept, and sent by the next chat of this user", waiting)
	}
}

func (c *chat) sent(r gatepost.SendResult) {
	switch {
	case r.Err != nil:
		c.printf("  ! refused: %v", r.Err)
	case r.Duplicate:
		c.printf("  . accepted (it had been accepted before)")
	default:
		c.printf("  . accepted")
	}
}

func (c *chat) show(_ context.Context, m gatepost.Message) error {
	flags := ""
	if m.Late {
		flags += " [late]"
	}
	if m.MaybeRepeated {
		flags += " [maybe repeated]"
	}
	c.printf("%s %s:%s %s", m.CreatedAt.Local().Format(time.TimeOnly), m.From.UID, flags, m.Content)
	return nil
}

func (c *chat) receipt(_ context.Context, r gatepost.Receipt) error {
	c.printf("  ✓✓ %s has it, since %s", r.By.UID, r.At.Local().Format(time.TimeOnly))
	return nil
}

func (c *chat) state(s gatepost.StateChange) {
	if s.Err != nil {
		c.printf("  — %v: %v", s.State, s.Err)
	} else {
		c.printf("  — %v", s.State)
	}
	if s.Retired {
		c.printf("  — this device had been away for too long: what was sent meanwhile was not kept for it")
	}
	if s.State == gatepost.Closed && s.Err != nil {
		select {
		case c.closed <- s.Err:
		default:
		}
	}
}

func (c *chat) printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.Out, format+"\n", args...)
}
