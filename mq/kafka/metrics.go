package kafka

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatepost/gatepost/mq"
)

// outcome labels a record.
type outcome string

const (
	outcomeStored      outcome = "stored"
	outcomeUnavailable outcome = "unavailable"
	outcomeRefused     outcome = "refused"
	outcomeTooLarge    outcome = "too_large"
	outcomeClosed      outcome = "closed"
)

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return outcomeStored
	case errors.Is(err, mq.ErrTooLarge):
		return outcomeTooLarge
	case errors.Is(err, mq.ErrRefused):
		return outcomeRefused
	case errors.Is(err, mq.ErrClosed):
		return outcomeClosed
	}
	return outcomeUnavailable
}

type metrics struct {
	records *prometheus.CounterVec   // topic, outcome
	retries *prometheus.CounterVec   // topic, reason
	seconds *prometheus.HistogramVec // topic
	batch   prometheus.Histogram
	open    *prometheus.GaugeVec   // topic
	poison  *prometheus.CounterVec // topic
	panics  prometheus.Counter
}

func newMetrics() *metrics {
	name := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "gatepost", Subsystem: "kafka", Name: name, Help: help}
	}
	return &metrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts(name("records_total", "Records by what became of them.")), []string{"topic", "outcome"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts(name("failed_requests_total", "Produce requests that did not store their batch, by reason.")), []string{"topic", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "gatepost", Subsystem: "kafka", Name: "batch_seconds", Help: "From the first attempt of a batch to its outcome.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"topic"}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "gatepost", Subsystem: "kafka", Name: "batch_records", Help: "Records of one produce request.", Buckets: prometheus.ExponentialBuckets(1, 4, 7),
		}),
		open:   prometheus.NewGaugeVec(prometheus.GaugeOpts(name("open_breakers", "Partitions of a topic that answer unavailable at once.")), []string{"topic"}),
		poison: prometheus.NewCounterVec(prometheus.CounterOpts(name("poison_total", "Records refused for good because the brokers kept failing them without a reason, and stored others of their partition.")), []string{"topic"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts(name("panics_total", "Panics that were caught."))),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.records, m.retries, m.seconds, m.batch, m.open, m.poison, m.panics}
}
