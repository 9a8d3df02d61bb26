package audit

import (
	"fmt"
	"strings"

	"github.com/gatepost/gatepost/idl/status"
)

// Kind of a violation.
type Kind string

const (
	Lost          Kind = "lost"           // accepted, and not shown by an installation of the receiver
	Repeated      Kind = "repeated"       // shown twice by one installation, without a crash and its flag
	OutOfOrder    Kind = "out of order"   // shown after a successor of the same sender, without the flag late
	Phantom       Kind = "phantom"        // shown and never sent
	WrongReceiver Kind = "wrong receiver" // shown by somebody it was not sent to
	NoID          Kind = "no id"          // accepted without a msg_id
	SameID        Kind = "same id"        // two accepted messages have one msg_id
	NoOutcome     Kind = "no outcome"     // the sender was never told
	LeftBehind    Kind = "left behind"    // still in the inbox at the end
	RefusedAtAll  Kind = "refused"        // for good, in a load in which nothing deserves it

	UplinkLost       Kind = "uplink lost"         // accepted, and not in the topic
	UplinkOutOfOrder Kind = "uplink out of order" // in the topic for the first time behind a successor of the same device
	UplinkPhantom    Kind = "uplink phantom"      // in the topic and never sent
	UplinkWrong      Kind = "uplink wrong"        // in the topic under the name of another user, or another id
)

// Violation is one breach of a promise.
type Violation struct {
	Kind    Kind   `json:"kind"`
	Message string `json:"message"` // sender device#number → receiver
	History string `json:"history"`
}

// Verdict of a run.
type Verdict struct {
	Pass     bool `json:"pass"`
	Sent     int  `json:"sent"`
	Accepted int  `json:"accepted"`
	Refused  int  `json:"refused"`
	Shown    int  `json:"shown"` // messages by installations, repeats left out

	Lost           int `json:"lost"`
	Duplicates     int `json:"duplicates"`
	OutOfOrder     int `json:"out_of_order"`
	Phantoms       int `json:"phantoms"`
	WrongReceivers int `json:"wrong_receivers"`
	BadIDs         int `json:"bad_ids"`
	NoOutcome      int `json:"no_outcome"`
	LeftBehind     int `json:"left_behind"`

	RowsLeft *int `json:"rows_left,omitempty"` // in the database at the end; nil: nobody looked

	// Of the uplinks. In the counts above those that were sent, accepted, refused and without outcome are in it too.
	UplinksAccepted   int `json:"uplinks_accepted"`
	UplinksInTopic    int `json:"uplinks_in_topic"` // repeats left out
	UplinkRepeats     int `json:"uplink_repeats"`   // no violation: a topic holds each accepted uplink at least once
	UplinksLost       int `json:"uplinks_lost"`
	UplinksOutOfOrder int `json:"uplinks_out_of_order"`
	UplinkPhantoms    int `json:"uplink_phantoms"`
	UplinksWrong      int `json:"uplinks_wrong"`

	PushesAccepted int `json:"pushes_accepted"` // of the accepted, those from the app-server

	// Refusals counts the refused by their status. A refusal is a violation only where Config.NoRefusals says so: which ones a load may meet is
	// for its caller to know.
	Refusals map[string]int `json:"refusals,omitempty"`

	// Not violations, but counted.
	Late         int `json:"late"`           // shown out of order and flagged so
	MaybeRepeats int `json:"maybe_repeats"`  // repeats after a crash of the client, flagged so
	RefusedShown int `json:"refused_shown"`  // refused on a resend, and shown all the same
	DiedUntold   int `json:"died_untold"`    // the sender crashed before it could tell the outcome
	UnsureShown  int `json:"unsure_shown"`   // shown although Send had failed
	Crashes      int `json:"client_crashes"` // of clients

	Violations []Violation `json:"violations,omitempty"` // the first ones of each kind, at most 25
}

// maxViolations bounds what a verdict names of one kind; all are counted.
const maxViolations = 25

