package kafkahere_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"go.uber.org/goleak"

	"github.com/gatepost/gatepost/app/kafkahere"
	"github.com/gatepost/gatepost/idl/event"
	"github.com/gatepost/gatepost/mq"
	"github.com/gatepost/gatepost/mq/kafka"
)

// childDir names the data directory when the test binary is to be nothing but a broker; childTrims has it keep records for a millisecond.
const (
	childDir   = "GATEPOST_TEST_KAFKAHERE_DIR"
	childTrims = "GATEPOST_TEST_KAFKAHERE_TRIMS"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		cfg := kafkahere.Config{Dir: dir, Listen: "127.0.0.1:0"}
		if os.Getenv(childTrims) != "" {
			cfg.Retention, cfg.TrimEvery = time.Millisecond, 10*time.Millisecond
		}
		s, err := kafkahere.Start(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(s.Addr())
		select {} // until it is killed
	}
	// sarama counts with go-metrics, whose one ticker for all meters of a process never ends.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// startServer starts a broker in this process.
func startServer(t *testing.T, cfg kafkahere.Config) *kafkahere.Server {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	s, err := kafkahere.Start(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func configOf(address string) kafka.Config {
	cfg := kafka.Default()
	cfg.Brokers = []string{address}
	cfg.Retention = time.Hour
	cfg.ProduceTimeout = time.Second
	return cfg
}

// startChild starts a broker in a process of its own.
func startChild(t *testing.T, dir string, env ...string) (address string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childDir+"="+dir), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the broker did not say where it is: %v", err)
	}
	return strings.TrimSpace(line), kill
}

func startProducer(t *testing.T, address string, topics ...string) *kafka.Producer {
	t.Helper()
	p, err := kafka.NewProducer(configOf(address), kafka.Deps{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = p.Close(ctx) // what is left has failed: the broker may be dead
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.Ensure(ctx, topics); err != nil {
		t.Fatal(err)
	}
	return p
}

// Whatever was acknowledged, record or group offset, is there after kill -9 in the middle of the load.
func TestAcknowledgedSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	stored := map[string]bool{}
	var mu sync.Mutex
	committed := int64(-1)
	for round := range 3 {
		address, kill := startChild(t, dir)
		p := startProducer(t, address, "orders", "second")
		client, err := sarama.NewClient([]string{address}, configOf(address).Sarama())
		if err != nil {
			t.Fatal(err)
		}
		enough := make(chan struct{})
		fail := make(chan struct{})
		var once, failOnce sync.Once
		count := 0
		ctx, cancel := context.WithCancel(t.Context())
		var load sync.WaitGroup
		for worker := range 8 {
			load.Go(func() {
				done := make(chan error, 1)
				for n := 0; ctx.Err() == nil; n++ {
					id := fmt.Sprintf("%d-%d-%d", round, worker, n)
					uid := "u" + strconv.Itoa(worker)
					topic := []string{"orders", "second"}[worker%2]
					p.Produce(&mq.Record{
						Topic: topic, Event: mq.Event{ID: id, Source: event.SourceOf("demo", uid), Type: "t", Domain: "demo", UID: uid, Content: []byte(id)},
						Done: func(err error) { done <- err },
					})
					if err := <-done; err != nil {
						failOnce.Do(func() { close(fail) })
						return
					}
					mu.Lock()
					stored[id] = true
					if count++; count == 400 {
						once.Do(func() { close(enough) })
					}
					mu.Unlock()
				}
			})
		}
		coordinator := commitOffset(t, client, 0, int64(round*1000))
		committed = int64(round * 1000)
		select {
		case <-enough:
		case <-fail:
			t.Error("a record failed before the kill")
		case <-time.After(60 * time.Second):
			t.Error("the load is too slow")
		}
		kill()
		cancel()
		load.Wait()
		_ = coordinator.Close()
		_ = client.Close()
	}

	address, _ := startChild(t, dir)
	got := consumeIDs(t, address, "orders", "second")
	missing := 0
	for id := range stored {
		if !got[id] {
			missing++
		}
	}
	if missing > 0 || len(stored) < 1200 {
		t.Errorf("%d of %d acknowledged records are missing", missing, len(stored))
	}
	admin, err := sarama.NewClusterAdmin([]string{address}, configOf(address).Sarama())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	offsets, err := admin.ListConsumerGroupOffsets("billing", map[string][]int32{"orders": {0}})
	if err != nil {
		t.Fatal(err)
	}
	if block := offsets.GetBlock("orders", 0); block == nil || block.Offset != committed {
		t.Errorf("group offset %+v, want %d", block, committed)
	}
}

// commitOffset commits for a group without members.
func commitOffset(t *testing.T, client sarama.Client, partition int32, offset int64) *sarama.Broker {
	t.Helper()
	coordinator, err := client.Coordinator("billing")
	if err != nil {
		t.Fatal(err)
	}
	request := &sarama.OffsetCommitRequest{Version: 2, ConsumerGroup: "billing", ConsumerGroupGeneration: -1, RetentionTime: -1}
	request.AddBlock("orders", partition, offset, 0, "")
	response, err := coordinator.CommitOffset(request)
	if err != nil {
		t.Fatal(err)
	}
	for _, partitions := range response.Errors {
		for _, code := range partitions {
			if code != sarama.ErrNoError {
				t.Fatal(code)
			}
		}
	}
	return coordinator
}

// consumeIDs returns the ids of all records of topics.
func consumeIDs(t *testing.T, address string, topics ...string) map[string]bool {
	t.Helper()
	client, err := sarama.NewClient([]string{address}, configOf(address).Sarama())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = consumer.Close() }()
	ids := map[string]bool{}
	for _, topic := range topics {
		for partition := range int32(4) {
			first, end := offsets(t, client, topic, partition)
			if first == end {
				continue
			}
			pc, err := consumer.ConsumePartition(topic, partition, first)
			if err != nil {
				t.Fatal(err)
			}
			deadline := time.After(20 * time.Second)
			for last := first - 1; last < end-1; {
				select {
				case m := <-pc.Messages():
					ids[string(m.Value)] = true
					last = m.Offset
				case <-deadline:
					t.Fatalf("%s/%d ends at %d, only %d came", topic, partition, end, last)
				}
			}
			_ = pc.Close()
		}
	}
	return ids
}

func offsets(t *testing.T, client sarama.Client, topic string, partition int32) (first, end int64) {
	t.Helper()
	first, err := client.GetOffset(topic, partition, sarama.OffsetOldest)
	if err != nil {
		t.Fatal(err)
	}
	end, err = client.GetOffset(topic, partition, sarama.OffsetNewest)
	if err != nil {
		t.Fatal(err)
	}
	return first, end
}

// A broker that is killed after a trim comes back with the right end and the last record, and goes on behind it.
func TestKillAfterTrim(t *testing.T) {
	dir := t.TempDir()
	address, kill := startChild(t, dir, childTrims+"=1")
	write := func(address string, from, to int) {
		t.Helper()
		p := startProducer(t, address, "orders")
		done := make(chan error, 1)
		for n := from; n < to; n++ {
			p.Produce(&mq.Record{Topic: "orders", Event: mq.Event{ID: strconv.Itoa(n), Type: "t", Domain: "demo", UID: "anna", Content: []byte(strconv.Itoa(n))}, Done: func(err error) { done <- err }})
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	sum := func(address string) (left, ends int64) {
		t.Helper()
		client, err := sarama.NewClient([]string{address}, configOf(address).Sarama())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Close() }()
		for partition := range int32(4) {
			first, end := offsets(t, client, "orders", partition)
			left += end - first
			ends += end
		}
		return left, ends
	}
	write(address, 0, 100)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if left, _ := sum(address); left == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is trimmed")
		}
	}
	kill()
	address, _ = startChild(t, dir)
	if _, ends := sum(address); ends != 100 {
		t.Errorf("the ends are %d, want 100", ends)
	}
	write(address, 100, 110)
	ids := consumeIDs(t, address, "orders")
	for n := 99; n < 110; n++ {
		if !ids[strconv.Itoa(n)] {
			t.Errorf("record %d is missing", n)
		}
	}
	if _, ends := sum(address); ends != 110 {
		t.Errorf("the ends are %d, want 110", ends)
	}
}

