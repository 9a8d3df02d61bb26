package kafka

import (
	"time"

	"github.com/IBM/sarama"

	"github.com/gatepost/gatepost/mq"
)

// rule says when a record that the brokers fail alone and without a reason is refused for good. Until then it is unavailable, its sender
// tries again, and what is behind it in its stream waits: a record that can never be stored would hold up its sender for ever.
type rule struct {
	failures int           // with records of others stored in the same partition between each and the next
	span     time.Duration // at least, from the first to the last
}

// refusals is the rule. Five failures with others stored in between are no accident even where one request in four fails (one in a
// thousand), and an outage, in which nothing is stored, adds no more than one to them. The span lets a broker that restarts, or a rule of
// its that was wrong for a moment, come right.
var refusals = rule{failures: 5, span: 10 * time.Second}

// maxSuspects bounds what a lane remembers, some 300 bytes each. Of more, those that have not failed for longest begin anew.
const maxSuspects = 64

// suspects are the records of one partition that failed alone and without a reason. It belongs to the goroutine of its lane.
type suspects struct {
	rule   rule
	stored uint64 // counts batches that were stored
	known  map[recordID]*suspect
}

// recordID is what stays the same when a record comes again.
type recordID struct{ source, id string }

type suspect struct {
	code        sarama.KError
	failures    int
	stored      uint64 // suspects.stored at the last failure that counted
	first, last time.Time
}

func idOf(r *mq.Record) recordID { return recordID{r.Event.Source, r.Event.ID} }

// failed notes a failure at now, and reports whether the record is to be refused for good; then it is forgotten.
func (s *suspects) failed(id recordID, code sarama.KError, now time.Time) (final bool) {
	known := s.known[id]
	if known == nil || known.code != code {
		if known == nil && len(s.known) >= maxSuspects {
			s.forgetOldest()
		}
		if s.known == nil {
			s.known = map[recordID]*suspect{}
		}
		s.known[id] = &suspect{code: code, failures: 1, stored: s.stored, first: now, last: now}
		return false
	}
	known.last = now
	if s.stored == known.stored {
		return false // nothing is stored: it may not be the record's fault
	}
	known.stored = s.stored
	known.failures++
	if known.failures < s.rule.failures || now.Sub(known.first) < s.rule.span {
		return false
	}
	delete(s.known, id)
	return true
}

// decided forgets records that have a final outcome; of a batch that was stored it takes note.
func (s *suspects) decided(items []*item, stored bool) {
	if stored {
		s.stored++
	}
	if len(s.known) == 0 {
		return
	}
	for _, it := range items {
		if it.record != nil {
			delete(s.known, idOf(it.record))
		}
	}
}

func (s *suspects) forgetOldest() {
	var oldest recordID
	var last time.Time
	for id, known := range s.known {
		if last.IsZero() || known.last.Before(last) {
			oldest, last = id, known.last
		}
	}
	delete(s.known, oldest)
}
