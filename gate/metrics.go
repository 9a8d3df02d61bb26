package gate

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/idl/wire"
)

// metrics of one gate. Labels come from typed constants: command classes, lane kinds, status codes, outcomes.
type metrics struct {
	connections prometheus.Gauge
	sessions    prometheus.Gauge
	accepted    prometheus.Counter
	refused     *prometheus.CounterVec // reason
	handshake   prometheus.Histogram
	closes      *prometheus.CounterVec // reason
	framesIn    classCounters
	framesOut   classCounters
	bytesIn     prometheus.Counter
	bytesOut    prometheus.Counter
	answers     *prometheus.CounterVec // status, of what the gate answered by itself
	held        prometheus.Counter
	syncs       prometheus.Counter
	delivered   *prometheus.CounterVec // outcome
	laneDepth   *prometheus.GaugeVec   // lane
	batchFrames *prometheus.HistogramVec
	batchTime   *prometheus.HistogramVec
	batchFaults *prometheus.CounterVec // lane, reason
	logicNodes  *prometheus.GaugeVec   // state
	registered  *prometheus.CounterVec // outcome
	endedLost   prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	if r == nil {
		r = prometheus.NewRegistry()
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "gatepost_gate_" + name, Help: help})
		r.MustRegister(c)
		return c
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gatepost_gate_" + name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "gatepost_gate_" + name, Help: help})
		r.MustRegister(g)
		return g
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "gatepost_gate_" + name, Help: help}, labels)
		r.MustRegister(g)
		return g
	}
	histograms := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "gatepost_gate_" + name, Help: help, Buckets: buckets}, labels)
		r.MustRegister(h)
		return h
	}
	seconds := prometheus.ExponentialBuckets(0.0005, 2, 15)
	m := &metrics{
		connections: gauge("connections", "Open connections, those in their handshake included."),
		sessions:    gauge("sessions", "Connections with a session."),
		accepted:    counter("accepted_total", "Connections accepted."),
		refused:     counters("refused_total", "Connections refused before their handshake, by status.", "reason"),
		closes:      counters("closes_total", "Connections closed, by status; ok: the client left.", "reason"),
		framesIn:    byClass(counters("frames_in_total", "Frames from clients, by command class.", "class")),
		framesOut:   byClass(counters("frames_out_total", "Frames to clients, by command class.", "class")),
		bytesIn:     counter("in_bytes_total", "Bytes of frames from clients, as on the wire."),
		bytesOut:    counter("out_bytes_total", "Bytes of frames to clients, as on the wire."),
		answers:     counters("own_answers_total", "Requests that the gate answered without logic's word, by status.", "status"),
		held:        counter("held_total", "Deliveries dropped because the connection was slow or not ready; those of durable messages are followed by SYNC."),
		syncs:       counter("syncs_total", "SYNC frames queued."),
		delivered:   counters("deliveries_total", "Items of Deliver calls, by outcome.", "outcome"),
		laneDepth:   gauges("lane_frames", "Frames waiting in lanes, by kind.", "lane"),
		batchFrames: histograms("batch_frames", "Frames in a batch to logic.", prometheus.ExponentialBuckets(1, 2, 10), "lane"),
		batchTime:   histograms("batch_seconds", "Time of a call to logic.", seconds, "lane"),
		batchFaults: counters("batch_faults_total", "Batches without an answer, by what their frames were told.", "lane", "status"),
		logicNodes:  gauges("logic_nodes", "Logic nodes known, by state.", "state"),
		registered:  counters("registrations_total", "Sessions registered anew, by outcome.", "outcome"),
		endedLost:   counter("ended_lost_total", "Ended sessions that were never reported, because too many waited."),
	}
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "gatepost_gate_handshake_seconds", Help: "Accept to the answer to HELLO.", Buckets: seconds})
	r.MustRegister(h)
	m.handshake = h
	return m
}

// classCounters count frames by command class; all unknown classes share the last one.
type classCounters [wire.ClassPush + 2]prometheus.Counter

func byClass(v *prometheus.CounterVec) (cs classCounters) {
	for i, name := range [len(cs)]string{"connection", "message", "uplink", "request", "push", "unknown"} {
		cs[i] = v.WithLabelValues(name)
	}
	return cs
}

func (cs *classCounters) inc(c wire.Class) { cs[min(int(c), len(cs)-1)].Inc() }

// codeName is the label of a status; codes that this build does not know, which logic may send, share one for each range.
func codeName(c status.Code) string {
	if name := c.String(); !strings.HasPrefix(name, "status ") {
		return name
	}
	switch c.Behaviour() {
	case status.NeverRetry:
		return "other 1000"
	case status.RetryLater:
		return "other 2000"
	case status.Reconnect:
		return "other 3000"
	default:
		return "other"
	}
}
