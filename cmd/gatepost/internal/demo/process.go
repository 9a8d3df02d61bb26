package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"

	gatepost "github.com/gatepost/gatepost/sdk/go"
)

// child is a client process.
type child struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr bytes.Buffer
	exited chan struct{} // closed when the process is gone and all its lines were read
	err    error         // of the exit; read after exited
	kills  sync.Once

	mu     sync.Mutex
	events []event
	news   chan struct{} // closed and replaced when events grows
}

// startChild starts a client process. It is killed when ctx ends; kill does no harm after it has ended.
func (r *run) startChild(ctx context.Context, spec childSpec) (*child, error) {
	cmd := exec.CommandContext(ctx, r.Command[0], r.Command[1:]...)
	c := &child{cmd: cmd, exited: make(chan struct{}), news: make(chan struct{})}
	cmd.Stderr = &c.stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("client process: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("client process: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("client process: %w", err)
	}
	c.stdin = stdin
	go c.read(stdout)
	if err := json.NewEncoder(stdin).Encode(spec); err != nil {
		c.kill()
		return nil, fmt.Errorf("client process: %w", err)
	}
	return c, nil
}

func (c *child) read(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // the line that a kill cut off
		}
		c.mu.Lock()
		c.events = append(c.events, e)
		close(c.news)
		c.news = make(chan struct{})
		c.mu.Unlock()
	}
	c.err = c.cmd.Wait()
	close(c.exited)
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// kill ends the process by SIGKILL and waits until it is gone.
func (c *child) kill() {
	c.kills.Do(func() {
		c.cmd.Process.Signal(os.Kill)
		<-c.exited
		c.stdin.Close()
	})
}

// end lets the process end in order.
func (c *child) end(ctx context.Context) error {
	c.stdin.Close()
	select {
	case <-c.exited:
	case <-ctx.Done():
		return fmt.Errorf("client process %d does not end: %w", c.pid(), ctx.Err())
	}
	if c.err != nil {
		return fmt.Errorf("client process %d: %w: %s", c.pid(), c.err, bytes.TrimSpace(c.stderr.Bytes()))
	}
	return nil
}

// match picks events of a client process.
type match struct {
	kind eventKind
	text string               // "": any
	id   gatepost.ClientMsgID // zero: any
}

func (m match) of(e event) bool {
	return e.Kind == m.kind && (m.text == "" || e.Text == m.text) && (m.id == gatepost.ClientMsgID{} || e.ID == m.id)
}

// await waits for the first event that m picks.
func (c *child) await(ctx context.Context, m match) (event, error) {
	for gone := false; ; {
		c.mu.Lock()
		news := c.news
		i := slices.IndexFunc(c.events, m.of)
		if i >= 0 {
			defer c.mu.Unlock()
			return c.events[i], nil
		}
		c.mu.Unlock()
		if gone {
			return event{}, fmt.Errorf("client process %d ended before it said %q: %w: %s", c.pid(), m.kind, c.err, bytes.TrimSpace(c.stderr.Bytes()))
		}
		select {
		case <-news:
		case <-c.exited:
			gone = true // look once more: all its lines have been read now
		case <-ctx.Done():
			return event{}, fmt.Errorf("client process %d has not said %q: %w", c.pid(), m.kind, ctx.Err())
		}
	}
}

// count counts the events that m picks.
func (c *child) count(m match) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		if m.of(e) {
			n++
		}
	}
	return n
}
