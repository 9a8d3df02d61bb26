package audit

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/gatepost/gatepost/idl/status"
)

// push is the app-server of the run: it pushes to lists of users until traffic ends, and carries each push through until every target has
// a final outcome. Every fourth push is made by two at once, as by two app-servers that retry: it must be shown once. With PushList the lists
// go through the users in turn, and each push is made once.
func (e *engine) push(ctx, traffic context.Context) {
	cfg, j := e.cfg, e.j
	rng := rand.New(rand.NewPCG(cfg.Seed, 3))
	slots := make(chan struct{}, cfg.PushOpen)
	var under sync.WaitGroup
	defer under.Wait()
	for n := 0; cfg.Messages == 0 || n < cfg.Messages; n++ {
		select {
		case slots <- struct{}{}:
		case <-traffic.Done():
			return
		}
		targets := e.pushTargets(rng, n)
		size := cfg.Size + rng.IntN(cfg.SizeMax-cfg.Size+1)
		first := j.attemptPush(targets)
		sentNS := j.sinceNS()
		content := appendContent(nil, label{run: j.run, sender: j.app, to: uint32(len(targets)), number: first, sentNS: sentNS}, size)
		users := make([]string, len(targets))
		for i, u := range targets {
			users[i] = j.users[u]
		}
		e.sent.Add(uint64(len(users)))
		id := [16]byte(uuid.Must(uuid.NewV7()))
		callers := 1
		if n%4 == 3 && !cfg.PushList {
			callers = 2
		}
		under.Go(func() {
			defer func() { <-slots }()
			var twins sync.WaitGroup
			for range callers {
				twins.Go(func() { e.carryPush(ctx, id, first, users, content, sentNS) })
			}
			twins.Wait()
		})
		if cfg.Pause > 0 && !sleep(traffic, cfg.Pause) {
			return
		}
	}
}

// pushTargets are the users of push n.
func (e *engine) pushTargets(rng *rand.Rand, n int) []int {
	users, most := len(e.j.users), min(e.cfg.PushTo, len(e.j.users))
	if !e.cfg.PushList {
		return rng.Perm(users)[:1+rng.IntN(most)]
	}
	out := make([]int, most)
	for i := range out {
		out[i] = (n*most + i) % users
	}
	return out
}

// carryPush pushes until every target has a final outcome, or ctx ends.
func (e *engine) carryPush(ctx context.Context, id [16]byte, first uint32, users []string, content []byte, sentNS int64) {
	open := make([]int, len(users)) // indexes of users
	for i := range users {
		open[i] = i
	}
	for len(open) > 0 {
		names := make([]string, len(open))
		for i, at := range open {
			names[i] = users[at]
		}
		outcomes, err := e.cfg.App.Push(ctx, id, names, content)
		if err != nil || len(outcomes) != len(names) {
			e.cfg.Logger.Debug("push failed", "error", err)
			outcomes = nil
		}
		var again []int
		for i, at := range open {
			switch {
			case outcomes == nil || outcomes[i].Err != nil && !status.Code(outcomes[i].Code).Final():
				again = append(again, at)
			case outcomes[i].Err != nil:
				e.refused.Add(1)
				e.j.pushed(first+uint32(at), outcomes[i])
			default:
				if e.j.pushed(first+uint32(at), outcomes[i]) {
					e.accept()
				}
				if f := e.cfg.OnAccepted; f != nil {
					f(Messages, sentNS, e.j.sinceNS())
				}
			}
		}
		open = again
		if len(open) > 0 && !sleep(ctx, 50*time.Millisecond) {
			return
		}
	}
}

// attemptPush writes down a push to users, and returns the number of the first one.
func (j *Journal) attemptPush(targets []int) uint32 {
	app := j.devices[j.app]
	app.sentMu.Lock()
	defer app.sentMu.Unlock()
	log := &app.flows[Messages]
	first := uint32(len(log.sent))
	for _, u := range targets {
		log.sent = append(log.sent, sendRecord{to: uint32(u), sentMS: j.sinceMS(), state: pending})
	}
	return first
}
