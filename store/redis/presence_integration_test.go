//go:build integration

package redis_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/google/uuid"

	"github.com/gatepost/gatepost/store"
	"github.com/gatepost/gatepost/store/redis"
	"github.com/gatepost/gatepost/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(t testing.TB, variable, example string) goredis.UniversalClient {
	value := os.Getenv(variable)
	if value == "" {
		t.Fatalf("%s is not set: it must be the address of a Redis, such as %s", variable, example)
	}
	return open(t, strings.Split(value, ",")...)
}

func open(t testing.TB, addresses ...string) goredis.UniversalClient {
	cfg := redis.DefaultClient()
	cfg.Addresses = addresses
	c, err := redis.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// factory makes tables under a prefix of their own, whose keys it removes.
func factory(c goredis.UniversalClient) storetest.TableFactory {
	return func(t testing.TB, tombstoneTTL time.Duration) storetest.Table {
		cfg := redis.Default()
		cfg.Prefix = "test-" + uuid.NewString()
		cfg.TombstoneTTL = tombstoneTTL
		p, err := redis.New(cfg, c)
		if err != nil {
			t.Fatal(err)
		}
		empty := func(t testing.TB) {
			if err := removeAll(context.Background(), c, cfg.Prefix); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { empty(t) })
		return storetest.Table{Presence: p, Leases: p, Empty: empty}
	}
}

// removeAll removes the keys of a prefix, one by one and from every master, and checks that each had a time to live.
func removeAll(ctx context.Context, c goredis.UniversalClient, prefix string) error {
	one := func(ctx context.Context, c *goredis.Client) error {
		scan := c.Scan(ctx, 0, prefix+":*", 1000).Iterator()
		for scan.Next(ctx) {
			if ttl, err := c.PTTL(ctx, scan.Val()).Result(); err != nil || ttl == -1 {
				return fmt.Errorf("%s has no time to live (%v)", scan.Val(), err)
			}
			if err := c.Del(ctx, scan.Val()).Err(); err != nil {
				return err
			}
		}
		return scan.Err()
	}
	if cluster, ok := c.(*goredis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, one)
	}
	return one(ctx, c.(*goredis.Client))
}

func TestPresence(t *testing.T) {
	f := factory(client(t, "GATEPOST_TEST_REDIS", "127.0.0.1:6379"))
	storetest.RunPresence(t, f)
	storetest.RunLeases(t, f)
}

func TestPresenceCluster(t *testing.T) {
	f := factory(client(t, "GATEPOST_TEST_REDIS_CLUSTER", "127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003"))
	storetest.RunPresence(t, f)
	storetest.RunLeases(t, f)
}

// TestScriptsForgotten: a server that has lost its scripts is sent them again, also in a pipeline.
func TestScriptsForgotten(t *testing.T) {
	c := open(t, start(t))
	p, err := redis.New(redis.Default(), c)
	if err != nil {
		t.Fatal(err)
	}
	batch := []store.Registration{{User: store.UserKey{Domain: "d", UID: "a"}, Route: store.Route{Class: 1, Session: 5}}, {User: store.UserKey{Domain: "d", UID: "b"}, Route: store.Route{Class: 1, Session: 6}}}
	for _, want := range []store.RegisterOutcome{store.RegisterMade, store.RegisterKept} {
		if err := c.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		res, err := p.Register(t.Context(), batch)
		if err != nil || len(res) != 2 || res[0].Outcome != want || res[1].Outcome != want {
			t.Fatal(res, err)
		}
	}
}

// TestFailover: when another server takes over (another replication id), a new epoch begins, so that the gates register anew.
func TestFailover(t *testing.T) {
	c := open(t, start(t))
	var nodes []*redis.Presence // two logic nodes
	for range 2 {
		p, err := redis.New(redis.Default(), c)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, p)
	}
	beat := func(p *redis.Presence) uint64 {
		t.Helper()
		epoch, err := p.BeatGate(t.Context(), store.Gate{Epoch: 1}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return epoch
	}
	first := beat(nodes[0])
	if beat(nodes[1]) != first {
		t.Fatal("the epoch changed for nothing")
	}
	// A promotion: what was a replica takes a replication id of its own.
	for _, args := range [][]any{{"REPLICAOF", "127.0.0.1", "1"}, {"REPLICAOF", "NO", "ONE"}} {
		if err := c.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	second := first
	for ; second == first; second = beat(nodes[0]) {
		if time.Now().After(deadline) {
			t.Fatal("no new epoch after a failover")
		}
		time.Sleep(20 * time.Millisecond)
	}
	for range 100 {
		if beat(nodes[0]) != second || beat(nodes[1]) != second {
			t.Fatal("the epoch flutters")
		}
	}
}

// TestAway: a Redis that is gone or hangs is store.ErrUnavailable before long.
func TestAway(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hanging, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer hanging.Close()
	closed.Close()
	for _, l := range []net.Listener{closed, hanging} {
		p, err := redis.New(redis.Default(), open(t, l.Addr().String()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		user := store.UserKey{Domain: "d", UID: "u"}
		_, err = p.Lookup(ctx, []store.UserKey{user})
		_, err2 := p.Login(ctx, user, store.Route{Class: 1})
		_, err3 := p.Register(ctx, []store.Registration{{User: user}})
		_, err4 := p.BeatGate(ctx, store.Gate{}, time.Second)
		for i, err := range []error{err, err2, err3, err4, p.Unregister(ctx, user, 1, 1)} {
			if !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("call %d: %v", i, err)
			}
		}
		if ctx.Err() != nil {
			t.Error("only the context ended the calls")
		}
	}
}

// start starts a Redis of the test's own.
func start(t testing.TB) (address string) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is not installed: this test starts one of its own")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	l.Close()
	cmd := exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	c := goredis.NewClient(&goredis.Options{Addr: address})
	defer c.Close()
	deadline := time.Now().Add(10 * time.Second)
	for c.Ping(context.Background()).Err() != nil {
		if time.Now().After(deadline) {
			t.Fatal("redis-server does not answer")
		}
		time.Sleep(10 * time.Millisecond)
	}
	return address
}
