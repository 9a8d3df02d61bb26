package logic

import (
	"context"
	"encoding/json"
	"log/slog"
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
// was seen is old. A gate that dies tells of nobody going offline.
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
	ReasonKicked = "kicked" // an app-server ended the session; its gate tells of it as ended too
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

// ended tells of sessions that ended at a gate. One whose device has a newer session already ends nothing, where the presence table
// says so.
func (e *events) ended(ctx context.Context, list []ended) {
	told := make([]ended, 0, len(list))
	users := make([]store.UserKey, 0, len(list))
	for _, x := range list {
		if e.tellsPresence(x.user.Domain) {
			told = append(told, x)
			users = append(users, x.user)
		}
	}
	if len(told) == 0 {
		return
	}
	found, err := e.node.lookup(ctx, users)
	if err != nil || len(found.Routes) != len(users) {
		found.Routes = make([][]store.Route, len(users))
	}
	for i, x := range told {
		if !replaced(x, found.Routes[i]) {
			e.presence(event.TypeOffline, x, ReasonEnded)
		}
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

// waiting tells of a committed row that nobody was there to take.
func (e *events) waiting(row *store.Message) {
	var kind string
	switch row.Kind {
	case store.KindC2C:
		kind = "c2c"
	case store.KindS2C:
		kind = "s2c"
	default:
		return
	}
	d := e.node.domain(row.Owner.Domain)
	if d == nil || !d.Events.Waiting {
		return
	}
	e.tell(row.Owner, mq.Event{ID: "waiting-" + strconv.FormatUint(uint64(row.ID), 10), Type: event.TypeWaiting, Time: row.CreatedAt.UTC()}, WaitingEvent{
		Domain: row.Owner.Domain, UID: row.Owner.UID, MsgID: uint64(row.ID), From: EventUser{row.From.Domain, row.From.UID}, Kind: kind,
		Type: row.Type, CreatedAtMS: row.CreatedAt.UnixMilli(),
	})
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
