//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gatepost/gatepost/audit/platform"
	"github.com/gatepost/gatepost/idl/event"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/test/harness"
)

// record is what a consumer that is not ours has read.
type record struct {
	key     string
	value   []byte
	headers map[string]string
}

// Clients of Kafka that have nothing of ours, in Go, C and Java, each as a member of a group of its own, read what two users have
// reported: every value as it was, the key, the headers, and the order of each user.
func TestConsumersThatAreNotOurs(t *testing.T) {
	kcat, jars := foreignConsumers(t)
	const n = 25
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	every := make([]byte, 256) // every byte there is: separators, ends of lines, what is no UTF-8
	for i := range every {
		every[i] = byte(i)
	}
	users := []*harness.Person{person(t, "a"), person(t, "b")}
	want := map[string][]record{} // by uid
	for i := range n {
		for _, u := range users {
			value := append(fmt.Appendf(nil, "%s %d ", u.UID, i), every...)
			if i == 3 {
				value = nil // an empty value, not none: kcat tells that one as -1 bytes, and Java as null
			}
			s := u.Report(gatepost.Report{Type: "position", Content: value, Traceparent: trace})
			want[u.UID] = append(want[u.UID], record{value: value, headers: map[string]string{event.ID: s.ID().String()}})
		}
	}
	for _, u := range users {
		u.Login()
	}
	group := "gatepost-test-" + uuid.NewString()
	t.Run("clients", func(t *testing.T) {
		for name, read := range map[string]func(ctx context.Context, group string, each func(record) bool) error{
			"franz-go": readByFranz,
			"kcat": func(ctx context.Context, group string, each func(record) bool) error {
				return readByKcat(ctx, kcat, group, each)
			},
			"java": func(ctx context.Context, group string, each func(record) bool) error {
				return readByJava(ctx, jars, group, each)
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), 2*harness.Patience)
				defer cancel()
				got, left := map[string][]record{}, len(users)*n
				seen := map[string]bool{}
				err := read(ctx, group+"-"+name, func(r record) bool {
					uid := r.headers[event.UID]
					if id := r.headers[event.ID]; want[uid] != nil && !seen[id] {
						seen[id] = true
						got[uid] = append(got[uid], r)
						left--
					}
					return left > 0
				})
				if err != nil {
					t.Fatalf("%v; %d records are missing", err, left)
				}
				for uid, list := range want {
					checkReports(t, uid, trace, list, got[uid])
				}
			})
		}
	})

	// Another member of the group of before begins where that one has ended.
	users[0].Report(gatepost.Report{Type: "position", Content: []byte("one more")})
	ctx, cancel := withPatience()
	defer cancel()
	var first []byte
	err := readByFranz(ctx, group+"-franz-go", func(r record) bool {
		if want[r.headers[event.UID]] != nil {
			first = r.value
		}
		return first == nil
	})
	if err != nil || string(first) != "one more" {
		t.Errorf("the group goes on with %.40q: %v", first, err)
	}
}

// checkReports compares what a consumer has read of uid with what he has reported.
func checkReports(t *testing.T, uid, trace string, want, got []record) {
	t.Helper()
	var before uint64
	for i, r := range got {
		seq, err := strconv.ParseUint(r.headers[event.Seq], 10, 64)
		if err != nil || seq <= before || r.headers[event.Stream] != got[0].headers[event.Stream] {
			t.Fatalf("record %d of %s: number %d of stream %s after %d of %s: %v", i, uid, seq, r.headers[event.Stream], before, got[0].headers[event.Stream], err)
		}
		before = seq
		if !bytes.Equal(r.value, want[i].value) || r.key != event.KeyOf(platform.Domain, uid) {
			t.Fatalf("record %d of %s: key %q, value %q; want value %q", i, uid, r.key, r.value, want[i].value)
		}
		for name, value := range map[string]string{
			event.SpecVersion: event.Version, event.ID: want[i].headers[event.ID], event.Source: event.SourceOf(platform.Domain, uid), event.Type: "position",
			event.Domain: platform.Domain, event.UID: uid, event.Device: "android", event.Traceparent: trace,
		} {
			if r.headers[name] != value {
				t.Fatalf("record %d of %s: %s is %q, want %q", i, uid, name, r.headers[name], value)
			}
		}
		if at, err := time.Parse(time.RFC3339Nano, r.headers[event.Time]); err != nil || !strings.HasSuffix(r.headers[event.Time], "Z") || time.Since(at).Abs() > 5*time.Minute {
			t.Fatalf("record %d of %s: %s is %q: %v", i, uid, event.Time, r.headers[event.Time], err)
		}
	}
}

