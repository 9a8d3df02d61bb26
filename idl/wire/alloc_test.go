//go:build !race

package wire

import (
	"bytes"
	"testing"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
)

// The hot paths take no memory. The race detector makes pools forget, so it does not run here.
func TestAllocations(t *testing.T) {
	key := mustKey(t, 1)
	body := sampleOrder(1)
	for _, c := range []struct {
		name        string
		key         *PrivateKey
		offer       clientpb.HelloOffer
		write, read float64
	}{
		{"clear", nil, clientpb.HelloOffer{}, 0, 0},
		{"sealed", &key, clientpb.HelloOffer{}, 0, 0},
		{"sealed and compressed", &key, fullOffer, 1, 0}, // the deflater joins dictionary and body
	} {
		t.Run(c.name, func(t *testing.T) {
			const runs = 200
			client, gate := connect(t, c.key, c.offer)
			frames := make([]byte, 0, (runs+1)*1024)
			if n := testing.AllocsPerRun(runs, func() {
				frames = client.seal.AppendFrame(frames, Header{Cmd: 0x0101}, body)
			}); n > c.write {
				t.Errorf("AppendFrame: %v allocations", n)
			}
			r := bytes.NewReader(frames)
			if n := testing.AllocsPerRun(runs, func() {
				h, b, err := ReadFrame(r, 1<<16)
				if err != nil {
					t.Fatal(err)
				}
				if b, err = gate.open.Open(h, b, 1<<16); err != nil {
					t.Fatal(err)
				}
				b.Release()
			}); n > c.read {
				t.Errorf("ReadFrame and Open: %v allocations", n)
			}
		})
	}
}
