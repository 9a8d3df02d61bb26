package appserver

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

// pastConn asks the leader of a partition for its past, over a connection of its own: a consumer of sarama does not say how far it has
// come where the log holds no record to hand out, and silence may be a broker that hangs. Only the leader's answers count here.
type pastConn struct {
	*past
	broker *sarama.Broker
	cancel context.CancelFunc
}

// dial connects to the leader of the partition: first to the one that is known, later to the one that the cluster then names. The end
// of ctx closes the connection, and whoever waits for an answer gets an error.
func (p *past) dial(ctx context.Context) (*pastConn, error) {
	type found struct {
		leader *sarama.Broker
		err    error
	}
	answer, again := make(chan found, 1), p.asked
	p.asked = true
	go func() { // the look-up ends with the client, not with ctx
		var f found
		if again {
			f.err = p.client.RefreshMetadata(p.topic)
		}
		if f.err == nil {
			f.leader, f.err = p.client.Leader(p.topic, p.partition)
		}
		answer <- f
	}()
	var f found
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case f = <-answer:
	}
	if f.err != nil {
		return nil, fmt.Errorf("find the leader: %w", f.err)
	}
	ctx, cancel := context.WithCancel(ctx)
	cfg := *p.cfg
	cfg.MetricRegistry = sarama.NewConfig().MetricRegistry // a broker that is closed takes its metrics out of the registry
	cfg.Net.Proxy.Enable, cfg.Net.Proxy.Dialer = true, dialer(ctx, p.cfg)
	c := &pastConn{past: p, broker: sarama.NewBroker(f.leader.Addr()), cancel: cancel}
	if err := c.broker.Open(&cfg); err != nil {
		cancel()
		return nil, err
	}
	return c, nil
}

func (c *pastConn) close() {
	_ = c.broker.Close() // it only read, and may not be connected
	c.cancel()
}

// dialFunc is a dialer of golang.org/x/net/proxy.
type dialFunc func(network, addr string) (net.Conn, error)

func (f dialFunc) Dial(network, addr string) (net.Conn, error) { return f(network, addr) }

// dialer dials as cfg says; its connections close when ctx is done.
func dialer(ctx context.Context, cfg *sarama.Config) dialFunc {
	d := net.Dialer{Timeout: cfg.Net.DialTimeout, KeepAlive: cfg.Net.KeepAlive, LocalAddr: cfg.Net.LocalAddr}
	dial := func(network, addr string) (net.Conn, error) { return d.DialContext(ctx, network, addr) }
	if cfg.Net.Proxy.Enable {
		dial = cfg.Net.Proxy.Dialer.Dial
		if d, ok := cfg.Net.Proxy.Dialer.(interface {
			DialContext(ctx context.Context, network, addr string) (net.Conn, error)
		}); ok {
			dial = func(network, addr string) (net.Conn, error) { return d.DialContext(ctx, network, addr) }
		}
	}
	return func(network, addr string) (net.Conn, error) {
		conn, err := dial(network, addr)
		if err == nil {
			context.AfterFunc(ctx, func() { _ = conn.Close() })
		}
		return conn, err
	}
}

// offsetAt returns the first offset whose record is not older than ms, in Unix milliseconds; -1: there is none. sarama.OffsetOldest
// stands for the beginning of the log.
func (c *pastConn) offsetAt(ms int64) (int64, error) {
	req := sarama.NewOffsetRequest(c.cfg.Version)
	req.AddBlock(c.topic, c.partition, ms, 1)
	resp, err := c.broker.GetAvailableOffsets(req)
	if err != nil {
		return 0, err
	}
	block := resp.GetBlock(c.topic, c.partition)
	switch {
	case block == nil:
		return 0, sarama.ErrIncompleteResponse
	case block.Err != sarama.ErrNoError:
		return 0, block.Err
	case len(block.Offsets) != 1:
		return 0, sarama.ErrOffsetOutOfRange
	}
	return block.Offsets[0], nil
}

// pastRecord is what the window needs of a record.
type pastRecord struct {
	offset  int64
	at      time.Time
	headers []*sarama.RecordHeader
}

var errBehind = errors.New("the leader does not reach as far as the group has consumed")

