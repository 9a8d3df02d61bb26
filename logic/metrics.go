package logic

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/status"
)

// laneName labels the depth of lanes.
type laneName string

const (
	laneCommit   laneName = "commit"
	laneConfirm  laneName = "confirm"
	laneDelivery laneName = "delivery"
	laneGate     laneName = "gate"
	laneCount    laneName = "count"
	laneUnroute  laneName = "unroute"
	laneKnown    laneName = "known"
	laneRepeat   laneName = "repeat"
)

// metrics of a node. Labels come from typed constants only.
type metrics struct {
	answers         *answerCounter
	commitRows      prometheus.Histogram
	commitSeconds   prometheus.Histogram
	commitFailures  prometheus.Counter
	idCollisions    prometheus.Counter
	uplinks         prometheus.Counter
	uplinkFailures  prometheus.Counter
	uplinkSeconds   prometheus.Histogram
	events          prometheus.Counter
	eventsDropped   prometheus.Counter
	confirmed       prometheus.Counter
	receipts        prometheus.Counter
	pulled          prometheus.Counter
	queued          prometheus.Counter
	held            prometheus.Counter
	unknown         prometheus.Counter
	deliverFailures prometheus.Counter
	lookupFailures  prometheus.Counter
	unrouted        prometheus.Counter
	hints           prometheus.Counter
	hintsDropped    prometheus.Counter
	kicksDropped    prometheus.Counter
	blindLogins     prometheus.Counter
	retiredFull     prometheus.Counter
	retiredIdle     prometheus.Counter
	swept           prometheus.Counter
	panics          prometheus.Counter
	hookAway        prometheus.Counter
	lanes           *prometheus.GaugeVec

	appCalls    *prometheus.CounterVec
	pushTargets *prometheus.CounterVec

	all []prometheus.Collector
}

func newMetrics(ready func() bool) *metrics {
	m := &metrics{}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "gatepost", Subsystem: "logic", Name: name, Help: help})
		m.all = append(m.all, c)
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "gatepost", Subsystem: "logic", Name: name, Help: help, Buckets: buckets})
		m.all = append(m.all, h)
		return h
	}
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "gatepost", Subsystem: "logic", Name: "answers_total", Help: "Answered frames by status."}, []string{"status"})
	m.answers = &answerCounter{vec: answers, ok: answers.WithLabelValues(status.OK.String())}
	m.lanes = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "gatepost", Subsystem: "logic", Name: "lane_items", Help: "What waits in the lanes."}, []string{"lane"})
	m.appCalls = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "gatepost", Subsystem: "logic", Name: "app_calls_total", Help: "Calls of app-servers by method and result."}, []string{"method", "result"})
	m.pushTargets = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "gatepost", Subsystem: "logic", Name: "push_targets_total", Help: "Targets of pushes by outcome."}, []string{"outcome"})
	m.all = append(m.all, answers, m.lanes, m.appCalls, m.pushTargets, prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Namespace: "gatepost", Subsystem: "logic", Name: "ready", Help: "1 while this node takes messages."},
		func() float64 {
			if ready() {
				return 1
			}
			return 0
		}))
	m.commitRows = histogram("commit_rows", "Rows of one insert.", prometheus.ExponentialBuckets(1, 2, 10))
	m.commitSeconds = histogram("commit_seconds", "Duration of one insert with its commit.", prometheus.ExponentialBuckets(0.00025, 2, 15))
	m.commitFailures = counter("commit_failures_total", "Inserts that failed for a reason that passes.")
	m.idCollisions = counter("id_collisions_total", "Rows whose message id was taken.")
	m.uplinks = counter("uplinks_total", "Reports that a topic has taken.")
	m.uplinkFailures = counter("uplink_failures_total", "Reports that a topic refused or could not take.")
	m.uplinkSeconds = histogram("uplink_seconds", "Time of one report in the producer.", prometheus.ExponentialBuckets(0.00025, 2, 15))
	m.events = counter("events_total", "Events about users that a topic has taken.")
	m.eventsDropped = counter("events_dropped_total", "Events about users that were dropped: too many, or not taken.")
	m.confirmed = counter("confirmed_ids_total", "Message ids in committed confirmations.")
	m.receipts = counter("receipts_total", "Receipts that were stored.")
	m.pulled = counter("pulled_messages_total", "Messages answered to pulls.")
	m.queued = counter("deliver_queued_total", "Items that a gate queued for a connection.")
	m.held = counter("deliver_held_total", "Items that a gate dropped for a SYNC.")
	m.unknown = counter("deliver_unknown_total", "Items that a gate knew no session for.")
	m.deliverFailures = counter("deliver_failures_total", "Deliver calls that failed.")
	m.lookupFailures = counter("lookup_failures_total", "Route look-ups that failed.")
	m.unrouted = counter("unrouted_total", "Wrong routes that were removed.")
	m.hints = counter("sync_hints_total", "Users who were owed a SYNC after a failed delivery.")
	m.hintsDropped = counter("sync_hints_dropped_total", "Hints that were given up or did not fit.")
	m.kicksDropped = counter("kicks_dropped_total", "Kicks that were given up or did not fit.")
	m.blindLogins = counter("logins_without_presence_total", "Logins while the presence table was away.")
	m.retiredFull = counter("devices_retired_full_total", "Absent device classes retired because an inbox was full.")
	m.retiredIdle = counter("devices_retired_idle_total", "Device classes retired after a long absence.")
	m.swept = counter("swept_rows_total", "Expired rows that were removed.")
	m.panics = counter("panics_total", "Panics that were recovered.")
	m.hookAway = counter("hook_unanswered_total", "Questions that the hook of a domain gave no answer to.")
	return m
}

// register registers everything or nothing.
func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for i, c := range m.all {
		if err := r.Register(c); err != nil {
			for _, done := range m.all[:i] {
				r.Unregister(done)
			}
			return errors.Join(errors.New("register metrics"), err)
		}
	}
	return nil
}

// unregister lets another node of the same process take the names.
func (m *metrics) unregister(r prometheus.Registerer) {
	if r == nil {
		return
	}
	for _, c := range m.all {
		r.Unregister(c)
	}
}

// depth counts what waits in a lane.
func (m *metrics) depth(name laneName) func(delta int) {
	g := m.lanes.WithLabelValues(string(name))
	return func(delta int) { g.Add(float64(delta)) }
}

func (m *metrics) delivered(o gatepb.DeliverOutcome) {
	switch o {
	case gatepb.DeliverOutcome_DELIVER_QUEUED:
		m.queued.Inc()
	case gatepb.DeliverOutcome_DELIVER_HELD:
		m.held.Inc()
	default:
		m.unknown.Inc()
	}
}

// answerCounter counts answers by status.
type answerCounter struct {
	vec *prometheus.CounterVec
	ok  prometheus.Counter
}

func (a *answerCounter) inc(code status.Code) {
	if code == status.OK {
		a.ok.Inc()
		return
	}
	a.vec.WithLabelValues(code.String()).Inc()
}
