package kafka

import (
	"sync"

	"github.com/gatepost/gatepost/mq"
)

// outlet tells the outcome of records that were refused in Produce, in their order and from another goroutine than the caller's.
type outlet struct {
	tell func(r *mq.Record, err error)

	mu      sync.Mutex
	changed sync.Cond // of told
	queue   []told
	running bool
	added   uint64
	told    uint64
}

type told struct {
	record *mq.Record
	err    error
}

func newOutlet(tell func(*mq.Record, error)) *outlet {
	o := &outlet{tell: tell}
	o.changed.L = &o.mu
	return o
}

// add takes r over.
func (o *outlet) add(r *mq.Record, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue = append(o.queue, told{record: r, err: err})
	o.added++
	if !o.running {
		o.running = true
		go o.run()
	}
}

func (o *outlet) run() {
	for {
		o.mu.Lock()
		batch := o.queue
		o.queue = nil
		if len(batch) == 0 {
			o.running = false
			o.mu.Unlock()
			return
		}
		o.mu.Unlock()
		for _, t := range batch {
			o.tell(t.record, t.err)
		}
		o.mu.Lock()
		o.told += uint64(len(batch))
		o.changed.Broadcast()
		o.mu.Unlock()
	}
}

// settle returns when all that was added before has been told: whoever asks Record.Closed after it hears of those failures.
func (o *outlet) settle() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for before := o.added; o.told < before; {
		o.changed.Wait()
	}
}
