package gate

import (
	"io"
	"net"
	"syscall"

	"github.com/gatepost/gatepost/idl/wire"
)

// aheadBytes is how much is read from a socket at once: a burst of small frames comes with one system call.
const aheadBytes = 4096

// readAhead reads a socket ahead, and holds a buffer only as long as something of it is unread: an idle connection holds none, because
// the buffer is taken when the socket has become readable and not before. It is used by one goroutine at a time.
type readAhead struct {
	nc     net.Conn
	raw    syscall.RawConn       // nil: the transport has buffers of its own (TLS); it is read directly
	take   func(fd uintptr) bool // r.takeFrom, made once
	ahead  *wire.Buffer          // nil when nothing is unread
	unread []byte                // of ahead
	err    error                 // of the last take
}

// start makes r read nc, from its next byte on.
func (r *readAhead) start(nc net.Conn) {
	r.nc = nc
	if s, ok := nc.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			r.raw, r.take = raw, r.takeFrom
		}
	}
}

// buffered is how many bytes can be read without waiting.
func (r *readAhead) buffered() int { return len(r.unread) }

// waits reports whether fill would wait.
func (r *readAhead) waits() bool { return r.raw != nil && len(r.unread) == 0 }

// fill waits until something has come, and reads it.
func (r *readAhead) fill() error {
	if err := r.raw.Read(r.take); err != nil {
		return err
	}
	return r.err
}

// wait waits until fill would not wait, with little stack.
func (r *readAhead) wait() error { return r.raw.Read(hasCome) }

// Read is io.Reader's.
func (r *readAhead) Read(p []byte) (int, error) {
	if len(r.unread) == 0 {
		if r.raw == nil || len(p) >= aheadBytes {
			return r.nc.Read(p)
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.unread)
	if r.unread = r.unread[n:]; len(r.unread) == 0 {
		r.drop()
	}
	return n, nil
}

// takeFrom reads what has come; false: nothing has.
func (r *readAhead) takeFrom(fd uintptr) bool {
	b := wire.GetBuffer(aheadBytes)
	n, err := readSocket(fd, b.B)
	if n > 0 {
		r.ahead, r.unread, r.err = b, b.B[:n], nil
		return true
	}
	b.Release()
	switch err {
	case nil:
		r.err = io.EOF
	case syscall.EAGAIN:
		return false
	default:
		r.err = &net.OpError{Op: "read", Net: "tcp", Err: err}
	}
	return true
}

// hasCome reports whether a socket has something to read, or to say: the peer's end, an error.
func hasCome(fd uintptr) bool {
	var p [1]byte
	for {
		_, _, err := syscall.Recvfrom(int(fd), p[:], syscall.MSG_PEEK)
		if err != syscall.EINTR {
			return err != syscall.EAGAIN
		}
	}
}

// drop forgets what is unread.
func (r *readAhead) drop() {
	r.ahead.Release()
	r.ahead, r.unread = nil, nil
}

// readSocket reads a socket that does not block. 0, nil: the peer has closed its direction.
func readSocket(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
