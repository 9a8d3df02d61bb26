package limit

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// packet is one packet of MySQL's protocol.
func packet(seq byte, payload string) string {
	n := len(payload)
	return string([]byte{byte(n), byte(n >> 8), byte(n >> 16), seq}) + payload
}

// However the bytes are cut, each command is heard once, with its first and its last bytes.
func TestPacketsAreFoundInPieces(t *testing.T) {
	long := "\x03INSERT " + strings.Repeat("x", 70000) + " tail of it COMMIT"
	stream := packet(1, "the answer to the handshake") + packet(0, "\x03COMMIT") + packet(0, long) + packet(0, "") + packet(0, "\x0e")
	want := []string{"\x03COMMIT|\x03COMMIT", long[:64] + "|" + long[len(long)-16:], "|", "\x0e|\x0e"}
	for _, size := range []int{1, 3, 4, 5, 63, 64, 65, 1000, len(stream)} {
		var heard []string
		p := &packets{heard: func(first, last []byte) { heard = append(heard, fmt.Sprintf("%s|%s", first, last)) }}
		for rest := stream; rest != ""; {
			n := min(size, len(rest))
			if k, err := p.Write([]byte(rest[:n])); k != n || err != nil {
				t.Fatal(k, err)
			}
			rest = rest[n:]
		}
		if !slices.Equal(heard, want) {
			t.Errorf("in pieces of %d: %.200q", size, heard)
		}
	}
}

func TestOnlyCommitsAreHeldBack(t *testing.T) {
	w := &slowConn{writes: map[uint32]bool{7: true, 8: false}}
	execute := func(id uint32) string { return "\x17" + string(binary.LittleEndian.AppendUint32(nil, id)) + "\x00rest" }
	for _, step := range []struct {
		command string
		hold    bool
	}{
		{"\x03SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", false},
		{"\x03select 1", false},
		{"\x03insert into inbox values (1)", true}, // commits by itself
		{execute(7), true},
		{execute(8), false},
		{execute(9), false}, // of an unknown statement
		{"\x03START TRANSACTION", false},
		{execute(7), false},
		{"\x03DELETE FROM inbox", false},
		{"\x03COMMIT", true},
		{execute(7), true},
		{"\x03BEGIN", false},
		{execute(7), false},
		{"\x03ROLLBACK", false},
		{execute(7), true},
		{"\x03INSERT INTO inbox VALUES (1); COMMIT;", true},
	} {
		w.hold = false
		w.command([]byte(step.command), []byte(step.command))
		if w.hold != step.hold {
			t.Errorf("%q: held back is %v", step.command, w.hold)
		}
	}
	w.command([]byte("\x16DELETE i FROM inbox"), nil)
	if !w.preparing || !w.write {
		t.Error("the statement that is being prepared writes")
	}
}
