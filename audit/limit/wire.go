package limit

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/wire"
)

// Wire is frames over loopback alone: sealed, written, read and opened, with nothing behind them.
type Wire struct {
	Connections int // default 64
	Size        int // bytes of content of a C2C
	Batch       int // frames of one write; default 1: each is written and read by system calls of its own. Above, reading is buffered too
}

// Frames sends frames for about took and returns how many a second were opened at the other end.
func (w Wire) Frames(ctx context.Context, took time.Duration) (perS float64, frames uint64, err error) {
	if w.Connections == 0 {
		w.Connections = 64
	}
	if w.Batch == 0 {
		w.Batch = 1
	}
	key, err := wire.GenerateKey(1)
	if err != nil {
		return 0, 0, fmt.Errorf("limit: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, fmt.Errorf("limit: %w", err)
	}
	defer listener.Close()
	var opened atomic.Uint64
	var all sync.WaitGroup
	errs := make([]error, 2*w.Connections)
	senders := make([]*sender, w.Connections)
	for i := range senders {
		var in net.Conn
		var opener wire.Opener
		if senders[i], in, opener, err = w.connect(listener, key); err != nil {
			for _, s := range senders[:i] {
				_ = s.nc.Close() // their readers end
			}
			all.Wait()
			return 0, 0, fmt.Errorf("limit: %w", err)
		}
		all.Go(func() { errs[i] = read(in, w.Batch > 1, opener, &opened) })
	}
	begin := time.Now()
	for i, s := range senders {
		all.Go(func() { errs[w.Connections+i] = s.send(ctx, begin.Add(took), w.Batch) })
	}
	ended := sleep(ctx, took)
	frames = opened.Load()
	elapsed := time.Since(begin)
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, 0, fmt.Errorf("limit: wire: %w", err)
	}
	if !ended {
		return 0, 0, ctx.Err()
	}
	return float64(frames) / elapsed.Seconds(), frames, nil
}

// sender is the writing end of one connection.
type sender struct {
	nc     net.Conn
	sealer wire.Sealer
	body   []byte
}

// connect opens a connection and makes both ends of its sealing, as a client's HELLO and a gate's answer do.
func (w Wire) connect(listener net.Listener, key wire.PrivateKey) (s *sender, in net.Conn, opener wire.Opener, err error) {
	s = &sender{}
	if s.nc, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		return nil, nil, opener, err
	}
	if in, err = listener.Accept(); err != nil {
		return nil, nil, opener, errors.Join(err, s.nc.Close())
	}
	public := key.PublicKey()
	initiator, hello, err := wire.NewHello(&public, &clientpb.HelloOffer{
		Sdk: "gatepost-limit", Compressions: []clientpb.Compression{clientpb.Compression_COMPRESSION_DEFLATE}, Dictionaries: []uint32{wire.DictionaryID},
	})
	if err == nil {
		var accept *wire.Accept
		accept, err = wire.AcceptHello(hello, []wire.PrivateKey{key}, false, func(*clientpb.HelloOffer) *clientpb.HelloSettings {
			return &clientpb.HelloSettings{Compression: clientpb.Compression_COMPRESSION_DEFLATE}
		})
		if err == nil {
			opener = accept.Opener
			_, _, s.sealer, err = initiator.Finish(accept.Answer)
		}
	}
	if err == nil {
		id := make([]byte, 16)
		_, _ = rand.Read(id) // never fails
		s.body, err = prutal.MarshalAppend(nil, &clientpb.C2C{
			ClientMsgId: id, To: &clientpb.User{Domain: domain, Uid: "limit-1"}, Stream: 1 << 60, TargetSeq: 1, Type: "text", Content: filler(w.Size),
		})
	}
	if err != nil {
		return nil, nil, opener, errors.Join(err, s.nc.Close(), in.Close())
	}
	return s, in, opener, nil
}

// send writes frames until end.
func (s *sender) send(ctx context.Context, end time.Time, batch int) error {
	var out []byte
	for seq := uint32(1); time.Now().Before(end) && ctx.Err() == nil; {
		out = out[:0]
		for range batch {
			out = s.sealer.AppendFrame(out, wire.Header{Cmd: uint16(clientpb.Cmd_CMD_C2C), Seq: seq}, s.body)
			seq++
		}
		if _, err := s.nc.Write(out); err != nil {
			return errors.Join(err, s.nc.Close())
		}
	}
	return s.nc.Close()
}

// read opens frames until the connection ends.
func read(nc net.Conn, buffered bool, opener wire.Opener, opened *atomic.Uint64) error {
	const limit = 64 << 10
	defer nc.Close()
	var in io.Reader = nc
	if buffered {
		in = bufio.NewReaderSize(nc, 16<<10)
	}
	var scratch [wire.HeaderLen]byte
	for {
		h, err := wire.ReadHeader(in, &scratch)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		body, err := wire.ReadBody(in, h, limit+wire.SealOverhead)
		if err != nil {
			return err
		}
		if body, err = opener.Open(h, body, limit); err != nil {
			return err
		}
		body.Release()
		opened.Add(1)
	}
}
