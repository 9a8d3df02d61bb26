package logic

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gatepost/gatepost/idl/status"
	"github.com/gatepost/gatepost/mq"
)

// anyDomain in Domain.AcceptFrom stands for every domain.
const anyDomain = "*"

// account is a domain as it stands now, with what outlasts a change of the table.
type account struct {
	Domain
	rates rates
	*accountState
}

// accountState is what a domain uses up. It stays over changes of the table, so that a reload frees nothing that is in use.
type accountState struct {
	logins  slots // checks of tokens in flight
	vetting int   // messages under way in vet, which guards it
}

// accounts is one table of domains. It does not change.
type accounts struct {
	byName map[string]*account
	other  *account // nil: other domains are unknown
}

func (a *accounts) of(name string) *account {
	if x, ok := a.byName[name]; ok {
		return x
	}
	return a.other
}

// account returns a domain's entry; nil: it is unknown.
func (n *Node) account(name string) *account { return n.accounts.Load().of(name) }

// domain returns the domain called name as it stands now, which is not changed by anybody; nil: it is unknown.
func (n *Node) domain(name string) *Domain {
	if a := n.account(name); a != nil {
		return &a.Domain
	}
	return nil
}

// SetDomains replaces the table of domains, or returns all faults of the new one joined, and the old one stays. It may be called
// at any time and by anyone: what is on its way ends under the table it began with. The caller may change d afterwards.
func (n *Node) SetDomains(d Domains) error {
	if err := d.Validate(); err != nil {
		return err
	}
	n.settingDomains.Lock()
	defer n.settingDomains.Unlock()
	old := n.accounts.Load()
	if old == nil {
		old = &accounts{}
	}
	next := &accounts{byName: make(map[string]*account, len(d.ByName))}
	for name, x := range d.ByName {
		next.byName[name] = n.renew(old.byName[name], x)
	}
	if d.Other != nil {
		next.other = n.renew(old.other, d.Other)
	}
	n.accounts.Store(next)
	return nil
}

// renew makes the entry of d, with the state of the one before it, if there was one.
func (n *Node) renew(before *account, d *Domain) *account {
	x := &account{Domain: *d}
	x.AcceptFrom = slices.Clone(d.AcceptFrom)
	x.Topics.Topics = maps.Clone(d.Topics.Topics)
	if before != nil {
		x.accountState, x.rates = before.accountState, before.rates
	} else {
		x.accountState = &accountState{logins: make(slots, n.cfg.LoginConcurrency)}
	}
	x.rates = x.rates.next(&x.Limits)
	return x
}

// Validate returns all faults joined.
func (d Domains) Validate() error {
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(d.ByName)) {
		if err := checkName("domain", name, maxDomainBytes); err != nil {
			faults = append(faults, fmt.Errorf("domains: %q: %w", name, err))
		}
		if d.ByName[name] == nil {
			faults = append(faults, fmt.Errorf("domains: %q: has no entry", name))
			continue
		}
		faults = append(faults, d.ByName[name].faults(name)...)
	}
	if d.Other != nil {
		faults = append(faults, d.Other.faults(anyDomain)...)
	}
	return errors.Join(faults...)
}

func (d *Domain) faults(name string) (faults []error) {
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("domains: %q: %w", name, fmt.Errorf(format, args...)))
	}
	for _, from := range d.AcceptFrom {
		if err := checkName("domain", from, maxDomainBytes); err != nil {
			fault("accept_from: %q: %w", from, err)
		}
	}
	if d.HookAway > HookAwayAllow {
		fault("hook_away is %d: must be refuse, retry or allow", d.HookAway)
	}
	l := d.Limits
	for _, f := range []struct {
		name        string
		value, most int
	}{
		{"content_bytes", l.ContentBytes, maxContentBytes}, {"inbox_bound", l.InboxBound, 1 << 24}, {"logins", l.Logins, 1 << 24},
		{"messages", l.Messages, 1 << 24}, {"uplinks", l.Uplinks, 1 << 24}, {"pushes", l.Pushes, 1 << 24},
	} {
		if f.value < 0 || f.value > f.most {
			fault("limits.%s is %d: must be 0 to %d", f.name, f.value, f.most)
		}
	}
	if l.InboxBound != 0 && l.InboxBound < 16 {
		fault("limits.inbox_bound is %d: must be 0, or at least 16", l.InboxBound)
	}
	if l.Life < 0 || l.Life > maxLife || l.Life%time.Millisecond != 0 {
		fault("limits.life is %v: must be 0 to %v, in whole milliseconds", l.Life, maxLife)
	}
	if err := d.Topics.Validate(); err != nil {
		fault("uplinks: %w", err)
	}
	if d.Events.Topic != "" {
		if err := mq.ValidTopic(d.Events.Topic); err != nil {
			fault("events: %w", err)
		}
	}
	if d.Events.Topic == "" && (d.Events.Presence || d.Events.Waiting) {
		fault("events: there is no topic for them")
	}
	return faults
}

// accepts reports whether users of the domain called from may write to users of the one called own, which is d.
func (d *Domain) accepts(own, from string) bool {
	return from == own || slices.Contains(d.AcceptFrom, anyDomain) || slices.Contains(d.AcceptFrom, from)
}

// checkContent refuses content above the bound of the domain it comes from, which is d; nil takes the platform's own.
func (d *Domain) checkContent(content []byte) *status.Error {
	most := maxContentBytes
	if d != nil && d.Limits.ContentBytes != 0 {
		most = d.Limits.ContentBytes
	}
	if len(content) > most {
		return status.New(status.TooLarge, "the content has %d bytes, more than %d", len(content), most)
	}
	return nil
}

// cutLife cuts a time to live, in milliseconds, to the longest one of the domain it comes from, which is d; nil takes the platform's
// own. 0: the longest.
func (d *Domain) cutLife(ttlMS uint64) uint64 {
	longest := maxLife
	if d != nil && d.Limits.Life != 0 {
		longest = d.Limits.Life
	}
	if most := uint64(longest / time.Millisecond); ttlMS == 0 || ttlMS > most {
		return most
	}
	return ttlMS
}
