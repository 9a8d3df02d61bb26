package kafka_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"go.uber.org/goleak"

	"github.com/gatepost/gatepost/mq/kafka"
)

func TestMain(m *testing.M) {
	// sarama counts with go-metrics, whose one ticker for all meters of a process never ends.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

func TestSettingsKeepThePromises(t *testing.T) {
	cfg := kafka.Default()
	cfg.Brokers = []string{"127.0.0.1:9092"}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	s := cfg.Sarama()
	if s.Producer.RequiredAcks != sarama.WaitForAll {
		t.Errorf("RequiredAcks = %v: G1 wants all in-sync replicas", s.Producer.RequiredAcks)
	}
	if !s.Producer.Idempotent || s.Net.MaxOpenRequests != 1 {
		t.Errorf("Idempotent = %v, MaxOpenRequests = %d: G3 wants true and 1", s.Producer.Idempotent, s.Net.MaxOpenRequests)
	}
	if s.Consumer.Offsets.Initial != sarama.OffsetOldest {
		t.Errorf("Offsets.Initial = %d: a new group would miss what came before it", s.Consumer.Offsets.Initial)
	}
	if s.Metadata.AllowAutoTopicCreation {
		t.Error("asking for a topic would make it")
	}
}

func TestValidateTellsAllFaults(t *testing.T) {
	err := kafka.Config{Brokers: []string{"nowhere", ":9092"}}.Validate()
	for _, want := range []string{`"nowhere"`, `":9092"`, "timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v, lacks %s", err, want)
		}
	}
	if err := kafka.Default().Validate(); err == nil || !strings.Contains(err.Error(), "brokers") {
		t.Errorf("Validate() without brokers = %v", err)
	}
}

func TestWarning(t *testing.T) {
	tests := []struct {
		promise kafka.Promise
		want    string
	}{
		{kafka.Promise{Brokers: 3, ReplicationFactor: 3, MinInsync: 2}, ""},
		{kafka.Promise{Brokers: 5, ReplicationFactor: 4, MinInsync: 3}, ""},
		{kafka.Promise{Brokers: 1, ReplicationFactor: 1, MinInsync: 1}, "lost with the one broker"},
		{kafka.Promise{Brokers: 3, ReplicationFactor: 3, MinInsync: 1}, "lost with the one broker"},
		{kafka.Promise{Brokers: 3, ReplicationFactor: 2, MinInsync: 2}, "producers stop"},
		{kafka.Promise{Brokers: 2, ReplicationFactor: 3, MinInsync: 2}, "cannot be made"},
	}
	for _, test := range tests {
		got := test.promise.Warning()
		if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%+v: Warning() = %q, want %q", test.promise, got, test.want)
		}
	}
}

func TestCheckNobodyListens(t *testing.T) {
	l := listen(t)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := kafka.Default()
	cfg.Brokers = []string{l.Addr().String()}
	if _, err := kafka.Check(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("Check() = %v, want an error that names the address", err)
	}
}

// A broker that accepts and never answers costs no more time than ctx has.
func TestCheckEndsWithContext(t *testing.T) {
	l := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	accepted := make(chan net.Conn, 16)
	go func() {
		defer close(accepted)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- nc
			cancel()
		}
	}()
	cfg := kafka.Default()
	cfg.Brokers = []string{l.Addr().String()}
	if _, err := kafka.Check(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("Check() = %v, want context.Canceled", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	for nc := range accepted {
		_ = nc.Close()
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
