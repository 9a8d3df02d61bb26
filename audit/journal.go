package audit

import (
	"fmt"
	"math/bits"
	"sync"
	"time"
)

// Journal is what happened in a run: for each device the messages and uplinks it sent and the messages it showed, and what stands in the topic.
// It is written concurrently, and judged when nothing writes any more.
type Journal struct {
	run     uint64
	begin   time.Time
	users   []string
	owned   [][]uint32       // the devices of each user
	devices []*deviceJournal // those of the users, in their order, and behind them the app-server, if there is one
	app     uint32           // index of the app-server; len(devices) without one

	topicMu   sync.Mutex
	topic     []topicRecord // in the order of each partition
	strangers int           // records that are not of this run

	faults []Struck // written by one goroutine
	strict bool     // nothing deserves to be refused
}

// topicRecord is one record of the topic.
type topicRecord struct {
	sender, number uint32
	wrong          bool // its key, its id or its source is not what the sender's must be
}

// Flow is a kind of traffic of a device, with an order of its own.
type Flow uint8

const (
	Messages Flow = iota // to users
	Uplinks              // to the topic
	flows
)

// String is the flow's name in reports.
func (f Flow) String() string { return [...]string{"message", "uplink"}[f] }

// deviceJournal belongs to one installation.
type deviceJournal struct {
	user  uint32
	name  string // uid/class
	place uint8  // among the devices of its user: a bit of sendRecord.shown

	sentMu  sync.Mutex
	flows   [flows]sendLog
	crashMS []uint32 // when the sender crashed

	showMu   sync.Mutex
	shows    []showRecord
	phantoms []phantom
	left     []label // found by a fresh client at the end
}

// sendLog is what a device sent in one flow.
type sendLog struct {
	sent    []sendRecord
	closed  int                  // nothing more happens to the records before it, as far as open looks
	pending map[[16]byte]waiting // without an outcome yet
	orphans map[[16]byte]Sent    // the outcome came before Send returned; emptied before the next one
}

func newSendLog() sendLog {
	return sendLog{pending: map[[16]byte]waiting{}, orphans: map[[16]byte]Sent{}}
}

// waiting is a message without an outcome.
type waiting struct {
	number uint32
	life   uint32 // how often the sender had crashed
	sentNS int64
}

