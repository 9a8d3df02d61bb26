package wire

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/klauspost/compress/flate"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
)

// BenchmarkDeflate compares the ways to compress a small body; what was chosen stands at appendDeflate.
func BenchmarkDeflate(b *testing.B) {
	const each = 300
	space := make([]byte, 4096)
	kinds := []string{"position", "order", "chat"}
	var samples [][]byte
	for i := range each {
		samples = append(samples, samplePosition(i), sampleOrder(i), sampleChat(i))
	}
	run := func(name string, deflate func(w *counter, plain []byte) error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			w := new(counter)
			for i := 0; b.Loop(); i++ {
				if err := deflate(w, samples[i%len(samples)]); err != nil {
					b.Fatal(err)
				}
			}
			sizes := make([]counter, len(kinds))
			for i, s := range samples {
				if err := deflate(&sizes[i%len(kinds)], s); err != nil {
					b.Fatal(err)
				}
			}
			for i, kind := range kinds {
				b.ReportMetric(float64(sizes[i])/each, kind+"_B")
			}
		})
	}
	run("plain", func(w *counter, plain []byte) error { _, err := w.Write(plain); return err })
	run("short", func(w *counter, plain []byte) error {
		out, ok := dictionaries[1].appendShort(space[:0], plain, len(space))
		if !ok {
			return errNoGain
		}
		_, err := w.Write(out)
		return err
	})
	run("stateless", func(w *counter, plain []byte) error { return flate.StatelessDeflate(w, plain, true, dictionary1) })
	run("stateless without dictionary", func(w *counter, plain []byte) error { return flate.StatelessDeflate(w, plain, true, nil) })
	for _, level := range []int{1, 5, 7, 9} {
		writer, err := flate.NewWriterDict(io.Discard, level, dictionary1)
		if err != nil {
			b.Fatal(err)
		}
		run(fmt.Sprintf("writer level %d", level), func(w *counter, plain []byte) error {
			writer.Reset(w)
			if _, err := writer.Write(plain); err != nil {
				return err
			}
			return writer.Close()
		})
	}
}

type counter int

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

func BenchmarkInflate(b *testing.B) {
	packed, ok := dictionaries[1].appendDeflate(nil, sampleOrder(1))
	if !ok {
		b.Fatal("does not shrink")
	}
	b.ReportAllocs()
	for b.Loop() {
		plain, err := dictionaries[1].inflate(packed, limits.BodyToGateBytes)
		if err != nil {
			b.Fatal(err)
		}
		plain.Release()
	}
}

// BenchmarkFrame makes one frame, reads it and opens it.
func BenchmarkFrame(b *testing.B) {
	key := mustKey(b, 1)
	for _, c := range []struct {
		name  string
		key   *PrivateKey
		offer clientpb.HelloOffer
	}{{"clear", nil, clientpb.HelloOffer{}}, {"sealed", &key, clientpb.HelloOffer{}}, {"sealed and compressed", &key, fullOffer}} {
		b.Run(c.name, func(b *testing.B) {
			client, gate := connect(b, c.key, c.offer)
			body, dst, r := sampleOrder(1), make([]byte, 0, 1024), bytes.NewReader(nil)
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				dst = client.seal.AppendFrame(dst[:0], Header{Cmd: 0x0101}, body)
				r.Reset(dst)
				h, in, err := ReadFrame(r, limits.BodyToGateBytes+SealOverhead)
				if err != nil {
					b.Fatal(err)
				}
				if in, err = gate.open.Open(h, in, limits.BodyToGateBytes); err != nil {
					b.Fatal(err)
				}
				in.Release()
			}
		})
	}
}

// BenchmarkAcceptHello is the gate's part of a handshake.
func BenchmarkAcceptHello(b *testing.B) {
	key := mustKey(b, 1)
	pin := key.PublicKey()
	_, hello, err := NewHello(&pin, &fullOffer)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AcceptHello(hello, []PrivateKey{key}, false, wantDeflate); err != nil {
			b.Fatal(err)
		}
	}
}
