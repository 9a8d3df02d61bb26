package faults

import (
	"bufio"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a server that sends back what it gets, and its address.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c) // until either end closes
				_ = c.Close()
			}()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	return "tcp://" + l.Addr().String()
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(address, "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// passes reports whether a line goes through and comes back.
func passes(c net.Conn) error {
	if _, err := io.WriteString(c, "is anybody there\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && line != "is anybody there\n" {
		return errors.New("it came back as " + line)
	}
	return err
}

func TestNetworkIsRoughBetweenBeginAndCalm(t *testing.T) {
	n, err := NewNetwork([]string{echo(t)}, Damage{Seed: 1, Share: 1, Bytes: firstByte + 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	calm := dial(t, n.Addresses()[0])
	if err := passes(calm); err != nil {
		t.Fatalf("before Begin: %v", err)
	}
	n.Begin()
	if err := passes(calm); err == nil {
		t.Error("Begin left a connection that was there")
	}
	for range 20 { // every one of them is cut, or stalls, at its hundredth byte
		c := dial(t, n.Addresses()[0])
		if err := c.SetDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		for i := 0; ; i++ {
			if err := passes(c); err != nil {
				break
			}
			if i == 20 {
				t.Fatal("a rough connection passes everything")
			}
		}
	}
	n.Calm()
	calm = dial(t, n.Addresses()[0])
	for range 100 {
		if err := passes(calm); err != nil {
			t.Fatalf("after Calm: %v", err)
		}
	}
	f := n.Fault()
	if victim, err := f.Strike(t.Context(), rand.New(rand.NewPCG(1, 1))); err != nil || victim == "" {
		t.Errorf("cut: %q, %v", victim, err)
	}
	if err := passes(calm); err == nil {
		t.Error("the fault left a connection")
	}
}

func TestDamageFollowsFromTheSeed(t *testing.T) {
	d := Damage{Share: 0.5, Bytes: 1 << 20}
	var cutUp, cutDown, stalled, whole int
	for i := range uint64(1000) {
		e := d.effect(rand.New(rand.NewPCG(3, i)))
		if again := d.effect(rand.New(rand.NewPCG(3, i))); again != e {
			t.Fatalf("%+v, and again %+v", e, again)
		}
		at := e.CutUp + e.CutDown + e.StallDown
		switch {
		case at == 0:
			whole++
		case at < firstByte || at > d.Bytes:
			t.Fatalf("at byte %d", at)
		case e.CutUp > 0:
			cutUp++
		case e.CutDown > 0:
			cutDown++
		default:
			stalled++
		}
	}
	for name, got := range map[string]int{"cut up": cutUp, "cut down": cutDown, "stalled": stalled} {
		if got < 100 {
			t.Errorf("%s: %d of 1000", name, got)
		}
	}
	if whole < 400 || whole > 600 {
		t.Errorf("%d of 1000 are left in peace", whole)
	}
}
