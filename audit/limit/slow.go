package limit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// SlowCommits is a proxy before a MySQL or a MariaDB whose commits take longer by a fixed time, as they do on slower disks and over longer ways: it
// holds back each answer to a COMMIT, and to a statement outside of a transaction that writes. Nothing else is delayed.
type SlowCommits struct {
	target   string
	delay    time.Duration
	listener net.Listener
	done     chan struct{}
	all      sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// NewSlowCommits starts a proxy before the server that dsn names, which must be reached by TCP, and returns the DSN that leads through it.
func NewSlowCommits(dsn string, delay time.Duration) (*SlowCommits, string, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil || cfg.Net != "tcp" {
		return nil, "", errors.New("limit: commits can be delayed on the way to a server that is reached by TCP only")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", fmt.Errorf("limit: %w", err)
	}
	p := &SlowCommits{target: cfg.Addr, delay: delay, listener: listener, done: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	p.all.Go(p.accept)
	cfg.Addr = listener.Addr().String()
	return p, cfg.FormatDSN(), nil
}

// Close ends the proxy and all connections through it.
func (p *SlowCommits) Close() error {
	close(p.done)
	err := p.listener.Close()
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Close() // its goroutines end
	}
	p.mu.Unlock()
	p.all.Wait()
	return err
}

func (p *SlowCommits) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close() // the client sees that nobody is there
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = struct{}{}, struct{}{}
		p.mu.Unlock()
		w := &slowConn{p: p, writes: map[uint32]bool{}}
		p.all.Go(func() { w.run(client, server) })
	}
}

// slowConn is one connection through the proxy. MySQL's protocol has one command under way at a time.
type slowConn struct {
	p *SlowCommits

	mu        sync.Mutex
	inTx      bool
	hold      bool            // the next answer
	preparing bool            // the next answer names a statement …
	write     bool            // … that writes
	writes    map[uint32]bool // prepared statements that write
}

func (w *slowConn) run(client, server net.Conn) {
	defer func() {
		w.p.mu.Lock()
		delete(w.p.conns, client)
		delete(w.p.conns, server)
		w.p.mu.Unlock()
	}()
	var answers sync.WaitGroup
	answers.Go(func() {
		_ = w.answers(server, client) // either end has closed
		_ = client.Close()
	})
	_, _ = io.Copy(server, io.TeeReader(client, &packets{heard: w.command})) // likewise
	_ = server.Close()
	answers.Wait()
}

// answers hands on what the server says, late where it has to be.
func (w *slowConn) answers(server io.Reader, client io.Writer) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if n > 0 {
			w.mu.Lock()
			hold := w.hold
			w.hold = false
			if w.preparing {
				w.preparing = false
				if n >= 9 && buf[4] == 0 {
					w.writes[binary.LittleEndian.Uint32(buf[5:])] = w.write
				}
			}
			w.mu.Unlock()
			if hold {
				t := time.NewTimer(w.p.delay)
				select {
				case <-t.C:
				case <-w.p.done:
					t.Stop()
				}
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// Commands of MySQL's protocol.
const (
	comQuery   = 0x03
	comPrepare = 0x16
	comExecute = 0x17
)

// command hears the first bytes and the last ones of a command, before the server does.
func (w *slowConn) command(first, last []byte) {
	if len(first) == 0 {
		return
	}
	text := bytes.ToUpper(bytes.TrimLeft(first[1:], " \t\r\n"))
	w.mu.Lock()
	defer w.mu.Unlock()
	switch first[0] {
	case comQuery:
		switch {
		case bytes.HasSuffix(bytes.TrimRight(bytes.ToUpper(last), " ;\t\r\n"), []byte("COMMIT")):
			w.hold, w.inTx = true, false
		case bytes.HasPrefix(text, []byte("ROLLBACK")):
			w.inTx = false
		case bytes.HasPrefix(text, []byte("START TRANSACTION")), bytes.HasPrefix(text, []byte("BEGIN")):
			w.inTx = true
		default:
			w.hold = !w.inTx && isWrite(text)
		}
	case comPrepare:
		w.preparing, w.write = true, isWrite(text)
	case comExecute:
		w.hold = !w.inTx && len(first) >= 5 && w.writes[binary.LittleEndian.Uint32(first[1:])]
	}
}

func isWrite(text []byte) bool {
	for _, word := range []string{"INSERT", "UPDATE", "DELETE", "REPLACE"} {
		if bytes.HasPrefix(text, []byte(word)) {
			return true
		}
	}
	return false
}

// packets splits what a client sends: length:3 (little endian) sequence:1 payload. A packet of sequence 0 begins a command.
type packets struct {
	heard func(first, last []byte)

	header  []byte
	rest    int // of the payload
	command bool
	first   []byte
	last    []byte
}

// How much of a command is looked at.
const (
	firstBytes = 64
	lastBytes  = 16
)

// Write implements io.Writer and never fails.
func (p *packets) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 || p.rest == 0 && len(p.header) == 4 {
		if len(p.header) < 4 {
			take := min(4-len(p.header), len(b))
			p.header = append(p.header, b[:take]...)
			b = b[take:]
			if len(p.header) < 4 {
				break
			}
			p.rest = int(p.header[0]) | int(p.header[1])<<8 | int(p.header[2])<<16
			p.command = p.header[3] == 0
			p.first, p.last = p.first[:0], p.last[:0]
		}
		take := min(p.rest, len(b))
		part := b[:take]
		b, p.rest = b[take:], p.rest-take
		p.first = append(p.first, part[:min(len(part), firstBytes-len(p.first))]...)
		p.last = append(p.last, part[max(0, len(part)-lastBytes):]...)
		p.last = p.last[max(0, len(p.last)-lastBytes):]
		if p.rest > 0 {
			break
		}
		if p.command {
			p.heard(p.first, p.last)
		}
		p.header = p.header[:0]
	}
	return n, nil
}