// What would empty a partition leaves its last record, and the end offset is right after a restart.
func TestTheEndIsKept(t *testing.T) {
	t.Run("trim", func(t *testing.T) {
		keepsTheEnd(t, func(s *kafkahere.Server) error { return s.Trim(time.Now().Add(time.Hour)) })
	})
	remove := func(s *kafkahere.Server, to func(partition int32, client sarama.Client) int64) error {
		client, err := sarama.NewClient([]string{s.Addr()}, configOf(s.Addr()).Sarama())
		if err != nil {
			return err
		}
		admin, err := sarama.NewClusterAdminFromClient(client)
		if err != nil {
			return err
		}
		defer func() { _ = admin.Close() }()
		upTo := map[int32]int64{}
		for partition := range int32(4) {
			upTo[partition] = to(partition, client)
		}
		return admin.DeleteRecords("orders", upTo)
	}
	t.Run("a client deletes up to the end", func(t *testing.T) {
		keepsTheEnd(t, func(s *kafkahere.Server) error {
			return remove(s, func(partition int32, client sarama.Client) int64 {
				_, end := offsets(t, client, "orders", partition)
				return end
			})
		})
	})
	t.Run("a client deletes all", func(t *testing.T) {
		keepsTheEnd(t, func(s *kafkahere.Server) error {
			return remove(s, func(int32, sarama.Client) int64 { return -1 })
		})
	})
}

