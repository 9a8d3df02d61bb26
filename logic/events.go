package logic

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/gatepost/gatepost/idl/event"
	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/mq"
	"github.com/gatepost/gatepost/store"
)

// PresenceEvent is the JSON value of event.TypeOnline and event.TypeOffline.
//
// Events may be lost, repeated, and late. Session rises with each login of a device: what is said of a lower one than the last that
// was seen is old. A gate that dies tells of nobody going offline: of its sessions those are told of that a message finds gone.
type PresenceEvent struct {
	Domain  string `json:"domain"`
	UID     string `json:"uid"`
	Device  string `json:"device"`         // name of the device class, as in event.Device
	Session uint64 `json:"session,string"` // decimal, as a string: JSON's numbers end at 53 bits
	AtMS    int64  `json:"at_ms"`          // by the server's clock
	Reason  string `json:"reason"`         // one of the Reason… below
}

// Reasons of presence events.
const (
	ReasonLogin  = "login"  // a session began
	ReasonLogout = "logout" // the user logged out
	ReasonKicked = "kicked" // an app-server ended the session
	ReasonEnded  = "ended"  // the connection is gone, whoever closed it
)

// WaitingEvent is the JSON value of event.TypeWaiting: a message lies in the inbox of a user who has no session anywhere. It has the
// same ce_id each time that the same message is told of, as when its sender repeats it.
type WaitingEvent struct {
	Domain      string    `json:"domain"`
	UID         string    `json:"uid"`
	MsgID       uint64    `json:"msg_id,string"`
	From        EventUser `json:"from"` // of an app-server: no uid
	Kind        string    `json:"kind"` // c2c or s2c
	Type        string    `json:"type"` // as its sender gave it
	CreatedAtMS int64     `json:"created_at_ms"`
}

// EventUser is a user in the value of an event.
type EventUser struct {
	Domain string `json:"domain"`
	UID    string `json:"uid,omitempty"`
}

// events tells what happens to users in the topics of their domains. It is best effort: what does not fit, or is not taken, is
// dropped and counted, and nobody ever waits for it.
type events struct {
	node     *Node
	inFlight atomic.Int64
}

// maxEvents bounds the events in the producer.
const maxEvents = 4096

// answered looks at the answer to a frame of s: a login that binds its connection begins a session, a logout ends it.
func (e *events) answered(s session, a *logicpb.Answer) {
	if b := a.Bind; b != nil {
		user := store.UserKey{Domain: b.Domain, UID: b.Uid}
		e.presence(event.TypeOnline, ended{user: user, class: store.DeviceClass(b.DeviceClass), session: b.Number}, ReasonLogin)
	}
	if a.Unbind {
		e.presence(event.TypeOffline, ended{user: s.user, class: s.class, session: s.number}, ReasonLogout)
	}
}

// untold is what of list is to be told of as offline: it is asked for before the sessions are unregistered, and whoever unregisters
// them tells. A session whose device has a newer one already ends nothing, and of one that has a tombstone somebody has told: where
// the presence table says so.
func (e *events) untold(ctx context.Context, list ...ended) []ended {
	told := make([]ended, 0, len(list))
	users := make([]store.UserKey, 0, len(list))
	for _, x := range list {
		if e.tellsPresence(x.user.Domain) {
			told = append(told, x)
			users = append(users, x.user)
		}
	}
	if len(told) == 0 {
		return nil
	}
	found, err := e.node.lookup(ctx, users)
	if err != nil || len(found.Routes) != len(users) || len(found.Ended) != len(users) {
		return told
	}
	kept := told[:0]
	for i, x := range told {
		over := slices.ContainsFunc(found.Ended[i], func(r store.Ended) bool { return r.Class == x.class && r.Session >= x.session })
		if !over && !replaced(x, found.Routes[i]) {
			kept = append(kept, x)
		}
	}
	return kept
}

// offline tells of sessions that are no more.
func (e *events) offline(list []ended, reason string) {
	for _, x := range list {
		e.presence(event.TypeOffline, x, reason)
	}
}

// replaced reports whether a newer session of x's device is among routes.
func replaced(x ended, routes []store.Route) bool {
	for _, r := range routes {
		if r.Class == x.class && r.Session > x.session {
			return true
		}
	}
	return false
}

func (e *events) tellsPresence(domain string) bool {
	d := e.node.domain(domain)
	return d != nil && d.Events.Topic != "" && d.Events.Presence && e.node.uplinks != nil
}

func (e *events) presence(kind string, x ended, reason string) {
	if !e.tellsPresence(x.user.Domain) {
		return
	}
	now := e.node.now().UTC().Truncate(time.Millisecond)
	id, err := uuid.NewV7()
	if err != nil {
		e.dropped(err)
		return
	}
	e.tell(x.user, mq.Event{ID: id.String(), Type: kind, Time: now, Device: className(x.class)}, PresenceEvent{
		Domain: x.user.Domain, UID: x.user.UID, Device: className(x.class), Session: x.session, AtMS: now.UnixMilli(), Reason: reason,
	})
}

// notesOf is what is to be told of a committed row if nobody is there to take it.
func (e *events) notesOf(row *store.Message) []*WaitingEvent {
	var kind string
	switch row.Kind {
	case store.KindC2C:
		kind = "c2c"
	case store.KindS2C:
		kind = "s2c"
	default:
		return nil
	}
	d := e.node.domain(row.Owner.Domain)
	if d == nil || !d.Events.Waiting || e.node.uplinks == nil {
		return nil
	}
	return []*WaitingEvent{{
		Domain: row.Owner.Domain, UID: row.Owner.UID, MsgID: uint64(row.ID), From: EventUser{row.From.Domain, row.From.UID}, Kind: kind,
		Type: row.Type, CreatedAtMS: row.CreatedAt.UnixMilli(),
	}}
}

// waiting tells of messages that nobody was there to take.
func (e *events) waiting(notes []*WaitingEvent) {
	for _, w := range notes {
		about := mq.Event{ID: "waiting-" + strconv.FormatUint(w.MsgID, 10), Type: event.TypeWaiting, Time: time.UnixMilli(w.CreatedAtMS).UTC()}
		e.tell(store.UserKey{Domain: w.Domain, UID: w.UID}, about, w)
	}
}

// drop gives notes up: who is there cannot be told.
func (e *events) drop(notes []*WaitingEvent) {
	e.node.metrics.eventsDropped.Add(float64(len(notes)))
}

// tell produces an event about a user into the topic of his domain, if it has one. It does not block.
func (e *events) tell(user store.UserKey, about mq.Event, value any) {
	n := e.node
	d := n.domain(user.Domain)
	if n.uplinks == nil || d == nil || d.Events.Topic == "" {
		return
	}
	if e.inFlight.Add(1) > maxEvents {
		e.inFlight.Add(-1)
		n.metrics.eventsDropped.Inc()
		return
	}
	content, err := json.Marshal(value)
	if err != nil {
		e.inFlight.Add(-1)
		e.dropped(err)
		return
	}
	about.Source = event.SourceOf(user.Domain, user.UID)
	about.Domain, about.UID = user.Domain, user.UID
	about.ContentType, about.Content = "application/json", content
	n.uplinks.Produce(&mq.Record{Topic: d.Events.Topic, Event: about, Done: func(err error) {
		e.inFlight.Add(-1)
		if err != nil {
			e.dropped(err)
			return
		}
		n.metrics.events.Inc()
	}})
}

func (e *events) dropped(err error) {
	e.node.metrics.eventsDropped.Inc()
	e.node.logger.Debug("an event was dropped", slog.Any("error", err))
}
