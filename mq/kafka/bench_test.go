package kafka_test

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/IBM/sarama"
	"github.com/google/uuid"

	"github.com/gatepost/gatepost/mq"
	"github.com/gatepost/gatepost/mq/kafka"
)

// BenchmarkProduce compares the Producer with sarama's AsyncProducer alone, 200 bytes of content in 4 partitions, at most 20,000 in flight.
// It uses the Kafka of GATEPOST_TEST_KAFKA, or one in this process.
func BenchmarkProduce(b *testing.B) {
	var cfg kafka.Config
	if brokers := os.Getenv("GATEPOST_TEST_KAFKA"); brokers != "" {
		cfg = kafka.Default()
		cfg.Brokers = strings.Split(brokers, ",")
	} else {
		_, cfg = startKafka(b)
		cfg.Partitions = 4
	}
	content := make([]byte, 200)
	const window = 20000
	b.Run("producer", func(b *testing.B) {
		topic := "gatepost-bench-" + uuid.NewString()
		p := startProducer(b, cfg, topic)
		slots := make(chan struct{}, window)
		var left sync.WaitGroup
		b.ReportAllocs()
		b.ResetTimer()
		for n := range b.N {
			slots <- struct{}{}
			left.Add(1)
			r := report(topic, "u"+strconv.Itoa(n%1000), n)
			r.Event.Content = content
			r.Done = func(err error) {
				if err != nil {
					b.Error(err)
				}
				<-slots
				left.Done()
			}
			p.Produce(r)
		}
		left.Wait()
	})
	b.Run("sarama", func(b *testing.B) {
		topic := "gatepost-bench-" + uuid.NewString()
		startProducer(b, cfg, topic) // makes it
		p, err := sarama.NewAsyncProducer(cfg.Brokers, cfg.Sarama())
		if err != nil {
			b.Fatal(err)
		}
		slots := make(chan struct{}, window)
		var outcomes sync.WaitGroup
		outcomes.Go(func() {
			for range p.Successes() {
				<-slots
			}
		})
		outcomes.Go(func() {
			for err := range p.Errors() {
				b.Error(err)
				<-slots
			}
		})
		b.ReportAllocs()
		b.ResetTimer()
		for n := range b.N {
			slots <- struct{}{}
			r := report(topic, "u"+strconv.Itoa(n%1000), n)
			e := &r.Event
			p.Input() <- &sarama.ProducerMessage{
				Topic: topic, Key: sarama.StringEncoder(e.Key()), Value: sarama.ByteEncoder(content), Headers: benchHeaders(e),
			}
		}
		p.AsyncClose()
		outcomes.Wait()
	})
}

// benchHeaders are as many as the Producer writes.
func benchHeaders(e *mq.Event) []sarama.RecordHeader {
	h := func(key, value string) sarama.RecordHeader {
		return sarama.RecordHeader{Key: []byte(key), Value: []byte(value)}
	}
	return []sarama.RecordHeader{
		h("ce_specversion", "1.0"), h("ce_id", e.ID), h("ce_source", e.Source), h("ce_type", e.Type), h("ce_time", e.Time.String()), h("ce_domain", e.Domain),
		h("ce_uid", e.UID), h("ce_stream", strconv.FormatUint(e.Stream, 10)), h("ce_seq", strconv.FormatUint(e.Seq, 10)),
	}
}
