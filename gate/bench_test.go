package gate

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/wire"
)

// BenchmarkIdleConnection reports what an idle, encrypted, logged-in connection costs: bytes of RSS, the client's end of the socket
// and its sealing state included (both ends live in this process), and of these what the Go runtime counts as heap and stack.
func BenchmarkIdleConnection(b *testing.B) {
	const n = 4000
	g := startGate(b, func(c *Config) { c.MaxHandshakes = n }, newFake(1))
	key := g.key.PublicKey()
	for range b.N {
		debug.FreeOSMemory()
		rss, heap, stack := memory(b)
		clients := make([]*client, n)
		for i := range clients {
			c := g.raw()
			c.hello(&key)
			c.call(cmdLogin, 0, loginBody(fmt.Sprint(i), uint64(i+1)))
			clients[i] = c
		}
		time.Sleep(2 * g.cfg.lively()) // then all of them wait
		for range 4 {                  // a stack shrinks by half with each collection
			debug.FreeOSMemory()
		}
		rss2, heap2, stack2 := memory(b)
		b.ReportMetric(float64(rss2-rss)/n, "rss-B/conn")
		b.ReportMetric(float64(heap2-heap)/n, "heap-B/conn")
		b.ReportMetric(float64(stack2-stack)/n, "stack-B/conn")
		for _, c := range clients {
			c.nc.Close()
		}
		eventuallyTrue(b, "gone", func() bool { return g.connections.Load() == 0 })
	}
}

func memory(b *testing.B) (rss, heap, stack int64) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("no /proc: ", err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize()), int64(m.HeapAlloc), int64(m.StackInuse)
}

// BenchmarkRequest is a pipelined message and its answer, through the lane to a node that does nothing.
func BenchmarkRequest(b *testing.B) {
	f := newFake(1)
	g := startGate(b, nil, f)
	c := g.login("u", 1)
	body := make([]byte, 200)
	c.call(cmdC2C, wire.FlagRestart, body)
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for range b.N {
			c.seq++
			c.nc.Write(c.seal.AppendFrame(nil, wire.Header{Cmd: cmdC2C, Seq: c.seq}, body))
		}
	}()
	for range b.N {
		c.recv()
	}
}

// BenchmarkDeliver is one delivery to an online client, read by it.
func BenchmarkDeliver(b *testing.B) {
	g := startGate(b, nil, newFake(1))
	c := g.login("u", 1)
	p := &gatepb.Payload{Cmd: uint32(cmdDeliver), Body: marshal(&clientpb.Deliver{Messages: []*clientpb.Message{{MsgId: 1, Content: make([]byte, 200)}}})}
	it := &gatepb.Item{Domain: "d", Uid: "u"}
	b.ReportAllocs()
	for range b.N {
		if g.deliver1(p, it) != queued {
			b.Fatal("not queued")
		}
		c.recv()
	}
}
