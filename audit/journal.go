package audit

import (
	"fmt"
	"sync"
	"time"
)

// Journal is what happened in a run: for each device the messages it sent and the messages it showed.
// It is written concurrently, and judged when nothing writes any more.
type Journal struct {
	run     uint64
	begin   time.Time
	users   []string
	owned   [][]uint32 // the devices of each user
	devices []*deviceJournal
}

// deviceJournal belongs to one installation.
type deviceJournal struct {
	user  uint32
	name  string // uid/class
	place uint8  // among the devices of its user: a bit of sendRecord.shown

	sentMu  sync.Mutex
	sent    []sendRecord
	pending map[[16]byte]waiting // without an outcome yet
	orphans map[[16]byte]Sent    // the outcome came before Send returned; emptied before the next one
	crashMS []uint32             // when the sender crashed

	showMu   sync.Mutex
	shows    []showRecord
	phantoms []phantom
	left     []label // found by a fresh client at the end
}

// waiting is a message without an outcome.
type waiting struct {
	number uint32
	life   uint32 // how often the sender had crashed
	sentNS int64
}

// sendRecord is one message that was handed over: 24 bytes.
type sendRecord struct {
	msgID  uint64
	to     uint32 // user
	sentMS uint32 // since the run began
	doneMS uint32
	code   uint16
	state  sendState
	shown  uint8 // a bit for each device of the receiver
}

type sendState uint8

const (
	attempted sendState = iota // Send has not returned, or failed: the message may be shown
	pending                    // durable in the sender's outbox
	accepted
	refused
)

// showRecord is one call of an app's callback, or a mark in the life of the device: 16 bytes.
type showRecord struct {
	sender uint32 // index of the sending device, or a mark
	number uint32
	atMS   uint32
	flags  showFlags
}

type showFlags uint8

const (
	flagLate showFlags = 1 << iota
	flagMaybeRepeated
)

// Marks in a show log.
const (
	markRestart uint32 = 1<<32 - 1 - iota
	markCrash
	firstMark = markCrash
)

type phantom struct {
	msgID uint64
	atMS  uint32
	bytes int
}

func newJournal(run uint64, users []string, classes []Class) *Journal {
	j := &Journal{run: run, begin: time.Now(), users: users}
	for u, uid := range users {
		var own []uint32
		for place, c := range classes {
			own = append(own, uint32(len(j.devices)))
			j.devices = append(j.devices, &deviceJournal{
				user: uint32(u), place: uint8(place), name: fmt.Sprintf("%s/%d", uid, c),
				pending: map[[16]byte]waiting{}, orphans: map[[16]byte]Sent{},
			})
		}
		j.owned = append(j.owned, own)
	}
	return j
}

// sinceMS is the time of the run.
func (j *Journal) sinceMS() uint32 { return uint32(time.Since(j.begin) / time.Millisecond) }

// sinceNS is the time of the run.
func (j *Journal) sinceNS() int64 { return int64(time.Since(j.begin)) }

// attempt writes down that device d is about to send to user to, and returns the number of the message. One device sends one at a time.
func (j *Journal) attempt(d, to uint32) uint32 {
	dev := j.devices[d]
	dev.sentMu.Lock()
	defer dev.sentMu.Unlock()
	clear(dev.orphans)
	dev.sent = append(dev.sent, sendRecord{to: to, sentMS: j.sinceMS()})
	return uint32(len(dev.sent) - 1)
}

// kept writes down that the message is durable at its sender. open: its outcome is not known yet.
func (j *Journal) kept(d, number uint32, id [16]byte, sentNS int64) (open bool, s Sent) {
	dev := j.devices[d]
	dev.sentMu.Lock()
	defer dev.sentMu.Unlock()
	dev.sent[number].state = pending
	if s, ok := dev.orphans[id]; ok {
		delete(dev.orphans, id)
		j.doneLocked(dev, number, s)
		return false, s
	}
	dev.pending[id] = waiting{number: number, life: uint32(len(dev.crashMS)), sentNS: sentNS}
	return true, Sent{}
}

