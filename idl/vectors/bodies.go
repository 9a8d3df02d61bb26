package vectors

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
)

// NewMessage returns an empty message of client.proto by its name; nil: there is none.
func NewMessage(name string) any {
	for _, m := range []any{
		&clientpb.User{}, &clientpb.Hello{}, &clientpb.HelloOffer{}, &clientpb.HelloAnswer{}, &clientpb.HelloSettings{},
		&clientpb.Refusal{}, &clientpb.Login{}, &clientpb.LoginAnswer{}, &clientpb.Logout{}, &clientpb.LogoutAnswer{},
		&clientpb.C2C{}, &clientpb.C2CAnswer{}, &clientpb.Message{}, &clientpb.Deliver{}, &clientpb.Confirm{}, &clientpb.ConfirmAnswer{},
		&clientpb.Pull{}, &clientpb.PullAnswer{}, &clientpb.Sync{}, &clientpb.Kick{}, &clientpb.CopyNumber{}, &clientpb.C2S{}, &clientpb.C2SAnswer{},
	} {
		if nameOf(m) == name {
			return m
		}
	}
	return nil
}

func nameOf(m any) string { return reflect.TypeOf(m).Elem().Name() }

// Fields shows a message as bodies.json does: the names of client.proto; bytes as hexadecimal, 64-bit numbers as decimal
// strings, enums as numbers; zero values left out.
func Fields(m any) map[string]any {
	fields := map[string]any{}
	v := reflect.ValueOf(m).Elem()
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if f := v.Field(i); !f.IsZero() && !(f.Kind() == reflect.Slice && f.Len() == 0) {
			fields[name] = show(f)
		}
	}
	return fields
}

func show(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		return Fields(v.Interface())
	case reflect.Slice:
		if b, ok := v.Interface().([]byte); ok {
			return hex.EncodeToString(b)
		}
		list := make([]any, v.Len())
		for i := range list {
			list[i] = show(v.Index(i))
		}
		return list
	case reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10)
	case reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Int32:
		return float64(v.Int()) // as JSON reads a number
	case reflect.Uint32:
		return float64(v.Uint())
	default:
		return v.Interface()
	}
}

var (
	alice = &clientpb.User{Domain: "taxi", Uid: "alice"}
	bob   = &clientpb.User{Domain: "shop", Uid: "bob-42"}

	clientMsgID  = mustHex("019aa5b1c2d07d3a8f1e0123456789ab")
	installation = mustHex("a0a1a2a3a4a5a6a7a8a9aaabacadaeaf")
)

const (
	stream = 0x8877665544332211
	msgID  = 0x0650f1e2d3c4b5a6
	now    = 1763719200000 // 2025-11-21T10:00:00Z
	week   = 7 * 24 * 3600 * 1000
)

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func aliceLogin() *clientpb.Login {
	return &clientpb.Login{Domain: alice.Domain, Uid: alice.Uid, Token: []byte("a-token"), DeviceClass: clientpb.DeviceClass_DEVICE_CLASS_ANDROID,
		Installation: installation, LoginCounter: 7}
}

func aliceToBob() *clientpb.C2C {
	return &clientpb.C2C{ClientMsgId: clientMsgID, To: bob, Stream: stream, TargetSeq: 3, Type: "text",
		Content: []byte(`{"type":"text","text":"I will be there in 5 minutes."}`), AgeMs: 1500, TtlMs: 86_400_000}
}

func bobReads() *clientpb.Message {
	return &clientpb.Message{MsgId: msgID, From: alice, FromClass: clientpb.DeviceClass_DEVICE_CLASS_ANDROID, Stream: stream, TargetSeq: 3,
		ClientMsgId: clientMsgID, Type: "text", Content: []byte(`{"type":"text","text":"I will be there in 5 minutes."}`),
		CreatedAtMs: now, ExpiresAtMs: now + 86_400_000 - 1500}
}

// aliceAsks is aliceToBob with all that a sender may ask for. The copy takes a number of the sequence towards herself.
func aliceAsks() *clientpb.C2C {
	m := aliceToBob()
	m.Receipt, m.Copy = true, &clientpb.CopyNumber{Stream: stream, TargetSeq: 2}
	return m
}

func bobIsAsked() *clientpb.Message {
	m := bobReads()
	m.Receipt = true
	return m
}

// aliceHears is the receipt of aliceAsks, after bob's web device has confirmed it.
func aliceHears() *clientpb.Message {
	return &clientpb.Message{MsgId: msgID + 2, From: bob, FromClass: clientpb.DeviceClass_DEVICE_CLASS_WEB, ClientMsgId: clientMsgID,
		CreatedAtMs: now + 2000, ExpiresAtMs: now + 2000 + week, Kind: clientpb.MessageKind_MESSAGE_KIND_RECEIPT}
}

// aliceCopies is what alice's other devices get of aliceAsks.
func aliceCopies() *clientpb.Message {
	m := bobReads()
	m.MsgId, m.TargetSeq, m.Kind, m.OriginalTo = msgID+1, 2, clientpb.MessageKind_MESSAGE_KIND_COPY, bob
	return m
}

// shopPushes comes from an app-server of bob's domain.
func shopPushes() *clientpb.Message {
	return &clientpb.Message{MsgId: msgID + 3, From: &clientpb.User{Domain: bob.Domain}, ClientMsgId: clientMsgID, Type: "order.offer",
		Content: []byte(`{"order_id":"2026112100000017"}`), CreatedAtMs: now, ExpiresAtMs: now + 30_000, Kind: clientpb.MessageKind_MESSAGE_KIND_S2C}
}

