package gate

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// socketPair is a connection over loopback, both ends.
func socketPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if far, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if near, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

func TestReadAhead(t *testing.T) {
	near, far := socketPair(t)
	var r readAhead
	r.start(near)
	if r.raw == nil {
		t.Fatal("a TCP connection is not read ahead")
	}
	sent := randomText(3*aheadBytes + 100)
	go func() {
		far.Write(sent)
		far.(*net.TCPConn).CloseWrite()
	}()
	var got []byte
	for _, n := range []int{1, 16, 100, aheadBytes, 2 * aheadBytes} { // small reads, and large ones that need no buffer
		p := make([]byte, n)
		m, err := io.ReadAtLeast(&r, p, 1)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p[:m]...)
		if (r.ahead != nil) != (r.buffered() > 0) {
			t.Fatalf("%d bytes are unread, a buffer is held: %t", r.buffered(), r.ahead != nil)
		}
	}
	rest, err := io.ReadAll(&r)
	if err != nil {
		t.Fatal(err)
	}
	if got = append(got, rest...); !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes read, or others, %d sent", len(got), len(sent))
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("after the end: %v", err)
	}
	if r.ahead != nil {
		t.Error("an ended connection holds a buffer")
	}
}

func TestReadAheadKeepsDeadlines(t *testing.T) {
	near, far := socketPair(t)
	var r readAhead
	r.start(near)
	near.SetReadDeadline(past)
	if _, err := r.Read(make([]byte, 16)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("behind the deadline: %v", err)
	}
	near.SetReadDeadline(time.Time{})
	waiting := make(chan error, 1)
	go func() { _, err := r.Read(make([]byte, 16)); waiting <- err }()
	near.SetReadDeadline(past)
	if err := <-waiting; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a deadline that comes while it waits: %v", err)
	}
	if r.ahead != nil {
		t.Error("it holds a buffer while nothing is unread")
	}
	near.SetReadDeadline(time.Time{})
	far.Close()
	if _, err := r.Read(make([]byte, 16)); err == nil {
		t.Error("the peer is gone, and nothing says so")
	}
}

func randomText(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + i*7%26)
	}
	return b
}