// String is one line for people.
func (v Verdict) String() string {
	word := "PASS"
	if !v.Pass {
		word = "FAIL"
	}
	why := ""
	if v.Refused > 0 {
		why = fmt.Sprintf(" %v", v.Refusals)
	}
	return fmt.Sprintf("%s: %d sent, %d accepted, %d refused%s, %d shown; lost %d, duplicates %d, out of order %d, phantoms %d, wrong receivers %d, "+
		"bad ids %d, without outcome %d, left behind %d (late %d, maybe repeated %d, client crashes %d)", word, v.Sent, v.Accepted, v.Refused, why, v.Shown,
		v.Lost, v.Duplicates, v.OutOfOrder, v.Phantoms, v.WrongReceivers, v.BadIDs, v.NoOutcome, v.LeftBehind, v.Late, v.MaybeRepeats, v.Crashes) +
		v.others()
}

// looked adds how many rows were left in the database; nil: nobody looked.
func (v *Verdict) looked(left *int) {
	v.RowsLeft = left
	v.Pass = v.Pass && (left == nil || *left == 0)
}

func (v Verdict) others() string {
	s := ""
	if v.RowsLeft != nil {
		s += fmt.Sprintf("; rows left in the database %d", *v.RowsLeft)
	}
	if v.PushesAccepted > 0 {
		s += fmt.Sprintf("; of it %d pushed by the app-server", v.PushesAccepted)
	}
	if v.UplinksAccepted+v.UplinksInTopic > 0 {
		s += fmt.Sprintf("; uplinks %d accepted, %d in the topic, lost %d, out of order %d, phantoms %d, wrong %d (repeated %d)",
			v.UplinksAccepted, v.UplinksInTopic, v.UplinksLost, v.UplinksOutOfOrder, v.UplinkPhantoms, v.UplinksWrong, v.UplinkRepeats)
	}
	return s
}

// judge is one pass over a journal.
type judge struct {
	j     *Journal
	v     Verdict
	named map[Kind]int
}

// Judge reads a journal that nothing writes any more.
func Judge(j *Journal) Verdict {
	g := &judge{j: j, named: map[Kind]int{}}
	g.sends()
	for d := range j.app {
		g.shows(d)
	}
	g.topic()
	refusedAtAll := 0
	if g.j.strict {
		refusedAtAll = g.v.Refused
	}
	g.v.Pass = refusedAtAll+g.v.UplinksLost+g.v.UplinksOutOfOrder+g.v.UplinkPhantoms+g.v.UplinksWrong == 0 && g.v.Lost+g.v.Duplicates+g.v.OutOfOrder+g.v.Phantoms+g.v.WrongReceivers+g.v.BadIDs+g.v.NoOutcome+g.v.LeftBehind == 0
	return g.v
}

// sends judges accepted ⊆ shown, and what senders were told.
func (g *judge) sends() {
	ids := make(map[uint64]struct{})
	for d, dev := range g.j.devices {
		g.v.Crashes += len(dev.crashMS)
		g.uplinks(uint32(d))
		sent := dev.flows[Messages].sent
		for n := range sent {
			r := &sent[n]
			if r.state != attempted {
				g.v.Sent++
			}
			switch r.state {
			case attempted:
				if r.shown != 0 {
					g.v.UnsureShown++
				}
			case pending:
				if dev.crashedAfter(r.sentMS) {
					g.v.DiedUntold++
					break
				}
				g.v.NoOutcome++
				g.blame(NoOutcome, uint32(d), uint32(n))
			case refused:
				g.v.Refused++
				if g.v.Refusals == nil {
					g.v.Refusals = map[string]int{}
				}
				g.v.Refusals[status.Code(r.code).String()]++
				if g.j.strict {
					g.blame(RefusedAtAll, uint32(d), uint32(n))
				}
				if r.shown != 0 {
					g.v.RefusedShown++
				}
			case accepted:
				g.v.Accepted++
				if uint32(d) == g.j.app {
					g.v.PushesAccepted++
				}
				_, twice := ids[r.msgID]
				switch {
				case r.msgID == 0:
					g.v.BadIDs++
					g.blame(NoID, uint32(d), uint32(n))
				case twice:
					g.v.BadIDs++
					g.blame(SameID, uint32(d), uint32(n))
				default:
					ids[r.msgID] = struct{}{}
				}
				if missing := len(g.j.notShown(r)); missing > 0 {
					g.v.Lost += missing
					g.blame(Lost, uint32(d), uint32(n))
				}
			}
		}
	}
}

