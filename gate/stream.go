package gate

import "github.com/gatepost/gatepost/idl/wire"

// stream is the gate's part of an ordered stream of one connection [P-3.1]: closed at first, opened by a frame with the restart
// flag, closed by an outcome that is not final. What a client sent behind a failure must not overtake what failed, wherever it is
// on its way: each restart begins a generation, a frame belongs to the one it was read in, and a failure ends its own generation
// and those before it. The zero value is closed. It is guarded by the connection's mutex.
type stream struct {
	generation uint32 // of the frames read now
	failed     uint32 // this generation and all before it are closed
}

// admit takes a frame that was just read; false: the stream is closed.
func (s *stream) admit(restart bool) (generation uint32, ok bool) {
	if restart {
		s.generation++
	}
	return s.generation, s.open(s.generation)
}

// open reports whether frames of generation may still go on to logic.
func (s *stream) open(generation uint32) bool { return generation > s.failed }

// fail closes the stream for what was read in generation or before.
func (s *stream) fail(generation uint32) { s.failed = max(s.failed, generation) }

// close closes the stream for all that was read so far.
func (s *stream) close() { s.failed = s.generation }

// streams are the ordered streams of a connection.
type streams [2]stream

// of returns the stream in which commands of class travel, nil when they are not ordered.
func (s *streams) of(class wire.Class) *stream {
	switch class {
	case wire.ClassMessage:
		return &s[0]
	case wire.ClassUplink:
		return &s[1]
	default:
		return nil
	}
}
