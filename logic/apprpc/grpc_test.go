package apprpc_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/gatepost/gatepost/logic"
)

// stranger is an app-server that has the published .proto and grpc-go, and nothing of ours.
type stranger struct {
	t       testing.TB
	conn    *grpc.ClientConn
	service protoreflect.ServiceDescriptor
	key     string
	options []grpc.CallOption
}

func newStranger(t testing.TB, address, key string) *stranger {
	t.Helper()
	source, err := os.ReadFile("../../idl/appserver.proto")
	if err != nil {
		t.Fatal(err)
	}
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{"appserver.proto": string(source)}),
	}}
	files, err := compiler.Compile(context.Background(), "appserver.proto")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return &stranger{t: t, conn: conn, service: files[0].Services().ByName("AppServer"), key: key}
}

// call makes one call; request and answer are JSON as the .proto gives it.
func (s *stranger) call(method, request string) (map[string]any, error) {
	s.t.Helper()
	m := s.service.Methods().ByName(protoreflect.Name(method))
	in, out := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	if err := protojson.Unmarshal([]byte(request), in); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if s.key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.key)
	}
	if err := s.conn.Invoke(ctx, fmt.Sprintf("/%s/%s", s.service.FullName(), method), in, out, append(s.options, grpc.WaitForReady(true))...); err != nil {
		return nil, err
	}
	return asMap(out), nil
}

// asMap is a message as maps and slices, with enums by name.
func asMap(m protoreflect.Message) map[string]any {
	out := make(map[string]any)
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		one := func(v protoreflect.Value) any {
			switch {
			case f.Message() != nil:
				return asMap(v.Message())
			case f.Enum() != nil:
				return string(f.Enum().Values().ByNumber(v.Enum()).Name())
			default:
				return v.Interface()
			}
		}
		if f.IsList() {
			var list []any
			for i := range v.List().Len() {
				list = append(list, one(v.List().Get(i)))
			}
			out[string(f.Name())] = list
		} else {
			out[string(f.Name())] = one(v)
		}
		return true
	})
	return out
}

func (s *stranger) must(method, request string) map[string]any {
	s.t.Helper()
	res, err := s.call(method, request)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, request, err)
	}
	return res
}

func (s *stranger) refused(want codes.Code, method, request string) {
	s.t.Helper()
	res, err := s.call(method, request)
	if status.Code(err) != want {
		s.t.Errorf("%s %.200s: %v, %v; want %v", method, request, res, err, want)
	}
	if err != nil && status.Convert(err).Message() == "" {
		s.t.Errorf("%s: a refusal without a reason", method)
	}
}

func results(res map[string]any) (outcomes []string) {
	list, _ := res["results"].([]any)
	for _, x := range list {
		r := x.(map[string]any)
		o, _ := r["outcome"].(string)
		if o == "" {
			o = fmt.Sprintf("PUSH_REFUSED %v", r["status"])
		}
		if r["duplicate"] == true {
			o += " again"
		}
		outcomes = append(outcomes, o)
	}
	return outcomes
}