func keepsTheEnd(t *testing.T, remove func(*kafkahere.Server) error) {
	dir := t.TempDir()
	s := startServer(t, kafkahere.Config{Dir: dir})
	p := startProducer(t, s.Addr(), "orders")
	done := make(chan error, 100)
	for n := range 100 {
		p.Produce(&mq.Record{Topic: "orders", Event: mq.Event{ID: strconv.Itoa(n), Type: "t", Domain: "demo", UID: "anna", Content: []byte(strconv.Itoa(n))}, Done: func(err error) { done <- err }})
	}
	for range 100 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Trim(time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := len(consumeIDs(t, s.Addr(), "orders")); got != 100 {
		t.Fatalf("%d records are left after a trim of what is older than an hour", got)
	}
	if err := remove(s); err != nil {
		t.Fatal(err)
	}
	checkEnd := func(when, address string) {
		t.Helper()
		ids := consumeIDs(t, address, "orders")
		if !ids["99"] || len(ids) != 1 {
			t.Errorf("%s: left are %v, want only the last record", when, ids)
		}
		client, err := sarama.NewClient([]string{address}, configOf(address).Sarama())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Close() }()
		var sum int64
		for partition := range int32(4) {
			_, end := offsets(t, client, "orders", partition)
			sum += end
		}
		if sum != 100 {
			t.Errorf("%s: the ends are %d, want 100", when, sum)
		}
	}
	checkEnd("trimmed", s.Addr())
	s.Close()
	s = startServer(t, kafkahere.Config{Dir: dir})
	checkEnd("restarted", s.Addr())
}

