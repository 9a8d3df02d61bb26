package platform

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is one server process. It can be stopped, killed, frozen and started again on the same addresses.
// Its methods are not safe for concurrent use, but PID, Name and Ready are.
type Process struct {
	name    string
	binary  string
	args    []string
	log     string // file, appended over all lives
	timeout time.Duration

	mu     sync.Mutex
	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process is gone
	waited error         // valid once ended is closed
	ready  map[string][]string
}

// Name is "gate 1", "logic 2" or "standalone".
func (p *Process) Name() string { return p.name }

// PID of the running process; 0 when there is none.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Ready is the first value of key in the READY line of the last start.
func (p *Process) Ready(key string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v := p.ready[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Start starts the process and returns when it said READY.
func (p *Process) Start(ctx context.Context) error {
	if p.PID() != 0 {
		return fmt.Errorf("%s runs already", p.name)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of %s: %w", p.name, err)
	}
	cmd := exec.Command(p.binary, p.args...)
	cmd.Env = environ()
	cmd.Stderr = log
	stdin, err := cmd.StdinPipe() // held open by us and never written: the server ends when we do, however that is
	if err != nil {
		return errors.Join(err, log.Close())
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return errors.Join(err, log.Close())
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, errors.Join(err, log.Close()))
	}
	ended := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.ended = cmd, ended
	p.mu.Unlock()

	line := make(chan string, 1)
	go func() {
		readReady(stdout, line)
		err := cmd.Wait() // after the last read, as StdoutPipe asks
		p.mu.Lock()
		p.cmd, p.waited = nil, errors.Join(err, log.Close())
		_ = stdin.Close() // Wait has closed it
		p.mu.Unlock()
		close(ended)
	}()
	timer := time.NewTimer(p.timeout)
	defer timer.Stop()
	select {
	case text := <-line:
		p.mu.Lock()
		p.ready = parseReady(text)
		p.mu.Unlock()
		return nil
	case <-ended:
		return fmt.Errorf("%s ended before it was ready: %w\n%s", p.name, p.waited, p.LogTail())
	case <-timer.C:
		return errors.Join(fmt.Errorf("%s was not ready after %s\n%s", p.name, p.timeout, p.LogTail()), p.Kill())
	case <-ctx.Done():
		return errors.Join(ctx.Err(), p.Kill())
	}
}

// readReady hands on the first line that begins with READY, and reads to the end so that the process never blocks on its output.
func readReady(r io.Reader, line chan<- string) {
	scan := bufio.NewScanner(r)
	for scan.Scan() {
		if strings.HasPrefix(scan.Text(), "READY ") {
			select {
			case line <- scan.Text():
			default: // it says so once
			}
		}
	}
	_, _ = io.Copy(io.Discard, r) // a line that was too long for the scanner; the pipe's end is the only end
}

// parseReady reads "READY role key=value …"; a key may come more than once.
func parseReady(line string) map[string][]string {
	out := map[string][]string{}
	for _, word := range strings.Fields(line) {
		if k, v, ok := strings.Cut(word, "="); ok {
			out[k] = append(out[k], v)
		}
	}
	return out
}

// Kill ends the process at once, as a crash does, and returns when it is gone.
func (p *Process) Kill() error { return p.end(syscall.SIGKILL) }

// Stop asks the process to end and returns when it is gone; an error when it did not end in order or in time, and was killed.
func (p *Process) Stop() error { return p.end(syscall.SIGTERM) }

func (p *Process) end(sig syscall.Signal) error {
	p.mu.Lock()
	cmd, ended := p.cmd, p.ended
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	timer := time.NewTimer(p.timeout)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		err := cmd.Process.Kill()
		<-ended
		return errors.Join(fmt.Errorf("%s did not end within %s and was killed", p.name, p.timeout), err)
	}
	if sig == syscall.SIGTERM && p.waited != nil {
		return fmt.Errorf("%s: stop: %w\n%s", p.name, p.waited, p.LogTail())
	}
	return nil
}

// Pause freezes the process: its connections stay open and nothing answers.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume lets a frozen process go on.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("%s does not run", p.name)
	}
	return p.cmd.Process.Signal(sig)
}

// Restart starts a process that has ended or is killed for it.
func (p *Process) Restart(ctx context.Context) error {
	if err := p.Kill(); err != nil {
		return err
	}
	return p.Start(ctx)
}

// LogTail is the end of what the process logged.
func (p *Process) LogTail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	if len(b) > 4096 {
		b = b[len(b)-4096:]
		b = b[bytes.IndexByte(b, '\n')+1:]
	}
	return fmt.Sprintf("%s:\n%s", filepath.Base(p.log), b)
}

// environ is our environment without the variables that the binary would take for settings.
func environ() []string {
	var out []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "GATEPOST_") {
			out = append(out, kv)
		}
	}
	return out
}
