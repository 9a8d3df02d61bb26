package rpc

import (
	"bytes"
	"strings"
	"testing"

	"github.com/gatepost/gatepost/idl/gen/gatepb"
	"github.com/gatepost/gatepost/idl/gen/gatepb/gateservice"
)

// TestSized: what goes to a gate is encoded as the generated code does, into a buffer that never grows.
func TestSized(t *testing.T) {
	req := &gatepb.DeliverRequest{GateEpoch: 1<<64 - 1}
	for i := range 100 {
		req.Payloads = append(req.Payloads, &gatepb.Payload{Cmd: 1<<32 - 1, Body: bytes.Repeat([]byte{'b'}, 200*i), Durable: true})
		req.Items = append(req.Items, &gatepb.Item{Payload: uint32(i), ConnId: 1<<64 - 1, Domain: strings.Repeat("d", 64), Uid: strings.Repeat("u", 128),
			DeviceClass: 31, Session: 1<<64 - 1})
	}
	args := &gateservice.DeliverArgs{Req: req}
	want, err := args.Marshal(nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	allocs := testing.AllocsPerRun(10, func() { got, err = deliverArgs{args}.Marshal(nil) })
	if err != nil || !bytes.Equal(got, want) || allocs > 1 {
		t.Fatalf("%d bytes, not %d, in %v allocations: %v", len(got), len(want), allocs, err)
	}
}