// Records leave by the retention of the server, and not by what the topic was made with.
func TestTrimmerRuns(t *testing.T) {
	s := startServer(t, kafkahere.Config{Dir: t.TempDir(), Retention: time.Millisecond, TrimEvery: 10 * time.Millisecond})
	p := startProducer(t, s.Addr(), "orders")
	done := make(chan error, 50)
	for n := range 50 {
		p.Produce(&mq.Record{Topic: "orders", Event: mq.Event{ID: strconv.Itoa(n), Type: "t", Domain: "demo", UID: "anna", Content: []byte(strconv.Itoa(n))}, Done: func(err error) { done <- err }})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	client, err := sarama.NewClient([]string{s.Addr()}, configOf(s.Addr()).Sarama())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var left int64
		for partition := range int32(4) {
			first, end := offsets(t, client, "orders", partition)
			left += end - first
		}
		if left == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is trimmed")
		}
	}
	states, err := kafka.ListTopics(t.Context(), configOf(s.Addr()), []string{"orders", "none"})
	if err != nil {
		t.Fatal(err)
	}
	if !states[0].Exists || states[0].Partitions != 4 || states[0].Retention == time.Hour || states[1].Exists {
		t.Errorf("topics %+v", states)
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, err = kafkahere.Start(kafkahere.Config{Dir: t.TempDir(), Listen: l.Addr().String()}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "kafka.listen") {
		t.Errorf("Start() = %v", err)
	}
}

func TestAskingMakesNoTopic(t *testing.T) {
	s := startServer(t, kafkahere.Config{Dir: t.TempDir(), Listen: "0.0.0.0:0", Advertise: "127.0.0.1"})
	settings := configOf(s.Addr()).Sarama()
	settings.Metadata.AllowAutoTopicCreation = true
	settings.Metadata.Retry.Max = 1
	client, err := sarama.NewClient([]string{s.Addr()}, settings)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if _, err := client.Partitions("nobody-made-me"); err == nil {
		t.Error("a topic was made by asking")
	}
}

func TestAdvertisedAddressIsTold(t *testing.T) {
	s := startServer(t, kafkahere.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Advertise: "kafka.example:7140"})
	if s.Addr() != "kafka.example:7140" || !strings.HasPrefix(s.LocalAddr(), "127.0.0.1:") {
		t.Errorf("Addr() = %s, LocalAddr() = %s", s.Addr(), s.LocalAddr())
	}
	client, err := sarama.NewClient([]string{s.LocalAddr()}, configOf(s.LocalAddr()).Sarama())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if brokers := client.Brokers(); len(brokers) != 1 || brokers[0].Addr() != "kafka.example:7140" {
		t.Errorf("clients are told %v", brokers)
	}
	if err := (kafkahere.Config{Listen: "x", Advertise: ":1", Retention: -1}).Validate(); err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("Validate() = %v", err)
	}
}

func TestAddressesToListenAndToTell(t *testing.T) {
	for _, c := range []struct{ listen, advertise, fault string }{
		{"127.0.0.1:7140", "", ""},
		{"0.0.0.0:7140", "", "kafka.advertise"},
		{":7140", "", "kafka.advertise"},
		{"[::]:7140", "", "kafka.advertise"},
		{":7140", "kafka.example", ""},
		{":7140", "kafka.example:9092", ""},
		{":7140", "2001:db8::1", ""},
		{":7140", "[2001:db8::1]:9092", ""},
		{":7140", "0.0.0.0", "kafka.advertise"},
		{":7140", "kafka.example:0", "kafka.advertise"},
		{":7140", "kafka.example:port", "kafka.advertise"},
		{"7140", "", "kafka.listen"},
	} {
		err := kafkahere.ValidAddresses(c.listen, c.advertise)
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("listen %q, advertise %q: %v", c.listen, c.advertise, err)
		}
	}
	s := startServer(t, kafkahere.Config{Dir: t.TempDir(), Listen: "0.0.0.0:0", Advertise: "kafka.example"})
	_, port, err := net.SplitHostPort(s.LocalAddr())
	if err != nil || s.Addr() != "kafka.example:"+port {
		t.Errorf("Addr() = %s, LocalAddr() = %s, %v", s.Addr(), s.LocalAddr(), err)
	}
}
