package gatepost

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
)

// Bounds of what is held back while a jump is not settled. It lies in memory alone: the server keeps it too.
const (
	maxJumps        = 256     // sequences with a jump at the same time
	maxHeld         = 256     // messages of one sequence
	maxHeldBytes    = 2 << 20 // of all
	messageOverhead = 256     // what a message counts beside its content
)

// inbox takes messages: each once [G2], in the order of its sequence [G3]. The loop owns it.
type inbox struct {
	marks  markTable
	dirty  []*Mark // to be written by the next commit
	seen   seenSet // of unnumbered messages; kept
	online seenSet // of online-only pushes, whatever became of them
	had    seenSet // of online-only pushes that the app has taken
	number uint64  // of the youngest Received or SeenID ever

	names names // of the last message

	unshown      map[uint64]int // msg_id → size, of what waits for the app
	unshownBytes int
	onlineWaits  int  // online-only pushes that wait for the app
	overflow     bool // something was left at the server because too much waits for the app

	jumps     map[MarkKey]*jump
	heldBytes int
	left      bool // there was no room for another jump
}

// jump holds back a sequence from the number that did not follow on.
type jump struct {
	held  map[uint64]held // by number
	limit uint64          // numbers from here on were left at the server, and are until this is settled; 0: none
}

type held struct {
	it    *item
	since uint64 // the pull that had begun when it came; only a later one can settle what is missing before it
}

func (c *Client) restoreInbox(kept *Snapshot, now time.Time) {
	in := &c.inbox
	in.marks = newMarkTable()
	in.seen, in.online, in.had = newSeenSet(), newSeenSet(), newSeenSet()
	in.unshown = map[uint64]int{}
	in.jumps = map[MarkKey]*jump{}
	for _, m := range kept.Marks {
		if now.Sub(m.LastUsed) > markIdle {
			c.changes.DeleteMarks = append(c.changes.DeleteMarks, m.Key)
			continue
		}
		c.changes.DeleteMarks = append(c.changes.DeleteMarks, in.marks.put(&m)...)
	}
	for _, id := range kept.Seen {
		in.number = max(in.number, id.Number)
		c.changes.DeleteSeen = append(c.changes.DeleteSeen, in.seen.add(id)...)
	}
	for _, r := range kept.Received {
		in.number = max(in.number, r.Number)
		if r.Shown || c.takes(r.Message.Kind) && c.unshowable(&r.Message) {
			c.confirms.add(&r.Message, r.Number)
			continue
		}
		if c.takes(r.Message.Kind) {
			r.Message.MaybeRepeated = true
			c.show(&item{Received: r})
		}
	}
}

// takes reports whether the app takes messages of kind; what it does not take stays in the inbox. A receipt that nobody wants to hear of
// is taken with the messages, and confirmed.
func (c *Client) takes(kind MessageKind) bool {
	return c.cfg.OnMessage != nil || kind == KindReceipt && c.cfg.OnReceipt != nil
}

// takesAny reports whether the app takes anything.
func (c *Client) takesAny() bool { return c.cfg.OnMessage != nil || c.cfg.OnReceipt != nil }

// room reports whether more messages may wait for the app.
func (c *Client) room() bool {
	in, l := &c.inbox, &c.cfg.Limits
	return len(in.unshown) < l.Unshown && in.unshownBytes < l.UnshownBytes
}

// roomy reports whether half of what may wait does not.
func (c *Client) roomy() bool {
	in, l := &c.inbox, &c.cfg.Limits
	return len(in.unshown) <= l.Unshown/2 && in.unshownBytes <= l.UnshownBytes/2
}

// takeDelivered takes what came live. Without room it stays at the server, and a pull fetches it when there is.
func (c *Client) takeDelivered(messages []*clientpb.Message) {
	if !c.takesAny() {
		return
	}
	for _, m := range messages {
		if m.MsgId != 0 && !c.room() {
			c.inbox.overflow = true
			continue // an online-only push may follow
		}
		c.take(m)
	}
	c.writeMarks()
}

// takePage takes a page of a pull, which was only asked for while there was room: all of it, else the pull would not be one.
func (c *Client) takePage(messages []*clientpb.Message) {
	if !c.takesAny() {
		return
	}
	for _, m := range messages {
		c.take(m)
	}
	c.writeMarks()
}

