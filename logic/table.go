package logic

import (
	"context"

	"github.com/cloudwego/prutal"

	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/status"
)

// verbs is the one table of what clients may ask for. A verb is a file; adding one adds a line here.
var verbs = map[clientpb.Cmd]verb{
	clientpb.Cmd_CMD_C2C:     on(ordered, needsSession, (*Node).c2c),
	clientpb.Cmd_CMD_C2S:     on(ordered, needsSession, (*Node).c2s),
	clientpb.Cmd_CMD_LOGIN:   on(detached, noSession, (*Node).login),
	clientpb.Cmd_CMD_LOGOUT:  on(detached, needsSession, (*Node).logout),
	clientpb.Cmd_CMD_PULL:    on(detached, needsSession, (*Node).pull),
	clientpb.Cmd_CMD_CONFIRM: on(inline, needsSession, (*Node).confirm),
}

// kind says how the frames of one Handle call are run.
type kind uint8

const (
	// ordered: one after the other, in the order of the frames, under the guard of the stream that the command travels in. It must not block.
	ordered kind = iota
	// inline: as ordered, without a stream. It must not block.
	inline
	// detached: in a goroutine of its own.
	detached
)

const (
	needsSession = true
	noSession    = false
)

// verb is what the table says of a command.
type verb struct {
	kind    kind
	session bool
	// start decodes body, which it does not keep, and returns what runs the verb.
	start func(n *Node, c *call, body []byte) (run func(ctx context.Context), refusal *status.Error)
}

// on makes a verb of a use case that takes a decoded body. The decoder copies strings and bytes out of its input (prutal does),
// so the use case may keep them.
func on[T any](k kind, session bool, do func(n *Node, ctx context.Context, c *call, body *T)) verb {
	return verb{kind: k, session: session, start: func(n *Node, c *call, body []byte) (func(context.Context), *status.Error) {
		m := new(T)
		if err := prutal.Unmarshal(body, m); err != nil {
			return nil, status.New(status.BadRequest, "the body cannot be decoded")
		}
		return func(ctx context.Context) { do(n, ctx, c, m) }, nil
	}}
}
