package logic

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/gatepost/gatepost/idl/event"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/mq"
	"github.com/gatepost/gatepost/store"
)

// c2s takes a report to a business line. It goes into the topic of its type, and the answer comes when all in-sync replicas have it
// (G1); the database carries nothing of it. The order of a user's reports is kept by the producer, which asks before each one
// whether an earlier one of its stream failed, and by the guard, which is closed before any answer that is not final (G3).
func (n *Node) c2s(_ context.Context, c *call, m *clientpb.C2S) {
	record, refusal := n.checkC2S(c.session, m)
	if refusal == nil {
		refusal = n.spend(c.session.user.Domain, rateUplinks, 1)
	}
	if refusal != nil {
		c.refuse(refusal)
		return
	}
	begun := time.Now()
	record.Closed = c.guard.isClosed
	record.Done = func(err error) {
		n.metrics.uplinkSeconds.Observe(time.Since(begun).Seconds())
		n.answerC2S(c, err)
	}
	n.uplinks.Produce(record)
}

// reservedTypes begins the types of the events that the platform makes itself: no client can forge one.
const reservedTypes = "gatepost."

var errNoTopic = status.New(status.NoTopic, "no topic takes reports of this type")

// checkC2S makes the record of m, or says why there is none.
func (n *Node) checkC2S(from session, m *clientpb.C2S) (*mq.Record, *status.Error) {
	if m.Stream == 0 || m.Seq == 0 {
		return nil, status.New(status.BadRequest, "stream and seq are above zero")
	}
	if m.Type == "" {
		return nil, status.New(status.BadRequest, "there is no type")
	}
	if strings.HasPrefix(m.Type, reservedTypes) {
		return nil, status.New(status.BadRequest, "types that begin with %s are the platform's own", reservedTypes)
	}
	d := n.domain(from.user.Domain)
	if _, refusal := checkSent(d, m.ClientMsgId, m.Type, m.Content, m.AgeMs, m.TtlMs); refusal != nil {
		return nil, refusal
	}
	if n.uplinks == nil || d == nil {
		return nil, errNoTopic
	}
	topic, ok := d.Topics.Topic(m.Type)
	if !ok {
		return nil, errNoTopic
	}
	r := &mq.Record{Topic: topic, Event: mq.Event{
		ID:     uuidText([16]byte(m.ClientMsgId)),
		Source: event.SourceOf(from.user.Domain, from.user.UID),
		Type:   m.Type,
		Time:   n.now().Add(-time.Duration(m.AgeMs) * time.Millisecond).UTC().Truncate(time.Millisecond),
		Domain: from.user.Domain, UID: from.user.UID, Device: className(from.class),
		Stream: m.Stream, Seq: m.Seq,
		Content: m.Content,
	}}
	if isTraceparent(m.Traceparent) {
		r.Event.Traceparent = m.Traceparent
	}
	return r, nil
}

// answerC2S tells the sender how his report ended.
func (n *Node) answerC2S(c *call, err error) {
	if err == nil {
		n.metrics.uplinks.Inc()
		c.finish(&clientpb.C2SAnswer{ServerTimeMs: n.serverTimeMS()}, nil)
		return
	}
	if errors.Is(err, mq.ErrClosed) {
		c.refuse(errStreamClosed)
		return
	}
	n.metrics.uplinkFailures.Inc()
	if errors.Is(err, mq.ErrRefused) {
		n.logger.Error("a report that its topic does not take was refused", slog.String("domain", c.session.user.Domain),
			slog.String("uid", c.session.user.UID), slog.Any("error", err))
		if errors.Is(err, mq.ErrTooLarge) {
			c.refuse(status.Wrap(status.TooLarge, err, "the report is too large for its topic"))
			return
		}
		c.refuse(status.Wrap(status.Unstorable, err, "its topic does not take this report"))
		return
	}
	refusal := status.Wrap(status.Unavailable, err, "the report could not be kept now")
	refusal.RetryAfterMS = uint32(min(max(mq.RetryAfter(err).Milliseconds(), 0), math.MaxUint32))
	c.refuse(refusal)
}

// uuidText is the text form of a UUID.
func uuidText(id [16]byte) string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// isTraceparent reports whether s has the shape of W3C Trace Context, version 00: it is left out of a record otherwise.
func isTraceparent(s string) bool {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return false
	}
	return isHexID(s[3:35], false) && isHexID(s[36:52], false) && isHexID(s[53:], true)
}

// isHexID reports whether s is all lower case hexadecimal digits, and not all zeros unless zero is allowed.
func isHexID(s string, zero bool) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '0':
		case c >= '1' && c <= '9', c >= 'a' && c <= 'f':
			zero = true
		default:
			return false
		}
	}
	return zero
}

// classNames are the device classes as events name them.
var classNames = map[store.DeviceClass]string{1: "android", 2: "ios", 3: "web", 4: "desktop", 5: "iot"}

// className is the name of a device class in events; of one that has none its number.
func className(c store.DeviceClass) string {
	if s, ok := classNames[c]; ok {
		return s
	}
	return strconv.Itoa(int(c))
}