func (c *Client) take(p *clientpb.Message) {
	in := &c.inbox
	if _, waits := in.unshown[p.MsgId]; waits {
		return
	}
	if !c.takes(kindOf(p)) {
		return
	}
	it := &item{Received: Received{Message: in.names.messageOf(p)}}
	m := &it.Message
	if m.MsgID == 0 {
		c.takeOnline(it)
		return
	}
	if m.Kind == KindReceipt && c.cfg.OnReceipt == nil {
		c.confirms.add(m, 0)
		return
	}
	if m.Stream == 0 || m.TargetSeq == 0 {
		c.takeUnnumbered(it)
		return
	}
	mark := in.marks.get(markKey(m))
	switch mark.place(m.TargetSeq) {
	case placeTaken:
		c.confirms.add(m, 0) // shown, or kept to be shown: the server's copy may go
	case placeNext:
		c.accept(mark, it)
		c.release(mark.Key, 0)
	case placeLate:
		m.Late = true
		c.accept(mark, it)
	case placeJump:
		c.hold(mark.Key, it)
	}
}

// takeUnnumbered remembers the message by its id.
func (c *Client) takeUnnumbered(it *item) {
	in, m := &c.inbox, &it.Message
	id := seenID(m)
	if in.seen.has(id) || c.unshowable(m) {
		c.confirms.add(m, 0)
		return
	}
	had := in.had.has(id)
	in.number++
	id.Number = in.number
	c.changes.PutSeen = append(c.changes.PutSeen, id)
	c.changes.DeleteSeen = append(c.changes.DeleteSeen, in.seen.add(id)...)
	if had { // the app has it: the push came before, online only
		c.after = append(c.after, func() { c.confirms.add(m, 0) })
		return
	}
	c.keep(it)
}

// takeOnline shows a push that the server does not keep: at once, or never. It is not stored, and neither confirmed nor tried again.
func (c *Client) takeOnline(it *item) {
	in, m := &c.inbox, &it.Message
	m.OnlineOnly = true
	id := seenID(m)
	if in.seen.has(id) || in.online.has(id) || c.unshowable(m) {
		return
	}
	in.online.add(id)
	if in.onlineWaits >= c.cfg.Limits.Unshown {
		c.log.Warn("online-only push dropped: too many wait for the app", "from", m.From.String(), "type", m.Type)
		return
	}
	in.onlineWaits++
	c.after = append(c.after, func() { c.app.show(it) })
}

// unshowable reports whether m is confirmed without being shown: the copy of what this device class has sent itself, or of a kind
// that this package does not know.
func (c *Client) unshowable(m *Message) bool {
	switch m.Kind {
	case KindC2C, KindS2C, KindReceipt:
		return false
	case KindCopy:
		return m.FromDevice == c.cfg.Device
	}
	return true
}

func markKey(m *Message) MarkKey { return MarkKey{From: m.From, Stream: m.Stream} }

// accept marks the number as taken and keeps the message: both go into the same commit.
func (c *Client) accept(mark *Mark, it *item) {
	in, m := &c.inbox, &it.Message
	mark.take(m.TargetSeq)
	mark.LastUsed = time.Now().Round(0)
	c.changes.DeleteMarks = append(c.changes.DeleteMarks, in.marks.put(mark)...)
	if !slices.Contains(in.dirty, mark) { // a few at most
		in.dirty = append(in.dirty, mark)
	}
	if c.unshowable(m) {
		c.after = append(c.after, func() { c.confirms.add(m, 0) })
		return
	}
	c.keep(it)
}

// keep stores the message and, once it is stored, queues it for the app.
func (c *Client) keep(it *item) {
	c.inbox.number++
	it.Number = c.inbox.number
	c.changes.PutReceived = append(c.changes.PutReceived, it.Received)
	c.changes.Durable = true
	c.show(it)
}

// show counts the message as unshown, and queues it for the app when the commit that keeps it is through.
func (c *Client) show(it *item) {
	in := &c.inbox
	size := len(it.Message.Content) + messageOverhead
	in.unshown[it.Message.MsgID] = size
	in.unshownBytes += size
	c.after = append(c.after, func() { c.app.show(it) })
}

// shown is called when the app has taken the message, or it was parked: that is written before the confirmation leaves.
func (c *Client) shown(it *item) {
	in, r := &c.inbox, &it.Received
	if r.Message.OnlineOnly {
		in.onlineWaits--
		if !it.failed {
			in.had.add(seenID(&r.Message))
		}
		return
	}
	in.unshownBytes -= in.unshown[r.Message.MsgID]
	delete(in.unshown, r.Message.MsgID)
	c.changes.SetShown = append(c.changes.SetShown, r.Number)
	c.after = append(c.after, func() { c.confirms.add(&r.Message, r.Number) })
}

