package audit

import (
	"context"
	"time"
)

// schedule is when one sender means to send, at a fixed rate. It belongs to its sender.
type schedule struct {
	j      *Journal
	first  int64         // time of the run, nanoseconds
	every  time.Duration // between two messages
	end    int64         // nothing is meant for this time or later; 0: for ever
	beyond context.Context
}

// schedules makes the schedules of a run, each flow's spread evenly over its senders; without a rate it makes nil. What was meant for the
// time of the traffic may be sent within beyond.
func (e *engine) schedules(beyond context.Context) func(Flow) *schedule {
	if e.cfg.Rate == 0 {
		return func(Flow) *schedule { return nil }
	}
	var senders, made [flows]int
	for _, d := range e.devices {
		if e.sends(d) {
			senders[Messages]++
		}
		if e.cfg.Topic != nil {
			senders[Uplinks]++
		}
	}
	begin := e.loadAt.Load()
	end := int64(0)
	if e.cfg.Duration > 0 {
		end = begin + int64(e.cfg.Duration)
	}
	return func(f Flow) *schedule {
		every := time.Duration(float64(senders[f]) / e.cfg.Rate * float64(time.Second))
		s := &schedule{j: e.j, every: every, first: begin + int64(every)*int64(made[f])/int64(senders[f]), end: end, beyond: beyond}
		made[f]++
		return s
	}
}

// at is the time that message n is meant for.
func (s *schedule) at(n int) int64 { return s.first + int64(n)*int64(s.every) }

// wait waits for the time of message n. due: it is to be sent, within the context that is returned; false: it is not meant for this run, or
// traffic ended before its time.
func (s *schedule) wait(traffic context.Context, n int) (_ context.Context, due bool) {
	at := s.at(n)
	if s.end != 0 && at >= s.end {
		return traffic, false
	}
	for {
		rest := time.Duration(at - s.j.sinceNS())
		if rest <= 0 {
			return s.beyond, s.beyond.Err() == nil
		}
		if !sleep(s.beyond, rest) {
			return traffic, false
		}
	}
}
