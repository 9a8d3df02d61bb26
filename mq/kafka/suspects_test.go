package kafka

import (
	"strconv"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/gatepost/gatepost/mq"
)

func TestSuspectIsRefusedByTheRuleOnly(t *testing.T) {
	const code = sarama.ErrUnknown
	id := recordID{"s", "1"}
	now := time.Unix(1700000000, 0)
	s := suspects{rule: rule{failures: 3, span: 10 * time.Second}}
	other := []*item{{record: &mq.Record{}}}
	for i, step := range []struct {
		after  time.Duration
		code   sarama.KError
		stored bool // something, before it
		want   bool
	}{
		{0, code, true, false},
		{time.Second, code, true, false},
		{time.Second, code, true, false},                               // the third, and not yet for long enough
		{time.Second, sarama.ErrGroupAuthorizationFailed, true, false}, // another error: anew
		{time.Second, code, true, false},                               // and again
		{20 * time.Second, code, false, false},                         // nothing is stored: does not count
		{20 * time.Second, code, false, false},
		{20 * time.Second, code, true, false},
		{time.Second, code, false, false}, // enough, but an outage
		{time.Second, code, true, true},
		{time.Second, code, true, false}, // it was forgotten
	} {
		if step.stored {
			s.decided(other, true)
		}
		now = now.Add(step.after)
		if got := s.failed(id, step.code, now); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
	s.decided([]*item{{record: &mq.Record{Event: mq.Event{Source: "s", ID: "1"}}}, {}}, true)
	if len(s.known) != 0 {
		t.Errorf("a stored record is still under suspicion: %v", s.known)
	}
}

func TestSuspectsAreBounded(t *testing.T) {
	now := time.Unix(1700000000, 0)
	s := suspects{rule: refusals}
	for n := range 5 * maxSuspects {
		s.failed(recordID{"s", strconv.Itoa(n)}, sarama.ErrUnknown, now.Add(time.Duration(n)))
	}
	if len(s.known) != maxSuspects {
		t.Errorf("%d are remembered, want %d", len(s.known), maxSuspects)
	}
	for n := 4 * maxSuspects; n < 5*maxSuspects; n++ {
		if s.known[recordID{"s", strconv.Itoa(n)}] == nil {
			t.Errorf("%d is forgotten, though it is among the last", n)
		}
	}
}
