package logic

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/gatepost/gatepost/idl/gen/gatepb"
)

// reachedGates calls gates. A panic in a call counts as a gate that was not reached: what was on its way there has its outcome.
type reachedGates struct {
	node  *Node
	gates Gates
}

func (g *reachedGates) Deliver(ctx context.Context, address string, req *gatepb.DeliverRequest) (res *gatepb.DeliverResponse, err error) {
	defer g.recovered(&err)
	return g.gates.Deliver(ctx, address, req)
}

func (g *reachedGates) Kick(ctx context.Context, address string, req *gatepb.KickRequest) (res *gatepb.KickResponse, err error) {
	defer g.recovered(&err)
	return g.gates.Kick(ctx, address, req)
}

// recovered is deferred itself.
func (g *reachedGates) recovered(err *error) {
	if p := recover(); p != nil {
		g.node.metrics.panics.Inc()
		g.node.logger.Error("panic in a call to a gate", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		*err = fmt.Errorf("call a gate: panic: %v", p)
	}
}