// fetch returns the records from an offset below upto on, as many as one answer holds, which may be none, and the offset behind them,
// which is higher than from. What is never handed over is left out: the ends of transactions, and for who reads only what is committed
// the records of those that were aborted.
func (c *pastConn) fetch(from int64) (records []pastRecord, next int64, err error) {
	for size := c.cfg.Consumer.Fetch.Default; ; size *= 2 {
		block, err := c.ask(from, size)
		if err != nil {
			return nil, 0, err
		}
		if records, next = c.recordsOf(block, from); next > from {
			return records, next, nil
		}
		partial := block.Partial
		for _, r := range block.RecordsSet {
			partial = partial || r.RecordBatch != nil && r.RecordBatch.PartialTrailingRecord || r.MsgSet != nil && r.MsgSet.PartialTrailingMessage
		}
		if !partial {
			// The leader has all below upto, and no record at from: it was compacted away. What follows may still be there, behind batches
			// that compaction has emptied, which sarama keeps to itself.
			return nil, from + 1, nil
		}
		if size >= sarama.MaxResponseSize/2 || c.cfg.Consumer.Fetch.Max > 0 && size >= c.cfg.Consumer.Fetch.Max {
			return nil, 0, sarama.ErrMessageTooLarge
		}
	}
}

// ask sends one fetch request. An answer that proves nothing is an error: no part for this partition, a broker that holds back for a
// quota, a leader that is behind.
func (c *pastConn) ask(from int64, size int32) (*sarama.FetchResponseBlock, error) {
	req := &sarama.FetchRequest{
		Version:  5,
		MaxBytes: size, // a first batch that is larger comes whole
		// Zero bytes are enough: what the broker has at hand it sends at once. It waits only for what it must get from a remote tier.
		MinBytes:     0,
		MaxWaitTime:  int32((c.cfg.Net.ReadTimeout / 2).Milliseconds()),
		Isolation:    c.cfg.Consumer.IsolationLevel,
		SessionEpoch: -1,
	}
	switch { // the version decides what a broker may send, such as records packed with zstd
	case c.cfg.Version.IsAtLeast(sarama.V2_3_0_0):
		req.Version = 11
	case c.cfg.Version.IsAtLeast(sarama.V2_1_0_0):
		req.Version = 10
	}
	req.AddBlock(c.topic, c.partition, from, size, -1)
	resp, err := c.broker.Fetch(req)
	if err != nil {
		return nil, err
	}
	block := resp.GetBlock(c.topic, c.partition)
	switch {
	case resp.ErrorCode != 0:
		return nil, sarama.KError(resp.ErrorCode)
	case block == nil:
		return nil, sarama.ErrIncompleteResponse
	case block.Err != sarama.ErrNoError:
		return nil, block.Err
	case block.HighWaterMarkOffset < c.upto:
		return nil, fmt.Errorf("%w: %d of %d", errBehind, block.HighWaterMarkOffset, c.upto)
	case len(block.RecordsSet) == 0 && resp.ThrottleTime > 0:
		return nil, fmt.Errorf("the broker holds back for %v", resp.ThrottleTime)
	}
	return block, nil
}

// recordsOf returns the records of an answer from an offset on, and the offset behind its last whole batch; from: there is none.
func (c *pastConn) recordsOf(block *sarama.FetchResponseBlock, from int64) (records []pastRecord, next int64) {
	next = from
	aborted := slices.Clone(block.AbortedTransactions)
	slices.SortFunc(aborted, func(a, b *sarama.AbortedTransaction) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
	open := make(map[int64]bool) // producers within a transaction that they aborted later
	for _, set := range block.RecordsSet {
		if set.MsgSet != nil { // records of before 0.11 have no headers, and so no ids
			if n := len(set.MsgSet.Messages); n > 0 {
				next = max(next, set.MsgSet.Messages[n-1].Offset+1)
			}
			continue
		}
		batch := set.RecordBatch
		if batch == nil || batch.PartialTrailingRecord {
			break
		}
		next = max(next, batch.LastOffset()+1)
		for len(aborted) > 0 && aborted[0].FirstOffset <= batch.LastOffset() {
			open[aborted[0].ProducerID] = true
			aborted = aborted[1:]
		}
		if batch.Control {
			if isAbort(batch) {
				delete(open, batch.ProducerID)
			}
			continue
		}
		if batch.IsTransactional && open[batch.ProducerID] {
			continue
		}
		for _, r := range batch.Records {
			record := pastRecord{offset: batch.FirstOffset + r.OffsetDelta, at: batch.FirstTimestamp.Add(r.TimestampDelta), headers: r.Headers}
			if batch.LogAppendTime {
				record.at = batch.MaxTimestamp
			}
			if record.offset >= from {
				records = append(records, record)
			}
		}
	}
	return records, next
}

// isAbort reports whether a control batch ends a transaction that was aborted. The key is version:2 type:2, and type 0 says so.
func isAbort(batch *sarama.RecordBatch) bool {
	return len(batch.Records) > 0 && len(batch.Records[0].Key) >= 4 && binary.BigEndian.Uint16(batch.Records[0].Key[2:]) == 0
}
