package kafka

import (
	"testing"

	"github.com/gatepost/gatepost/mq"
)

// The vectors are those of Kafka's own client.
func TestMurmur2(t *testing.T) {
	for key, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
}

// To Kafka's consumers no value at all is another thing than an empty one, and in a compacted topic a deletion.
func TestAnEmptyReportHasAValue(t *testing.T) {
	for _, content := range [][]byte{nil, {}} {
		var m recordMaker
		it := &item{record: &mq.Record{Event: mq.Event{ID: "1", Domain: "d", UID: "u", Content: content}}}
		it.bytes = sizeOf(&it.record.Event)
		if v := m.make([]*item{it})[0].Value; v == nil || len(v) != 0 {
			t.Errorf("content %#v has the value %#v", content, v)
		}
	}
}
