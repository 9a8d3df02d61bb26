package wire

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// Samples are synthetic contents of the three kinds that Gatepost carries most, 150..220 bytes long.

func samplePosition(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	return fmt.Appendf(nil, `{"type":"position","driver_id":"d-%06d","lat":%.6f,"lng":%.6f,"accuracy":%.1f,"speed":%.1f,"bearing":%d,"altitude":%.1f,"battery":0.%02d,"provider":"gps","online":true,"ts":%d}`,
		r.IntN(1e6), 31+r.Float64(), 121+r.Float64(), 3+r.Float64()*20, r.Float64()*30, r.IntN(360), r.Float64()*50, r.IntN(100), 1763719200000+r.Int64N(1e9))
}

func sampleOrder(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 2))
	states := []string{"pending", "accepted", "assigned", "arrived", "completed"}
	return fmt.Appendf(nil, `{"order_id":"%d","status":"%s","pickup":{"lat":%.6f,"lng":%.6f},"dropoff":{"lat":%.6f,"lng":%.6f},"fare":%d.%02d,"currency":"USD","distance_m":%d,"expires_at":"2026-11-21T%02d:%02d:%02dZ"}`,
		202611210000000+r.Int64N(1e6), states[r.IntN(len(states))], 31+r.Float64(), 121+r.Float64(), 31+r.Float64(), 121+r.Float64(),
		r.IntN(90), r.IntN(100), r.IntN(30000), r.IntN(24), r.IntN(60), r.IntN(60))
}

func sampleChat(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 3))
	texts := []string{
		"I am standing at the main entrance next to the blue sign, where are you right now?",
		"Traffic is terrible here, it will take me about ten more minutes, sorry for the wait!",
		"Could you please bring two bottles of water as well? Thank you very much.",
		"The parcel has been left with the neighbour on the second floor.",
	}
	return fmt.Appendf(nil, `{"type":"text","text":"%s","lang":"en","client_time":%d,"reply_to":"%08x"}`, texts[r.IntN(len(texts))], 1763719200000+r.Int64N(1e9), r.Uint32())
}

func randomBytes(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 4))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// withLength replaces the plain length of a compressed body.
func withLength(packed []byte, n uint64) []byte {
	_, size := binary.Uvarint(packed)
	return append(binary.AppendUvarint(nil, n), packed[size:]...)
}