// sendRecord is one message that was handed over: 40 bytes.
type sendRecord struct {
	id     [16]byte
	msgID  uint64
	to     uint32 // user
	sentMS uint32 // since the run began
	doneMS uint32
	code   uint16
	state  sendState
	shown  uint8 // a bit for each device of the receiver; of an uplink 1 when it stands in the topic
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

// maxPhantoms bounds what is kept, and so counted, of one device: a platform that shows nonsense shows much of it.
const maxPhantoms = 1000

type phantom struct {
	msgID uint64
	atMS  uint32
	bytes int
}

func newJournal(run uint64, users []string, classes []Class, app bool) *Journal {
	j := &Journal{run: run, begin: time.Now(), users: users}
	add := func(dev *deviceJournal) {
		for f := range dev.flows {
			dev.flows[f] = newSendLog()
		}
		j.devices = append(j.devices, dev)
	}
	for u, uid := range users {
		var own []uint32
		for place, c := range classes {
			own = append(own, uint32(len(j.devices)))
			add(&deviceJournal{user: uint32(u), place: uint8(place), name: fmt.Sprintf("%s/%d", uid, c)})
		}
		j.owned = append(j.owned, own)
	}
	j.app = uint32(len(j.devices))
	if app {
		add(&deviceJournal{user: nobody, name: "app-server"})
	}
	return j
}

// nobody is the user of the app-server.
const nobody = 1<<32 - 1

// sinceMS is the time of the run.
func (j *Journal) sinceMS() uint32 { return uint32(time.Since(j.begin) / time.Millisecond) }

// sinceNS is the time of the run.
func (j *Journal) sinceNS() int64 { return int64(time.Since(j.begin)) }

// attempt writes down that device d is about to send to user to, and returns the number of the message in its flow. One device sends
// one at a time in each flow. Of an uplink to is the sender's own user.
func (j *Journal) attempt(d uint32, f Flow, to uint32) uint32 {
	dev := j.devices[d]
	dev.sentMu.Lock()
	defer dev.sentMu.Unlock()
	log := &dev.flows[f]
	clear(log.orphans)
	log.sent = append(log.sent, sendRecord{to: to, sentMS: j.sinceMS()})
	return uint32(len(log.sent) - 1)
}

// kept writes down that the message is durable at its sender. open: its outcome is not known yet.
func (j *Journal) kept(d uint32, f Flow, number uint32, id [16]byte, sentNS int64) (open bool, s Sent) {
	dev := j.devices[d]
	dev.sentMu.Lock()
	defer dev.sentMu.Unlock()
	log := &dev.flows[f]
	log.sent[number].state = pending
	log.sent[number].id = id
	if s, ok := log.orphans[id]; ok {
		delete(log.orphans, id)
		log.doneLocked(number, s, j.sinceMS())
		return false, s
	}
	log.pending[id] = waiting{number: number, life: uint32(len(dev.crashMS)), sentNS: sentNS}
	return true, Sent{}
}

// done writes down an outcome. known: it belongs to w, which waited for it; otherwise Send has not returned yet, or failed.
// sameLife: the sender has not crashed since it sent w.
func (j *Journal) done(d uint32, s Sent) (w waiting, known, sameLife bool) {
	dev := j.devices[d]
	dev.sentMu.Lock()
	defer dev.sentMu.Unlock()
	log := &dev.flows[s.Flow]
	w, known = log.pending[s.ID]
	if !known {
		log.orphans[s.ID] = s
		return w, false, false
	}
	delete(log.pending, s.ID)
	log.doneLocked(w.number, s, j.sinceMS())
	return w, true, int(w.life) == len(dev.crashMS)
}

// pushed writes down the outcome of a push to one user. first: it was not accepted before; a push that was made by two counts once.
func (j *Journal) pushed(number uint32, s Sent) (first bool) {
	dev := j.devices[j.app]
	dev.sentMu.Lock()
	defer dev.sentMu.Unlock()
	log := &dev.flows[Messages]
	if log.sent[number].state == accepted {
		return false
	}
	log.doneLocked(number, s, j.sinceMS())
	return true
}

func (l *sendLog) doneLocked(number uint32, s Sent, nowMS uint32) {
	r := &l.sent[number]
	r.doneMS = nowMS
	if s.Err != nil {
		r.state, r.code = refused, s.Code
		return
	}
	r.state, r.msgID = accepted, s.MsgID
}

// show writes down that device d showed a message. first: this device had not shown it before.
func (j *Journal) show(d uint32, s Shown) (l label, first bool, err error) {
	dev := j.devices[d]
	l, err = j.labelOf(s.Content)
	if err == nil {
		l, err = j.target(l, dev.user)
	}
	dev.showMu.Lock()
	if err != nil {
		if len(dev.phantoms) < maxPhantoms {
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
	if sent := from.flows[Messages].sent; int(l.number) < len(sent) && sent[l.number].to == dev.user {
		r := &sent[l.number]
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
	l, err := j.labelOf(s.Content)
	if err == nil {
		l, err = j.target(l, dev.user)
	}
	dev.showMu.Lock()
	defer dev.showMu.Unlock()
	if err != nil {
		dev.phantoms = append(dev.phantoms, phantom{msgID: s.MsgID, atMS: j.sinceMS(), bytes: len(s.Content)})
		return
	}
	dev.left = append(dev.left, l)
}

// labelOf reads the label of a message of this run.
func (j *Journal) labelOf(content []byte) (label, error) {
	l, err := parseContent(content, j.run)
	if err == nil && (int(l.sender) >= len(j.devices) || l.flow >= flows) {
		err = errContent
	}
	return l, err
}

// target turns the label of a push to a list, which names its first number and how many users it is for, into that of the message to user.
func (j *Journal) target(l label, user uint32) (label, error) {
	if l.flow != Messages {
		return l, errContent // an uplink is nobody's message
	}
	if l.sender != j.app {
		if int(l.to) >= len(j.users) {
			return l, errContent
		}
		return l, nil
	}
	app := j.devices[j.app]
	app.sentMu.Lock()
	defer app.sentMu.Unlock()
	sent := app.flows[Messages].sent
	if uint64(l.number)+uint64(l.to) > uint64(len(sent)) {
		return l, errContent
	}
	for i := range l.to {
		if sent[l.number+i].to == user {
			l.number, l.to = l.number+i, user
			return l, nil
		}
	}
	return l, nil // a wrong receiver: the judge sees that number's own one
}

// record writes down one record of the topic. Records of one key come in their order.
func (j *Journal) record(r TopicRecord) {
	l, err := j.labelOf(r.Content)
	j.topicMu.Lock()
	defer j.topicMu.Unlock()
	if err != nil || l.flow != Uplinks {
		j.strangers++
		return
	}
	dev := j.devices[l.sender]
	dev.sentMu.Lock()
	defer dev.sentMu.Unlock()
	rec := topicRecord{sender: l.sender, number: l.number, wrong: r.UID != j.users[dev.user]}
	if sent := dev.flows[Uplinks].sent; int(l.number) < len(sent) {
		s := &sent[l.number]
		s.shown |= 1
		// The id of an uplink whose sender died before it was told is not known.
		rec.wrong = rec.wrong || s.id != [16]byte{} && s.id != r.ID
	}
	j.topic = append(j.topic, rec)
}

// open counts what a run still waits for: outcomes of messages sent, and accepted messages that a device of the receiver has not shown.
// It is for the time when nothing new is sent any more, and then looks at few records twice.
func (j *Journal) open() (outcomes, shows int) {
	for _, dev := range j.devices {
		dev.sentMu.Lock()
		for f := range dev.flows {
			log := &dev.flows[f]
			for i := log.closed; i < len(log.sent); i++ {
				r := &log.sent[i]
				missing := 0
				if r.state == accepted && Flow(f) == Messages {
					missing = len(j.owned[r.to]) - bits.OnesCount8(r.shown)
				}
				if r.state == pending && !dev.crashedAfter(r.sentMS) {
					outcomes++
				}
				shows += missing
				if i == log.closed && missing == 0 && r.state != pending {
					log.closed++
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