func wantResults(t testing.TB, res map[string]any, want ...string) {
	t.Helper()
	if got := results(res); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPushDurable(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key("d", logic.RightPush)
	s := newStranger(t, w.address, key)
	w.online("bob", 1, 5)
	push := fmt.Sprintf(`{"client_msg_id": %q, "uids": ["bob", "", "carol"], "type": "order", "content": "aGVsbG8="}`, newID(t))
	wantResults(t, s.must("Push", push), "PUSH_ACCEPTED", "PUSH_REFUSED 1000", "PUSH_ACCEPTED")
	wantResults(t, s.must("Push", push), "PUSH_ACCEPTED again", "PUSH_REFUSED 1000", "PUSH_ACCEPTED again")
	if b, c := w.rows("bob"), w.rows("carol"); b != 1 || c != 1 {
		t.Errorf("%d and %d messages in the inboxes", b, c)
	}
	eventually(t, func() bool { return len(w.gate.seen()) > 0 })
	if m := w.gate.seen()[0]; m.Kind != 2 || m.From.Domain != "d" || m.From.Uid != "" || m.Type != "order" || string(m.Content) != "hello" || m.MsgId == 0 {
		t.Errorf("delivered %+v", m)
	}
}

func TestTwoAppServersRetryTheSamePush(t *testing.T) {
	w := newWorld(t)
	var uids []string
	for i := range 50 {
		uids = append(uids, fmt.Sprintf("%q", fmt.Sprintf("u%d", i)))
	}
	push := fmt.Sprintf(`{"client_msg_id": %q, "uids": [%s]}`, newID(t), strings.Join(uids, ","))
	answers := make(chan map[string]any, 20)
	var all sync.WaitGroup
	for range 2 {
		key, _ := w.key("d", logic.RightPush)
		s := newStranger(t, w.address, key)
		for range 10 {
			all.Go(func() {
				res, err := s.call("Push", push)
				if err != nil {
					t.Error(err)
				}
				answers <- res
			})
		}
	}
	all.Wait()
	close(answers)
	ids, first := make(map[string]map[any]bool), 0
	for res := range answers {
		list, _ := res["results"].([]any)
		for _, x := range list {
			r := x.(map[string]any)
			uid := r["uid"].(string)
			if r["outcome"] != "PUSH_ACCEPTED" {
				t.Fatalf("%v", r)
			}
			if ids[uid] == nil {
				ids[uid] = make(map[any]bool)
			}
			ids[uid][r["msg_id"]] = true
			if r["duplicate"] != true {
				first++
			}
		}
	}
	if len(ids) != 50 || first != 50 {
		t.Errorf("%d users, %d first answers", len(ids), first)
	}
	for uid, of := range ids {
		if n := w.rows(uid); n != 1 || len(of) != 1 {
			t.Errorf("%s has %d messages, under %d ids", uid, n, len(of))
		}
	}
}

func TestOnlineOnlyWorksWithoutTheDatabase(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key("d", logic.RightPush)
	s := newStranger(t, w.address, key)
	push := func(more string) string {
		return fmt.Sprintf(`{"client_msg_id": %q, "uids": ["bob", "carol"], "content": "aGk="%s}`, newID(t), more)
	}
	w.online("bob", 1, 5)
	w.online("bob", 2, 6)
	wantResults(t, s.must("Push", push(`, "online_only": true`)), "PUSH_SENT", "PUSH_NOT_ONLINE")
	w.takeAway(true)
	wantResults(t, s.must("Push", push(`, "online_only": true`)), "PUSH_SENT", "PUSH_NOT_ONLINE")
	wantResults(t, s.must("Push", push("")), "PUSH_REFUSED 2000", "PUSH_REFUSED 2000")
	stranger := newStranger(t, w.address, "0011223344556677."+strings.Repeat("A", 43))
	stranger.refused(codes.Unavailable, "Push", push(`, "online_only": true`))
	forged := newStranger(t, w.address, key[:len(key)-4]+"AAAA")
	forged.refused(codes.Unauthenticated, "Push", push(`, "online_only": true`))
	w.takeAway(false)
	if n := w.rows("bob"); n != 0 {
		t.Errorf("%d messages lie in the inbox", n)
	}
	for _, m := range w.gate.seen() {
		if m.MsgId != 0 {
			t.Errorf("an online-only message has the id %d", m.MsgId)
		}
	}
	for _, c := range w.gate.calls {
		if len(c.Payloads) != 1 || c.Payloads[0].Durable || len(c.Items) != 2 {
			t.Errorf("a call with %d payloads for %d items", len(c.Payloads), len(c.Items))
		}
	}
}

func TestPresenceKickToken(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key("d", logic.AppRights()...)
	s := newStranger(t, w.address, key)
	w.online("bob", 2, 5)
	w.online("bob", 1, 6)
	got := fmt.Sprint(s.must("Presence", `{"uids": ["carol", "bob"]}`))
	want := `map[users:[map[uid:carol] map[online:[DEVICE_CLASS_ANDROID DEVICE_CLASS_IOS] uid:bob]]]`
	if got != want {
		t.Errorf("got %s", got)
	}
	if res := s.must("Kick", `{"uid": "bob", "device_class": "DEVICE_CLASS_IOS", "reason": "stolen"}`); fmt.Sprint(res) != "map[sessions:1]" {
		t.Errorf("kick: %v", res)
	}
	if k := w.gate.kicked(); len(k) != 1 || k[0].ConnId != 5 || k[0].Status != 4007 || k[0].Reason != "stolen" {
		t.Errorf("kicked %v", k)
	}
	if res := s.must("Kick", `{"uid": "bob"}`); fmt.Sprint(res) != "map[sessions:1]" {
		t.Errorf("kick of all: %v", res)
	}
	if res := s.must("Kick", `{"uid": "bob"}`); len(res) != 0 {
		t.Errorf("kick of nobody: %v", res)
	}
	if got := fmt.Sprint(s.must("Presence", `{"uids": ["bob"]}`)); got != "map[users:[map[uid:bob]]]" {
		t.Errorf("after the kick: %s", got)
	}
	res := s.must("Token", `{"uid": "bob", "ttl_ms": 60000}`)
	if token, _ := res["token"].(string); strings.Count(token, ".") != 2 {
		t.Errorf("token: %v", res)
	}
	w.presence.Clear()
	s.refused(codes.Unavailable, "Presence", `{"uids": ["bob"]}`)
	foreign, _ := w.key("e", logic.RightToken)
	newStranger(t, w.address, foreign).refused(codes.PermissionDenied, "Token", `{"uid": "bob"}`)
}

func TestKeys(t *testing.T) {
	w := newWorld(t)
	key, id := w.key("d", logic.RightPush)
	s := newStranger(t, w.address, key)
	push := fmt.Sprintf(`{"client_msg_id": %q, "uids": ["bob"]}`, newID(t))
	wantResults(t, s.must("Push", push), "PUSH_ACCEPTED")
	s.refused(codes.PermissionDenied, "Presence", `{"uids": ["bob"]}`)
	s.refused(codes.PermissionDenied, "Push", fmt.Sprintf(`{"client_msg_id": %q, "uids": ["bob"], "domain": "e"}`, newID(t)))
	for _, bad := range []string{"", "x", id + ".", strings.Replace(key, ".", "", 1), key + "A", key[:len(key)-4] + "AAAA", "nobody." + strings.Repeat("A", 43)} {
		newStranger(t, w.address, bad).refused(codes.Unauthenticated, "Push", push)
	}
	if err := w.keys.Revoke(context.Background(), id, time.Now()); err != nil {
		t.Fatal(err)
	}
	s.refused(codes.Unauthenticated, "Push", push) // at once
	w.takeAway(true)
	s.refused(codes.Unavailable, "Push", push) // and not remembered
	w.takeAway(false)
}

func TestRequestsAreChecked(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key("d", logic.AppRights()...)
	s := newStranger(t, w.address, key)
	id := newID(t)
	var many []string
	for i := range 1001 {
		many = append(many, fmt.Sprintf("\"u%d\"", i))
	}
	for _, bad := range []string{
		`{}`,
		`{"uids": ["bob"]}`,
		`{"client_msg_id": "00000000-0000-0000-0000-000000000000", "uids": ["bob"]}`,
		`{"client_msg_id": "not-a-uuid", "uids": ["bob"]}`,
		fmt.Sprintf(`{"client_msg_id": %q}`, id),
		fmt.Sprintf(`{"client_msg_id": %q, "uids": ["bob", "bob"]}`, id),
		fmt.Sprintf(`{"client_msg_id": %q, "uids": [%s]}`, id, strings.Join(many, ",")),
		fmt.Sprintf(`{"client_msg_id": %q, "uids": ["bob"], "type": "a\u0001"}`, id),
		fmt.Sprintf(`{"client_msg_id": %q, "uids": ["bob"], "type": %q}`, id, strings.Repeat("a", 65)),
		fmt.Sprintf(`{"client_msg_id": %q, "uids": ["bob"], "content": %q}`, id, strings.Repeat("AAAA", 32<<10/3+1)),
		fmt.Sprintf(`{"client_msg_id": %q, "uids": ["bob"], "ttl_ms": 604800001}`, id),
		fmt.Sprintf(`{"client_msg_id": %q, "uids": ["bob"], "ttl_ms": 1, "online_only": true}`, id),
	} {
		s.refused(codes.InvalidArgument, "Push", bad)
	}
	s.refused(codes.InvalidArgument, "Presence", `{}`)
	s.refused(codes.InvalidArgument, "Presence", `{"uids": [""]}`)
	s.refused(codes.InvalidArgument, "Kick", `{}`)
	s.refused(codes.InvalidArgument, "Kick", fmt.Sprintf(`{"uid": "bob", "reason": %q}`, strings.Repeat("a", 257)))
	s.refused(codes.InvalidArgument, "Kick", `{"uid": "bob", "device_class": 32}`)
	s.refused(codes.InvalidArgument, "Token", `{"uid": "bob", "ttl_ms": 59999}`)
	s.refused(codes.InvalidArgument, "Token", `{"uid": "bob", "ttl_ms": 2592000001}`)
	s.refused(codes.ResourceExhausted, "Push", fmt.Sprintf(`{"content": %q}`, strings.Repeat("AAAA", 300<<10)))
	wantResults(t, s.must("Push", fmt.Sprintf(`{"client_msg_id": %q, "uids": [%s]}`, id, strings.Join(many[:1000], ","))),
		slices.Repeat([]string{"PUSH_ACCEPTED"}, 1000)...)
	s.options = []grpc.CallOption{grpc.UseCompressor(gzip.Name)}
	s.refused(codes.Unimplemented, "Token", `{"uid": "bob"}`)
}

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it never came true")
		}
		time.Sleep(5 * time.Millisecond)
	}
}
