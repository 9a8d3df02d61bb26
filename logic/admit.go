package logic

import (
	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/store"
)

// admit asks the receiver's side whether it takes s, and queues it for the commit; or says why not, and s.done is not called then.
// It does not block: what has to be asked outside first is queued for that, in the order of one sender to one receiver.
//
// The receiver's domain decides as it stands now. A push of its own app-servers needs nobody's leave, but its receiver must be one
// whom messages are kept for.
func (n *Node) admit(s *sending) *status.Error {
	to := n.account(s.row.Owner.Domain)
	if to == nil || to.Auth == nil {
		return status.New(status.UnknownReceiver, "nobody can log in to the domain of the receiver")
	}
	if s.row.Kind != store.KindS2C && !to.accepts(s.row.Owner.Domain, s.row.From.Domain) {
		return status.New(status.NotAllowed, "the receiver's domain takes no messages from the sender's")
	}
	if !n.ids.ready() {
		return status.New(status.Unavailable, "this node takes no messages now")
	}
	full := fullness{row: n.bound.isFull(s.row.Owner), copy: s.copy != nil && n.bound.isFull(s.copy.Owner)}
	if taken, refusal := n.vet.put(s, to, full); taken {
		return refusal
	}
	return n.take(s)
}

// take queues an admitted message for the commit, or says why not.
func (n *Node) take(s *sending) *status.Error {
	if !n.commit.put(s) {
		return status.New(status.Overloaded, "too many messages wait for the database")
	}
	return nil
}