// foreignConsumers are the path of kcat and the folder of Kafka's jars.
func foreignConsumers(t *testing.T) (kcat, jars string) {
	t.Helper()
	cmd := exec.Command("../../deploy/servers/consumers.sh")
	var told strings.Builder
	cmd.Stderr = &told
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, told.String())
	}
	paths := strings.Fields(string(out))
	if len(paths) != 2 {
		t.Fatalf("consumers.sh printed %q", out)
	}
	return paths[0], paths[1]
}

// readByFranz hands records to each until that returns false, commits them and leaves the group.
func readByFranz(ctx context.Context, group string, each func(record) bool) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(p.Brokers()...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(p.Topic()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.Close()
	for more := true; more; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			h := map[string]string{}
			for _, x := range r.Headers {
				h[x.Key] = string(x.Value)
			}
			more = each(record{key: string(r.Key), value: r.Value, headers: h}) && more
		})
	}
	return client.CommitUncommittedOffsets(ctx)
}

// readByKcat does it with kcat, which prints each record as "KEYSIZE VALUESIZE KEY VALUE HEADERS".
func readByKcat(ctx context.Context, kcat, group string, each func(record) bool) error {
	return readFrom(ctx, exec.Command(kcat, "-q", "-u", "-b", strings.Join(p.Brokers(), ","), "-X", "auto.offset.reset=earliest",
		"-f", `%K %S %k %s %h\n`, "-G", group, p.Topic()), func(out *bufio.Reader) error {
		for {
			var key, value int
			if _, err := fmt.Fscanf(out, "%d %d ", &key, &value); err != nil {
				return err
			}
			b := make([]byte, key+1+value+1)
			if _, err := io.ReadFull(out, b); err != nil {
				return err
			}
			headers, err := out.ReadString('\n')
			if err != nil {
				return err
			}
			if !each(record{key: string(b[:key]), value: b[key+1 : key+1+value], headers: headersIn(strings.TrimSuffix(headers, "\n"), "=")}) {
				return nil
			}
		}
	})
}

// readByJava does it with Kafka's own console consumer.
func readByJava(ctx context.Context, jars, group string, each func(record) bool) error {
	const next, end = "<|>", "<end of record>" // in no record
	return readFrom(ctx, exec.Command("java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", jars+"/*", "org.apache.kafka.tools.consumer.ConsoleConsumer",
		"--bootstrap-server", strings.Join(p.Brokers(), ","), "--topic", p.Topic(), "--group", group, "--from-beginning", "--property", "print.headers=true",
		"--property", "print.key=true", "--property", "key.separator="+next, "--property", "line.separator="+end), func(out *bufio.Reader) error {
		var b []byte
		for {
			c, err := out.ReadByte()
			if err != nil {
				return err
			}
			if b = append(b, c); !bytes.HasSuffix(b, []byte(end)) {
				continue
			}
			parts := bytes.SplitN(bytes.TrimSuffix(b, []byte(end)), []byte(next), 3) // headers, key, value
			if len(parts) != 3 {
				return fmt.Errorf("not a record: %q", b)
			}
			if !each(record{key: string(parts[1]), value: parts[2], headers: headersIn(string(parts[0]), ":")}) {
				return nil
			}
			b = nil
		}
	})
}

// readFrom runs cmd, lets read take what it prints until it has enough, and ends it.
func readFrom(ctx context.Context, cmd *exec.Cmd, read func(*bufio.Reader) error) error {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var told bytes.Buffer
	cmd.Stderr = &told
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "KCAT_") })
	if err := cmd.Start(); err != nil {
		return err
	}
	kill := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() }) // then reading ends
	defer kill()
	err = read(bufio.NewReader(out))
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait() // ended by us
	if err != nil {
		err = errors.Join(err, fmt.Errorf("%s said: %s", cmd.Path, told.String()))
	}
	return err
}

// headersIn reads "name=value,name=value"; no header of ours has a comma.
func headersIn(text, equals string) map[string]string {
	h := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(pair, equals)
		h[name] = value
	}
	return h
}
