package gatepost

import "time"

// Stats is what a Client holds and has done since New.
type Stats struct {
	State    State
	Messages QueueStats
	Uplinks  QueueStats

	Unshown      int // messages and receipts that wait for the app, those that it refused included
	UnshownBytes int // of their content, and a little for each
	Unconfirmed  int // were shown, or are repeats, and the server has not answered their confirmation
	Held         int // messages behind a number that is missing; the server keeps them too

	Logins  uint64    // that succeeded
	RetryAt time.Time // when the next connection is tried; zero: none is waited for
}

// QueueStats is one kind of what the outbox holds.
type QueueStats struct {
	Waiting  int // without an outcome, those in flight included
	InFlight int // sent on this connection and not answered
	Bytes    int // of content of those without an outcome
	Untold   int // with an outcome that OnSent has not been told

	Resends uint64    // frames that were not the first of their message or uplink
	RetryAt time.Time // when a stream that the server refused for now goes on; zero: it is not waiting
}

// Stats tells what the Client holds now. After Close all but State is zero.
func (c *Client) Stats() Stats {
	result := make(chan Stats, 1)
	if c.post(func() { result <- c.stats(time.Now()) }) {
		select {
		case s := <-result:
			return s
		case <-c.quit:
		}
	}
	return Stats{State: Closed}
}

func (c *Client) stats(now time.Time) Stats {
	in, q := &c.inbox, &c.confirms
	s := Stats{
		State:        c.State(),
		Messages:     c.outbox.messages.stats(now),
		Uplinks:      c.outbox.uplinks.stats(now),
		Unshown:      len(in.unshown) + in.onlineWaits,
		UnshownBytes: in.unshownBytes,
		Unconfirmed:  len(q.queue) + len(q.out),
		Logins:       c.link.logins,
	}
	for _, j := range in.jumps {
		s.Held += len(j.held)
	}
	if c.link.conn == nil && c.link.dialing == nil && c.link.wanted && now.Before(c.link.retryAt) {
		s.RetryAt = c.link.retryAt
	}
	return s
}

func (o *ordered) stats(now time.Time) QueueStats {
	s := QueueStats{Waiting: len(o.entries), InFlight: o.next, Bytes: o.bytes, Untold: o.untold, Resends: o.resends}
	if !o.open && len(o.entries) > 0 && now.Before(o.resendAt) {
		s.RetryAt = o.resendAt
	}
	return s
}