// shows judges one installation: shown ⊆ sent, each once, in order.
func (g *judge) shows(d uint32) {
	dev := g.j.devices[d]
	type seen struct {
		at      uint32 // index in the log, of the last time
		crashes uint32 // of this installation before it
	}
	shown := make(map[uint64]seen, len(dev.shows))
	newest := make(map[uint32]uint32) // sender device → the highest number shown + 1
	crashes := uint32(0)
	for i, s := range dev.shows {
		if s.sender >= firstMark {
			if s.sender == markCrash {
				crashes++
			}
			continue
		}
		from := g.j.devices[s.sender].flows[Messages]
		if int(s.number) >= len(from.sent) {
			g.v.Phantoms++
			g.blame(Phantom, s.sender, s.number)
			continue
		}
		if from.sent[s.number].to != dev.user {
			g.v.WrongReceivers++
			g.blame(WrongReceiver, s.sender, s.number)
			continue
		}
		key := uint64(s.sender)<<32 | uint64(s.number)
		before, again := shown[key]
		shown[key] = seen{at: uint32(i), crashes: crashes}
		if again {
			if s.flags&flagMaybeRepeated != 0 && crashes > before.crashes {
				g.v.MaybeRepeats++
				continue
			}
			g.v.Duplicates++
			g.blame(Repeated, s.sender, s.number)
			continue
		}
		g.v.Shown++
		switch {
		case s.sender == g.j.app: // pushes carry no number: nothing is promised of their order
		case s.number+1 > newest[s.sender]:
			newest[s.sender] = s.number + 1
		case s.flags&flagLate != 0:
			g.v.Late++
		default:
			g.v.OutOfOrder++
			g.blame(OutOfOrder, s.sender, s.number)
		}
	}
	for _, p := range dev.phantoms {
		g.v.Phantoms++
		g.add(Violation{Kind: Phantom, Message: fmt.Sprintf("%s showed msg_id %d", dev.name, p.msgID),
			History: fmt.Sprintf("%d bytes at %d ms that are no message of this run", p.bytes, p.atMS)})
	}
	for _, l := range dev.left {
		g.v.LeftBehind++
		g.blame(LeftBehind, l.sender, l.number)
	}
}

// uplinks judges accepted ⊆ topic, and what the reporting device was told.
func (g *judge) uplinks(d uint32) {
	dev := g.j.devices[d]
	sent := dev.flows[Uplinks].sent
	for n := range sent {
		r := &sent[n]
		if r.state != attempted {
			g.v.Sent++
		}
		switch r.state {
		case pending:
			if dev.crashedAfter(r.sentMS) {
				g.v.DiedUntold++
				break
			}
			g.v.NoOutcome++
			g.blameUplink(NoOutcome, d, uint32(n))
		case refused:
			g.v.Refused++
			if g.v.Refusals == nil {
				g.v.Refusals = map[string]int{}
			}
			g.v.Refusals[status.Code(r.code).String()]++
			if g.j.strict {
				g.blameUplink(RefusedAtAll, d, uint32(n))
			}
		case accepted:
			g.v.Accepted++
			g.v.UplinksAccepted++
			if r.shown == 0 {
				g.v.UplinksLost++
				g.blameUplink(UplinkLost, d, uint32(n))
			}
		}
	}
}

// topic judges what stands in the topic: it was sent, and when repeats are dropped each device's uplinks stand in its order.
func (g *judge) topic() {
	newest := make(map[uint32]uint32) // sender → the highest number + 1
	known := make(map[uint64]bool, len(g.j.topic))
	for _, r := range g.j.topic {
		key := uint64(r.sender)<<32 | uint64(r.number)
		switch {
		case int(r.number) >= len(g.j.devices[r.sender].flows[Uplinks].sent):
			g.v.UplinkPhantoms++
			g.blameUplink(UplinkPhantom, r.sender, r.number)
			continue
		case r.wrong:
			g.v.UplinksWrong++
			g.blameUplink(UplinkWrong, r.sender, r.number)
			continue
		case known[key]:
			g.v.UplinkRepeats++
			continue
		}
		known[key] = true
		g.v.UplinksInTopic++
		if r.number+1 <= newest[r.sender] {
			g.v.UplinksOutOfOrder++
			g.blameUplink(UplinkOutOfOrder, r.sender, r.number)
			continue
		}
		newest[r.sender] = r.number + 1
	}
}

