package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/gatepost/gatepost/audit"
)

// Pulls logs users in, one after the other, and times the first pull of each, which registers the device and brings a page of 100 messages.
// The messages are not confirmed and stay. It is an error when a page is not full: something else was measured then.
func Pulls(ctx context.Context, t audit.Target, uids []string) (*Latency, error) {
	d, err := newDialer(t)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	h := newHistogram()
	for n, uid := range uids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := d.pullOnce(ctx, n, uid, h); err != nil {
			return nil, fmt.Errorf("bench: pull of %s: %w", uid, err)
		}
	}
	return h.latency(), nil
}

// page is how many messages a pull brings at most when it does not say.
const page = 100

func (d *dialer) pullOnce(ctx context.Context, n int, uid string, h *histogram) error {
	p, err := d.newPerson(ctx, uid)
	if err != nil {
		return err
	}
	c, err := d.open(ctx, n)
	if err != nil {
		return err
	}
	defer func() { _ = c.close() }() // the page has come
	if err := c.login(d.target.Domain, p); err != nil {
		return err
	}
	begin := time.Now()
	messages, err := c.register()
	if err != nil {
		return err
	}
	h.record(time.Since(begin))
	if messages != page {
		return fmt.Errorf("%d messages came, not %d", messages, page)
	}
	return nil
}