// done writes down an outcome. known: it belongs to w, which waited for it; otherwise Send has not returned yet, or failed.
// sameLife: the sender has not crashed since it sent w.
func (j *Journal) done(d uint32, s Sent) (w waiting, known, sameLife bool) {
	dev := j.devices[d]
	dev.sentMu.Lock()
	defer dev.sentMu.Unlock()
	w, known = dev.pending[s.ID]
	if !known {
		dev.orphans[s.ID] = s
		return w, false, false
	}
	delete(dev.pending, s.ID)
	j.doneLocked(dev, w.number, s)
	return w, true, int(w.life) == len(dev.crashMS)
}

func (j *Journal) doneLocked(dev *deviceJournal, number uint32, s Sent) {
	r := &dev.sent[number]
	r.doneMS = j.sinceMS()
	if s.Err != nil {
		r.state, r.code = refused, s.Code
		return
	}
	r.state, r.msgID = accepted, s.MsgID
}

// show writes down that device d showed a message. first: this device had not shown it before.
func (j *Journal) show(d uint32, s Shown) (l label, first bool, err error) {
	dev := j.devices[d]
	l, err = parseContent(s.Content, j.run)
	if err == nil && (int(l.sender) >= len(j.devices) || int(l.to) >= len(j.users)) {
		err = errContent
	}
	dev.showMu.Lock()
	if err != nil {
		if len(dev.phantoms) < maxViolations {
			dev.phantoms = append(dev.phantoms, phantom{msgID: s.MsgID, atMS: j.sinceMS(), bytes: len(s.Content)})
		}
		dev.showMu.Unlock()
		return l, false, err
	}
	var flags showFlags
	if s.Late {
		flags |= flagLate
	}
	if s.MaybeRepeated {
		flags |= flagMaybeRepeated
	}
	dev.shows = append(dev.shows, showRecord{sender: l.sender, number: l.number, atMS: j.sinceMS(), flags: flags})
	dev.showMu.Unlock()

	from := j.devices[l.sender]
	from.sentMu.Lock()
	defer from.sentMu.Unlock()
	if int(l.number) < len(from.sent) && from.sent[l.number].to == dev.user {
		r := &from.sent[l.number]
		first = r.shown&(1<<dev.place) == 0
		r.shown |= 1 << dev.place
	}
	return l, first, nil
}

// mark writes down a restart or a crash of device d.
func (j *Journal) mark(d, what uint32) {
	dev := j.devices[d]
	now := j.sinceMS()
	dev.showMu.Lock()
	dev.shows = append(dev.shows, showRecord{sender: what, atMS: now})
	dev.showMu.Unlock()
	if what == markCrash {
		dev.sentMu.Lock()
		dev.crashMS = append(dev.crashMS, now)
		dev.sentMu.Unlock()
	}
}

// leftover writes down what a fresh client of the same class found in the inbox after the end.
func (j *Journal) leftover(d uint32, s Shown) {
	dev := j.devices[d]
	l, err := parseContent(s.Content, j.run)
	dev.showMu.Lock()
	defer dev.showMu.Unlock()
	if err != nil {
		dev.phantoms = append(dev.phantoms, phantom{msgID: s.MsgID, atMS: j.sinceMS(), bytes: len(s.Content)})
		return
	}
	dev.left = append(dev.left, l)
}

// open counts what a run still waits for: outcomes of messages sent, and accepted messages that a device of the receiver has not shown.
func (j *Journal) open() (outcomes, shows int) {
	for _, dev := range j.devices {
		dev.sentMu.Lock()
		for i := range dev.sent {
			r := &dev.sent[i]
			switch r.state {
			case pending:
				if !dev.crashedAfter(r.sentMS) {
					outcomes++
				}
			case accepted:
				for place := range j.owned[r.to] {
					if r.shown&(1<<place) == 0 {
						shows++
					}
				}
			}
		}
		dev.sentMu.Unlock()
	}
	return outcomes, shows
}

// crashedAfter reports whether the sender crashed at or after ms: the outcome of a message may then have died with it.
func (d *deviceJournal) crashedAfter(ms uint32) bool {
	return len(d.crashMS) > 0 && d.crashMS[len(d.crashMS)-1] >= ms
}