// blameUplink names uplink number of device d.
func (g *judge) blameUplink(kind Kind, d, number uint32) {
	if g.named[kind] >= maxViolations {
		return
	}
	dev := g.j.devices[d]
	history, faults := "never sent", ""
	if sent := dev.flows[Uplinks].sent; int(number) < len(sent) {
		history = sent[number].told(Uplinks)
		faults = g.j.during(sent[number].sentMS, sent[number].doneMS)
	}
	at := 0
	for i, r := range g.j.topic {
		if r.sender == d && r.number == number {
			history += fmt.Sprintf("; record %d of the topic as it was read", i+1)
			if at > 0 {
				history += fmt.Sprintf(", the one of that device before it was #%d", at-1)
			}
		}
		if r.sender == d {
			at = int(r.number) + 1
		}
	}
	g.add(Violation{Kind: kind, Message: fmt.Sprintf("%s uplink #%d", dev.name, number), History: history + faults})
}

// told is what the sender knows of it.
func (r *sendRecord) told(f Flow) string {
	s := fmt.Sprintf("sent at %d ms", r.sentMS)
	switch r.state {
	case attempted:
		s += ", handing it over failed"
	case pending:
		s += ", no outcome"
	case accepted:
		s += fmt.Sprintf(", accepted at %d ms", r.doneMS)
		if f == Messages {
			s += fmt.Sprintf(" as %d", r.msgID)
		}
	case refused:
		s += fmt.Sprintf(", refused at %d ms: %s", r.doneMS, status.Code(r.code))
	}
	return s
}

// blame names message number of device d. Histories are looked up for the violations that are kept, only.
func (g *judge) blame(kind Kind, d, number uint32) {
	if g.named[kind] >= maxViolations {
		return
	}
	name := fmt.Sprintf("%s#%d", g.j.devices[d].name, number)
	if sent := g.j.devices[d].flows[Messages].sent; int(number) < len(sent) {
		name += " → " + g.j.users[sent[number].to]
	}
	g.add(Violation{Kind: kind, Message: name, History: g.j.history(d, number)})
}

func (g *judge) add(v Violation) {
	if g.named[v.Kind] < maxViolations {
		g.named[v.Kind]++
		g.v.Violations = append(g.v.Violations, v)
	}
}

// notShown names the devices of its receiver that have not shown a message.
func (j *Journal) notShown(r *sendRecord) (names []string) {
	for place, d := range j.owned[r.to] {
		if r.shown&(1<<place) == 0 {
			names = append(names, j.devices[d].name)
		}
	}
	return names
}

// history tells all that is known of one message, in the order of time as far as one device goes.
func (j *Journal) history(d, number uint32) string {
	var b strings.Builder
	dev := j.devices[d]
	fromMS, lastMS := uint32(0), uint32(0)
	if sent := dev.flows[Messages].sent; int(number) < len(sent) {
		r := &sent[number]
		b.WriteString(r.told(Messages))
		fromMS = r.sentMS
		if missing := j.notShown(r); r.state == accepted && len(missing) > 0 {
			b.WriteString("; never shown by " + strings.Join(missing, ", "))
		}
	} else {
		fmt.Fprintf(&b, "never sent (%s sent %d)", dev.name, len(sent))
	}
	for _, other := range j.devices {
		crashes := 0
		previous := -1 // the number shown before by this device of that sender
		for i, s := range other.shows {
			if s.sender == markCrash {
				crashes++
			}
			if s.sender != d {
				continue
			}
			if s.number == number {
				lastMS = max(lastMS, s.atMS)
				fmt.Fprintf(&b, "; shown by %s at %d ms as its call %d", other.name, s.atMS, i+1)
				if previous >= 0 {
					fmt.Fprintf(&b, " after #%d", previous)
				}
				if s.flags&flagLate != 0 {
					b.WriteString(", late")
				}
				if s.flags&flagMaybeRepeated != 0 {
					b.WriteString(", maybe repeated")
				}
				if crashes > 0 {
					fmt.Fprintf(&b, ", after %d crashes", crashes)
				}
			}
			previous = int(s.number)
		}
		for _, l := range other.left {
			if l.sender == d && l.number == number {
				fmt.Fprintf(&b, "; found in the inbox of %s at the end", other.name)
			}
		}
	}
	b.WriteString(j.during(fromMS, lastMS))
	return b.String()
}