func (c *Client) writeMarks() {
	in := &c.inbox
	for _, m := range in.dirty {
		if in.marks.marks[m.Key] == m { // it may have been evicted meanwhile
			c.changes.PutMarks = append(c.changes.PutMarks, *m)
		}
	}
	in.dirty = emptied(in.dirty)
}

// hold keeps back what does not follow on, within bounds, and wants a pull. When there is no room the highest numbers are
// left at the server, so that what is held is settled without regard to what is not.
func (c *Client) hold(key MarkKey, it *item) {
	in, m := &c.inbox, &it.Message
	c.pull.wantForJump()
	j := in.jumps[key]
	if j == nil {
		if len(in.jumps) >= maxJumps {
			in.left = true
			return
		}
		j = &jump{held: map[uint64]held{}}
		in.jumps[key] = j
	}
	if _, there := j.held[m.TargetSeq]; there || j.limit != 0 && m.TargetSeq >= j.limit {
		return
	}
	size := len(m.Content) + messageOverhead
	for len(j.held) >= maxHeld || in.heldBytes+size > maxHeldBytes {
		top := uint64(0)
		for seq := range j.held {
			top = max(top, seq)
		}
		if top < m.TargetSeq {
			j.limit = m.TargetSeq
			return
		}
		in.unhold(j, top)
		j.limit = top
	}
	j.held[m.TargetSeq] = held{it: it, since: c.pull.serial}
	in.heldBytes += size
}

func (in *inbox) unhold(j *jump, seq uint64) *item {
	it := j.held[seq].it
	delete(j.held, seq)
	in.heldBytes -= len(it.Message.Content) + messageOverhead
	return it
}

// release takes from what is held whatever follows on now. What is missing before a message is passed if pull number
// settled, or an earlier one, began after the message had come and is complete; 0 settles nothing.
func (c *Client) release(key MarkKey, settled uint64) {
	in := &c.inbox
	j := in.jumps[key]
	if j == nil {
		return
	}
	for _, seq := range slices.SortedFunc(maps.Keys(j.held), cmp.Compare[uint64]) {
		mark := in.marks.get(key)
		place := mark.place(seq)
		if place == placeJump && j.held[seq].since >= settled {
			c.pull.wantForJump()
			return
		}
		it := in.unhold(j, seq)
		switch place {
		case placeTaken:
			c.confirms.add(&it.Message, 0)
		case placeLate:
			it.Message.Late = true
			fallthrough
		default:
			c.accept(mark, it)
		}
	}
	delete(in.jumps, key)
	if j.limit != 0 {
		c.pull.wantForJump() // what was left at the server follows on
	}
}

// settleJumps is called when pull number serial is complete.
func (c *Client) settleJumps(serial uint64) {
	in := &c.inbox
	if in.left {
		in.left = false
		c.pull.wantForJump()
	}
	for _, key := range slices.Collect(maps.Keys(in.jumps)) {
		c.release(key, serial)
	}
	c.writeMarks()
}

func kindOf(p *clientpb.Message) MessageKind {
	return MessageKind(min(uint32(p.Kind), 255)) // what does not fit is unknown, not another one
}

// names keeps the names in a message: the next one has the same ones most often.
type names struct{ domain, uid, typ string }

// copied is s, as it stands in last if that is the same.
func copied(last *string, s string) string {
	if *last != s {
		*last = strings.Clone(s)
	}
	return *last
}

// messageOf copies p out of the frame's buffer.
func (n *names) messageOf(p *clientpb.Message) Message {
	m := Message{
		MsgID:      p.MsgId,
		FromDevice: Device(p.FromClass),
		Type:       copied(&n.typ, p.Type),
		Content:    bytes.Clone(p.Content),
		CreatedAt:  time.UnixMilli(p.CreatedAtMs),
		ExpiresAt:  time.UnixMilli(p.ExpiresAtMs),
		Stream:     p.Stream,
		TargetSeq:  p.TargetSeq,
		Kind:       kindOf(p),
		Receipt:    p.Receipt,
	}
	if p.OriginalTo != nil {
		m.To = User{Domain: strings.Clone(p.OriginalTo.Domain), UID: strings.Clone(p.OriginalTo.Uid)}
	}
	if p.From != nil {
		m.From = User{Domain: copied(&n.domain, p.From.Domain), UID: copied(&n.uid, p.From.Uid)}
	}
	copy(m.ClientMsgID[:], p.ClientMsgId)
	return m
}
