package gatepost

// maxSeen is the most ids of unnumbered messages that are remembered of each kind; the oldest go first. There is no age: an id
// stays until so many others came after it. The ids of online-only pushes have as much room of their own, in memory alone.
const maxSeen = 4096

// seenSet knows which unnumbered messages were taken, by kind, sender and client_msg_id. Each kind has its own bound, so that many
// receipts make no push come twice.
type seenSet struct {
	ids   map[SeenID]struct{}      // with Number 0
	order map[MessageKind][]SeenID // oldest first
}

func newSeenSet() seenSet {
	return seenSet{ids: map[SeenID]struct{}{}, order: map[MessageKind][]SeenID{}}
}

// has tells whether id, with Number 0, is in the set.
func (s *seenSet) has(id SeenID) bool {
	_, there := s.ids[id]
	return there
}

// add puts id in and returns the numbers of those that it pushed out.
func (s *seenSet) add(id SeenID) (gone []uint64) {
	list := append(s.order[id.Kind], id)
	id.Number = 0
	s.ids[id] = struct{}{}
	for len(list) > maxSeen {
		old := list[0]
		list = list[1:]
		gone = append(gone, old.Number)
		old.Number = 0
		delete(s.ids, old)
	}
	s.order[id.Kind] = list
	return gone
}

// seenID is what m is remembered by if it has no number.
func seenID(m *Message) SeenID { return SeenID{Kind: m.Kind, From: m.From, ID: m.ClientMsgID} }
