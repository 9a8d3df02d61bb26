package appserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"

	"github.com/gatepost/gatepost/sdk/go/appserver"
)

// childGroup names the group of a consumer in a process of its own: this test program, started again.
const childGroup = "GATEPOST_TEST_CHILD_GROUP"

// childConsumes consumes until it is killed, and prints what it has handled before it says so to the consumer.
func childConsumes() int {
	c, err := appserver.NewConsumer(appserver.ConsumerConfig{
		Brokers: strings.Split(os.Getenv("GATEPOST_TEST_CHILD_BROKERS"), ","), Group: os.Getenv(childGroup), Topics: []string{os.Getenv("GATEPOST_TEST_CHILD_TOPIC")},
		Adjust: brisk, CommitEvery: 100 * time.Millisecond,
		Handler: func(_ context.Context, e *appserver.Event) error {
			_, err := fmt.Println(e.Partition, e.Offset, e.ID)
			return err
		},
	})
	if err == nil {
		err = c.Run(context.Background())
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// brisk makes a member notice soon that another has come or gone; 6 s is the least that Kafka allows for one that died.
func brisk(s *sarama.Config) {
	s.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	s.Consumer.Group.Session.Timeout = 6 * time.Second
	s.Consumer.MaxWaitTime = 50 * time.Millisecond
}

// place of an event.
type place struct {
	partition int32
	offset    int64
}

// child is a consumer in a process of its own.
type child struct {
	cmd  *exec.Cmd
	mu   sync.Mutex
	list map[place]string // ids
	read chan error       // its output has ended
}

func (l *log) startChild(t *testing.T, group string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0]), list: map[place]string{}, read: make(chan error, 1)}
	c.cmd.Env = append(os.Environ(), childGroup+"="+group, "GATEPOST_TEST_CHILD_BROKERS="+strings.Join(l.brokers, ","), "GATEPOST_TEST_CHILD_TOPIC="+l.topic)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var at place
			var id string
			if _, err := fmt.Sscan(lines.Text(), &at.partition, &at.offset, &id); err != nil {
				break // a line that was cut off by the kill
			}
			c.mu.Lock()
			c.list[at] = id
			c.mu.Unlock()
		}
		c.read <- lines.Err()
	}()
	t.Cleanup(c.kill)
	return c
}

func (c *child) kill() {
	if c.cmd.ProcessState != nil {
		return
	}
	_ = c.cmd.Process.Kill()
	<-c.read
	_ = c.cmd.Wait() // it was killed
}

func (c *child) handled() map[place]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[place]string, len(c.list))
	for at, id := range c.list {
		out[at] = id
	}
	return out
}

func TestConsumerDeath(t *testing.T) { testDeath(t, fakeLog(t, 6)) }

// testDeath: of three members one goes in peace and one is killed, while new events and repeats of old ones come. Nothing is lost, and
// nothing comes twice but what the killed one had handled and not committed.
func testDeath(t *testing.T, l *log) {
	group := "death-" + uuid.NewString()
	now := time.Now()
	var stays, leaves seen
	change := func(c *appserver.ConsumerConfig) { c.Adjust = brisk }
	l.consume(t, group, stays.handle, change)
	leave := l.consume(t, group, leaves.handle, change)
	dies := l.startChild(t, group)
	next := 0
	// more writes another 30 events, and again some that were written before.
	more := func() {
		l.produce(t, now, numbers(next, next+30)...)
		l.produce(t, now, numbers(max(0, next-60), next)...)
		next += 30
	}
	eventually(t, func() error {
		more()
		if len(stays.events()) == 0 || len(leaves.events()) == 0 || len(dies.handled()) == 0 {
			return errors.New("a member has got nothing")
		}
		return nil
	})
	leave()
	more()
	before := len(dies.handled())
	eventually(t, func() error { // the one that dies is in the middle of its work, and has committed a part of it
		more()
		done, committed := dies.handled(), l.committed(t, group)
		for at := range done {
			if len(done) > before && at.offset < committed[at.partition] {
				return nil
			}
		}
		return errors.New("the member that is to die does nothing")
	})
	dies.kill()
	committed := l.committed(t, group)
	more()

	dead := dies.handled()
	eventually(t, func() error {
		done := map[string]bool{}
		for _, id := range slices.Concat(stays.ids(), leaves.ids()) {
			done[id] = true
		}
		for _, id := range dead {
			done[id] = true
		}
		if len(done) != next {
			return fmt.Errorf("%d of %d events were handed over", len(done), next)
		}
		return nil
	})
	l.produce(t, now, numbers(0, next)...) // all of them once more, and then the last
	l.produce(t, now, numbers(next, next+l.partitions)...)
	eventually(t, func() error {
		ids := stays.ids()
		for i := range l.partitions {
			if !slices.Contains(ids, strconv.Itoa(next+i)) {
				return errors.New("the last event has not come")
			}
		}
		return nil
	})

	times := map[string]int{}
	for _, id := range slices.Concat(stays.ids(), leaves.ids()) {
		if times[id]++; times[id] > 1 {
			t.Errorf("event %s came twice to those who live", id)
		}
	}
	own := map[string]bool{}
	repeated := 0
	for at, id := range dead {
		if own[id] {
			t.Errorf("event %s came twice to the killed one", id)
		}
		own[id] = true
		switch {
		case times[id] == 0:
		case at.offset < committed[at.partition]:
			t.Errorf("event %s at %d of partition %d came again, though %d was committed", id, at.offset, at.partition, committed[at.partition])
		default:
			repeated++
		}
	}
	t.Logf("%d events: %d stayed, %d to the one that left, %d to the killed one, %d of them again", next, len(stays.events()), len(leaves.events()), len(dead), repeated)
}

// committed are the offsets of a group, 0 where there is none.
func (l *log) committed(t *testing.T, group string) map[int32]int64 {
	t.Helper()
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V2_4_0_0
	admin, err := sarama.NewClusterAdmin(l.brokers, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	var partitions []int32
	for i := range l.partitions {
		partitions = append(partitions, int32(i))
	}
	resp, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{l.topic: partitions})
	if err != nil {
		t.Fatal(err)
	}
	offsets := map[int32]int64{}
	for _, i := range partitions {
		if b := resp.GetBlock(l.topic, i); b != nil {
			offsets[i] = max(0, b.Offset)
		}
	}
	return offsets
}
