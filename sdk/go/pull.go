package gatepost

import (
	"time"

	"github.com/cloudwego/prutal"
	"github.com/gatepost/gatepost/idl/gen/clientpb"
	"github.com/gatepost/gatepost/idl/limits"
	"github.com/gatepost/gatepost/idl/status"
)

// pull reads the inbox from its head, page by page, up to the highest id that its first page named. One runs at a time;
// whatever wants one meanwhile gets the one that follows. The loop owns it.
type pull struct {
	c            *Client
	serial       uint64 // of the pull that began last
	running      bool
	asked        bool      // a page is on its way; otherwise the next one waits for room
	registering  bool      // the page on its way registers this device
	registeredAt time.Time // zero: not in this login
	after        uint64
	upto         uint64

	wanted   bool // another one is to begin
	forJump  bool // likewise, but not before jumpAt
	jumpAt   time.Time
	nextAt   time.Time // of the periodic one
	retryAt  time.Time
	backoff  backoff
	waiting  []chan error // for the next one
	watching []chan error // for the running one
}

func (p *pull) init(c *Client) {
	p.c = c
	p.backoff = backoff{base: c.cfg.Timing.BackoffBase, cap: c.cfg.Timing.BackoffCap}
}

// begin is called after a login.
func (p *pull) begin() {
	p.registeredAt, p.wanted = time.Time{}, true
	p.retryAt = time.Time{}
	p.backoff.reset()
}

// want asks for a pull that begins from now on.
func (p *pull) want() { p.wanted = true }

// wantForJump asks for one that begins from now on, soon.
func (p *pull) wantForJump() { p.forJump = true }

func (p *pull) ask(result chan error) {
	if !p.c.link.loggedIn {
		result <- ErrOffline
		return
	}
	p.waiting = append(p.waiting, result)
	p.wanted = true
}

// interrupted is called when the connection ends.
func (p *pull) interrupted() {
	p.running, p.asked, p.wanted = false, false, false
	p.fail(ErrOffline)
}

// fail tells all who wait.
func (p *pull) fail(err error) {
	for _, result := range append(p.watching, p.waiting...) {
		result <- err
	}
	p.watching, p.waiting = nil, nil
}

// pumpPull begins a pull, or asks for the next page of the running one, when it is time and there is room.
func (c *Client) pumpPull(now time.Time) time.Time {
	p := &c.pull
	if !c.link.loggedIn {
		return time.Time{}
	}
	if p.running {
		if !p.asked && c.room() {
			p.askPage()
		}
		return time.Time{}
	}
	if c.inbox.overflow && c.roomy() {
		c.inbox.overflow, p.wanted = false, true
	}
	if !p.nextAt.IsZero() && !now.Before(p.nextAt) || p.forJump && !now.Before(p.jumpAt) {
		p.wanted = true
	}
	switch {
	case !p.wanted && p.forJump:
		return earliest(p.nextAt, p.jumpAt)
	case !p.wanted:
		return p.nextAt
	case now.Before(p.retryAt):
		return p.retryAt
	}
	if p.forJump {
		p.jumpAt = now.Add(c.cfg.Timing.JumpPullEvery)
	}
	p.nextAt = now.Add(around(c.cfg.Timing.PullEvery))
	p.running, p.wanted, p.forJump = true, false, false
	p.after, p.upto = 0, 0
	p.serial++
	c.confirms.hurry()
	p.watching, p.waiting = append(p.watching, p.waiting...), nil
	if c.room() {
		p.askPage()
	}
	return time.Time{}
}

// registerEvery is how often a session that lasts registers its device again: the server retires those it has not seen for long.
const registerEvery = 24 * time.Hour

func (p *pull) askPage() {
	p.asked = true
	p.registering = p.upto == 0 && (p.registeredAt.IsZero() || time.Since(p.registeredAt) >= registerEvery)
	p.c.request(clientpb.Cmd_CMD_PULL, 0, &clientpb.Pull{
		After:    p.after,
		Upto:     p.upto,
		Limit:    limits.PullRows,
		Register: p.registering,
	}, p.c.cfg.Timing.Request, p.answered)
}

func (p *pull) answered(code status.Code, body []byte, err *Error) {
	c := p.c
	p.asked = false
	var page clientpb.PullAnswer
	switch {
	case err != nil:
		p.refused(err)
		return
	case prutal.Unmarshal(body, &page) != nil:
		c.lost(&Error{Code: status.BadFrame, Reason: "cannot decode the answer to PULL"})
		return
	}
	p.backoff.reset()
	c.setServerTime(page.ServerTimeMs)
	if p.registering {
		first := p.registeredAt.IsZero()
		p.registeredAt = time.Now()
		if first || page.Retired {
			c.registered(page.Retired)
		}
	}
	c.takePage(page.Messages)
	if p.upto == 0 {
		p.upto = page.Upto
	}
	n := len(page.Messages)
	if page.More && n > 0 && page.Messages[n-1].MsgId > p.after && page.Messages[n-1].MsgId < p.upto {
		p.after = page.Messages[n-1].MsgId
		return // pumpPull asks for the next page
	}
	p.complete()
}

// refused tries the whole pull again later. For those who wait for it, a refusal for good is the end.
func (p *pull) refused(err *Error) {
	p.running = false
	p.retryAt = time.Now().Add(p.backoff.next(err.RetryAfter))
	p.wanted = true
	if err.Behaviour() == status.NeverRetry {
		p.c.log.Error("pull refused", "code", err.Code.String(), "reason", err.Reason)
		p.fail(err)
		return
	}
	p.waiting = append(p.watching, p.waiting...)
	p.watching = nil
}

func (p *pull) complete() {
	p.running = false
	p.c.settleJumps(p.serial)
	watching := p.watching
	p.watching = nil
	p.c.after = append(p.c.after, func() {
		for _, result := range watching {
			result <- nil
		}
	})
}