func shopPushesOnline() *clientpb.Message {
	m := shopPushes()
	m.MsgId, m.ExpiresAtMs = 0, 0
	return m
}

func aliceReports() *clientpb.C2S {
	return &clientpb.C2S{ClientMsgId: clientMsgID, Stream: stream + 1, Seq: 17, Type: "position.driver",
		Content: []byte(`{"lat":31.230416,"lng":121.473701}`), AgeMs: 250, TtlMs: 60_000,
		Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
}

func offer() *clientpb.HelloOffer {
	return &clientpb.HelloOffer{Sdk: "golden/1.0", Compressions: []clientpb.Compression{clientpb.Compression_COMPRESSION_DEFLATE}, Dictionaries: []uint32{1}}
}

func settings() *clientpb.HelloSettings {
	return &clientpb.HelloSettings{KeepaliveIntervalMs: 60_000, MaxBodyBytes: 65_536, MaxContentBytes: 32_768,
		Compression: clientpb.Compression_COMPRESSION_DEFLATE, Dictionary: 1, ServerTimeMs: now, MaxInFlight: 256}
}

func bodies() ([]Body, error) {
	second := bobReads()
	second.MsgId, second.TargetSeq, second.Content = msgID+1, 4, nil
	var all []Body
	for _, b := range []struct {
		name string
		m    any
	}{
		{"user", alice},
		{"hello in clear", &clientpb.Hello{ProtocolVersion: 1, Offer: offer()}},
		{"hello with noise", &clientpb.Hello{ProtocolVersion: 1, Security: clientpb.Security_SECURITY_NOISE_NK, KeyId: 300, Noise: []byte{1, 2, 3}}},
		{"offer", offer()},
		{"offer of nothing", &clientpb.HelloOffer{}},
		{"hello answer in clear", &clientpb.HelloAnswer{Settings: settings()}},
		{"hello answer with noise", &clientpb.HelloAnswer{Noise: []byte{4, 5, 6}}},
		{"settings", settings()},
		{"refusal", &clientpb.Refusal{Reason: "too many messages wait", RetryAfterMs: 2000}},
		{"login", aliceLogin()},
		{"login answer", &clientpb.LoginAnswer{Session: 1763719200000001, ServerTimeMs: now}},
		{"logout", &clientpb.Logout{}},
		{"logout answer", &clientpb.LogoutAnswer{}},
		{"c2c", aliceToBob()},
		{"c2c with the longest life and no content", &clientpb.C2C{ClientMsgId: clientMsgID, To: bob, Stream: stream, TargetSeq: 1}},
		{"c2c with receipt and copy", aliceAsks()},
		{"copy number", aliceAsks().Copy},
		{"c2c answer", &clientpb.C2CAnswer{MsgId: msgID, ServerTimeMs: now}},
		{"c2c answer to a duplicate", &clientpb.C2CAnswer{MsgId: msgID, Duplicate: true, ServerTimeMs: now}},
		{"message", bobReads()},
		{"unnumbered message", &clientpb.Message{MsgId: 1 << 63, From: bob, ClientMsgId: clientMsgID, CreatedAtMs: now, ExpiresAtMs: now + week, Kind: clientpb.MessageKind_MESSAGE_KIND_S2C}},
		{"message whose sender wants a receipt", bobIsAsked()},
		{"receipt", aliceHears()},
		{"copy", aliceCopies()},
		{"push of an app-server", shopPushes()},
		{"push for who is online only", shopPushesOnline()},
		{"c2s", aliceReports()},
		{"c2s with the longest life and no content", &clientpb.C2S{ClientMsgId: clientMsgID, Stream: stream + 1, Seq: 1, Type: "t"}},
		{"c2s answer", &clientpb.C2SAnswer{ServerTimeMs: now}},
		{"deliver", &clientpb.Deliver{Messages: []*clientpb.Message{bobReads(), second}}},
		{"confirm", &clientpb.Confirm{MsgIds: []uint64{msgID, msgID + 1}}},
		{"confirm of messages that want receipts", &clientpb.Confirm{ReceiptIds: []uint64{msgID}}},
		{"confirm of both", &clientpb.Confirm{MsgIds: []uint64{msgID + 1, msgID + 2}, ReceiptIds: []uint64{msgID}}},
		{"confirm answer", &clientpb.ConfirmAnswer{}},
		{"pull, first page of a login", &clientpb.Pull{Register: true}},
		{"pull, next page", &clientpb.Pull{After: msgID, Upto: msgID + 500, Limit: 500}},
		{"pull answer", &clientpb.PullAnswer{Messages: []*clientpb.Message{bobReads()}, Upto: msgID + 500, More: true, ServerTimeMs: now}},
		{"pull answer of an empty inbox", &clientpb.PullAnswer{ServerTimeMs: now}},
		{"pull answer to a class that had been retired", &clientpb.PullAnswer{ServerTimeMs: now, Retired: true}},
		{"sync", &clientpb.Sync{}},
		{"kick by a newer login", &clientpb.Kick{Status: 4000, Reason: "a newer login of this device class won", WinnerInstallation: installation, WinnerCounter: 8}},
		{"kick by the operator", &clientpb.Kick{Status: 4007, Reason: "the account is closed"}},
	} {
		bytes, err := prutal.MarshalAppend(nil, b.m)
		if err != nil {
			return nil, fmt.Errorf("body %q: %w", b.name, err)
		}
		all = append(all, Body{Name: b.name, Message: nameOf(b.m), Fields: Fields(b.m), Bytes: bytes})
	}
	return all, nil
}
