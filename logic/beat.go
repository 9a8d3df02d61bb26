package logic

import (
	"context"
	"log/slog"

	"github.com/gatepost/gatepost/idl/gen/logicpb"
	"github.com/gatepost/gatepost/store"
)

// Beat takes a gate's heartbeat, renews its lease, and says how this node and the presence table are. It answers while the table is
// away too, with presence epoch 0.
func (n *Node) Beat(ctx context.Context, req *logicpb.BeatRequest) (*logicpb.BeatResponse, error) {
	gate := store.Gate{
		Epoch:           req.GateEpoch,
		Name:            req.Name,
		RPCAddress:      req.RpcAddress,
		ClientAddresses: req.ClientAddresses,
		Connections:     req.Connections,
		Sessions:        req.Sessions,
		Draining:        req.Draining,
		PresenceEpoch:   req.PresenceEpoch,
	}
	stopping := n.stopping.Load() // before the gate counts as heard: it counts as told only if it is
	res := &logicpb.BeatResponse{LogicEpoch: n.epoch, Stopping: stopping}

	leaseCtx, cancel := context.WithTimeout(ctx, n.cfg.PresenceTimeout)
	defer cancel()
	epoch, err := n.leases.BeatGate(leaseCtx, gate, n.cfg.LeaseTTL)
	if err != nil {
		n.logger.Debug("the lease of a gate could not be written", slog.String("gate", gate.Name), slog.Any("error", err))
		epoch = 0
	}
	n.gates.learnEpoch(epoch)
	n.gates.hear(gate, stopping)
	res.PresenceEpoch = epoch
	res.Ready = n.Ready()
	res.ServerTimeMs = n.serverTimeMS()
	res.LogicAddresses = n.gates.addresses()
	return res, nil
}
