//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gatepost/gatepost/idl/status"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/sqlitestore"
	"github.com/gatepost/gatepost/test/harness"
)

// storeFile is a store in a file.
type storeFile struct {
	t    *testing.T
	path string
}

func newStoreFile(t *testing.T, name string) storeFile {
	return storeFile{t: t, path: filepath.Join(t.TempDir(), name)}
}

func (f storeFile) open() gatepost.Store {
	f.t.Helper()
	s, err := sqlitestore.Open(f.path)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// copyTo copies the bytes of a store that nobody has open over another one.
func (f storeFile) copyTo(to storeFile) {
	f.t.Helper()
	for _, suffix := range []string{"", "-wal"} {
		if err := os.Remove(to.path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			f.t.Fatal(err)
		}
		b, err := os.ReadFile(f.path + suffix)
		if errors.Is(err, os.ErrNotExist) && suffix != "" {
			continue
		}
		if err != nil {
			f.t.Fatal(err)
		}
		if err := os.WriteFile(to.path+suffix, b, 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
}

// installation is whose store it is; nobody has it open.
func (f storeFile) installation() [16]byte {
	f.t.Helper()
	s := f.open()
	defer s.Close()
	kept, err := s.Load()
	if err != nil {
		f.t.Fatal(err)
	}
	return kept.Identity.Installation
}

// toldOfTheCopy tells whether x was told that its store is a copy and that it goes on as another installation.
func toldOfTheCopy(x *harness.Person) bool {
	return slices.ContainsFunc(x.States(), func(s gatepost.StateChange) bool {
		return s.State == gatepost.Offline && s.Code() == status.SessionLost && strings.Contains(s.Err.Error(), "restored or cloned")
	})
}

// unknownOutcomes counts the messages of which x was told that they may have been sent by the other one.
func unknownOutcomes(x *harness.Person) int {
	n := 0
	for _, r := range x.Sent() {
		if errors.Is(r.Err, gatepost.ErrRestored) {
			n++
		}
	}
	return n
}

// shownInTurn waits until b was shown all of these, each group in its order and each text once.
func shownInTurn(t *testing.T, b *harness.Person, groups ...[]string) {
	t.Helper()
	harness.Eventually(t, harness.Patience, func() error {
		got := b.Texts()
		total := 0
		for _, want := range groups {
			total += len(want)
			mine := slices.DeleteFunc(slices.Clone(got), func(text string) bool { return !slices.Contains(want, text) })
			if !slices.Equal(mine, want) {
				return fmt.Errorf("%s was shown %d of a group: %.300q, want %d: %.300q", b.UID, len(mine), mine, len(want), want)
			}
		}
		if len(got) != total {
			return fmt.Errorf("%s was shown %d messages, want %d: %.300q", b.UID, len(got), total, got)
		}
		return nil
	})
}

// Two processes with one store, the second from a copy of its bytes: who comes second becomes an installation of its own. By the rule
// that the newest login of a class wins, the first one stays away until its app decides otherwise; neither comes back by itself.
func TestTwoProcessesOfOneInstallation(t *testing.T) {
	b := person(t, "b").Login()
	file, copied := newStoreFile(t, "a.db"), newStoreFile(t, "copy.db")
	original := person(t, "a", harness.Keeping(file.open())).Login()
	original.Accepted(b.UID, "before")
	harness.Eventually(t, harness.Patience, func() error { return acceptedOnce(original, 1) }) // else it is told by both
	original.Restart(file.open)
	original.Send(b.UID, "pending") // in both stores
	original.Close()
	file.copyTo(copied)
	was := file.installation()

	original.Restart(file.open)
	original.Login()
	first := texts("first", 20)
	for _, text := range first {
		original.Send(b.UID, text)
	}
	harness.Eventually(t, harness.Patience, func() error { return acceptedOnce(original, len(first)+2) })
	clone := again(t, original, harness.Keeping(copied.open()))
	mine := texts("clone", 20)
	for _, text := range mine {
		clone.Send(b.UID, text)
	}
	clone.Login()
	closedBy(t, original, status.Replaced)
	harness.Eventually(t, harness.Patience, func() error {
		if n := len(clone.Sent()); n != len(mine)+1 || unknownOutcomes(clone) != 1 {
			return fmt.Errorf("the clone was told of %d outcomes, %d of them not known", n, unknownOutcomes(clone))
		}
		return nil
	})
	if !toldOfTheCopy(clone) || toldOfTheCopy(original) {
		t.Errorf("told: the clone %+v, the original %+v", clone.States(), original.States())
	}

	// The app of the original decides to come back: under its old name, and with its old numbers.
	original.Login()
	closedBy(t, clone, status.Replaced)
	second := texts("second", 20)
	for _, text := range second {
		original.Send(b.UID, text)
	}
	shownInTurn(t, b, slices.Concat([]string{"before", "pending"}, first, second), mine)
	told := len(clone.States())
	original.Accepted(b.UID, "undisturbed")
	shownInTurn(t, b, slices.Concat([]string{"before", "pending"}, first, second, []string{"undisturbed"}), mine)
	if n := len(clone.States()); n != told || clone.Client.State() != gatepost.Closed {
		t.Errorf("the clone did not stay away: %+v", clone.States())
	}
	original.Close()
	clone.Close()
	if file.installation() != was {
		t.Error("the original has lost its installation id")
	}
	if copied.installation() == was {
		t.Error("the clone has kept the installation id of the original")
	}
	b.Leave()
}

// Both come at the same moment, and again after a kick: one of them keeps the name, whoever it is, and it ends.
func TestTwoProcessesOfOneInstallationAtOnce(t *testing.T) {
	b := person(t, "b").Login()
	file, copied := newStoreFile(t, "a.db"), newStoreFile(t, "copy.db")
	one := person(t, "a", harness.Keeping(file.open()), harness.Through("tcp://"+address(0))).Login()
	one.Accepted(b.UID, "before")
	one.Restart(file.open)
	one.Send(b.UID, "pending")
	one.Close()
	file.copyTo(copied)
	was := file.installation()

	one.Restart(file.open)
	two := again(t, one, harness.Keeping(copied.open()), harness.Through("tcp://"+address(1)))
	ones, twos := texts("one", 30), texts("two", 30)
	for i := range ones {
		one.Send(b.UID, ones[i])
		two.Send(b.UID, twos[i])
	}
	logins := make(chan error, 2)
	for _, x := range []*harness.Person{one, two} {
		go func() { logins <- x.TryLogin() }()
	}
	for range 2 {
		if err := <-logins; err != nil && harness.Code(err) != status.Replaced {
			t.Fatalf("log in: %v", err)
		}
	}
	settled := func() (online, closed *harness.Person, err error) {
		for _, x := range []*harness.Person{one, two} {
			switch states := x.States(); states[len(states)-1].State {
			case gatepost.Online:
				online = x
			case gatepost.Closed:
				closed = x
			}
		}
		if online == nil || closed == nil {
			return nil, nil, fmt.Errorf("not settled: %+v and %+v", one.States(), two.States())
		}
		return online, closed, nil
	}
	// Each has its turn: the one that stays away comes back once the other has sent what it had.
	for range 2 {
		var online, closed *harness.Person
		harness.Eventually(t, harness.Patience, func() (err error) {
			if online, closed, err = settled(); err == nil && len(online.Sent()) < len(ones) {
				err = fmt.Errorf("%d outcomes", len(online.Sent()))
			}
			return err
		})
		if code := closed.States()[len(closed.States())-1].Code(); code != status.Replaced {
			t.Errorf("stays away for %s", code)
		}
		closed.Login()
	}
	shownInTurn(t, b, ones, twos, []string{"before"}, []string{"pending"})
	harness.Eventually(t, harness.Patience, func() error {
		if n := unknownOutcomes(one) + unknownOutcomes(two); n != 1 {
			return fmt.Errorf("%d outcomes are not known, want the one of what was in both stores", n)
		}
		return nil
	})
	if toldOfTheCopy(one) == toldOfTheCopy(two) {
		t.Errorf("one of the two is to be told that it is a copy: %+v and %+v", one.States(), two.States())
	}
	one.Close()
	two.Close()
	if kept := []bool{file.installation() == was, copied.installation() == was}; kept[0] == kept[1] {
		t.Errorf("exactly one keeps the installation id: %v", kept)
	}
	b.Leave()
}

// An old state of the store is put back: the client finds out at its first login and goes on as another installation. What it sends
// then arrives, though the numbers that the old state would have given out next were used.
func TestRestoredBackup(t *testing.T) {
	b := person(t, "b").Login()
	file, backup := newStoreFile(t, "a.db"), newStoreFile(t, "backup.db")
	a := person(t, "a", harness.Keeping(file.open())).Login()
	a.Accepted(b.UID, "before")
	b.Accepted(a.UID, "hello")
	a.Wants("hello")
	a.Restart(file.open)
	a.Send(b.UID, "pending")
	a.Close()
	file.copyTo(backup)
	was := file.installation()

	a.Restart(file.open)
	a.Login()
	lost := texts("lost-to-the-backup", 10)
	for _, text := range lost {
		a.Accepted(b.UID, text)
	}
	b.Accepted(a.UID, "again")
	a.Wants("hello", "again")
	harness.Eventually(t, harness.Patience, func() error { return acceptedOnce(a, len(lost)+2) })
	a.Close()
	if toldOfTheCopy(a) {
		t.Fatalf("told of a copy that there is not: %+v", a.States())
	}
	backup.copyTo(file)

	a.Restart(file.open)
	a.Send(b.UID, "offline")
	a.Login()
	after := texts("after", 20) // more than were lost: each number of the old stream would have come again
	for _, text := range after {
		a.Accepted(b.UID, text)
	}
	b.Wants(slices.Concat([]string{"before", "pending"}, lost, []string{"offline"}, after)...)
	if !toldOfTheCopy(a) || unknownOutcomes(a) != 1 {
		t.Errorf("told %+v, and of %d outcomes that they are not known", a.States(), unknownOutcomes(a))
	}
	b.Accepted(a.UID, "still here") // its number does not follow on what the old state has taken
	harness.Eventually(t, harness.Patience, func() error {
		if got := a.Texts(); len(got) < 3 || got[len(got)-1] != "still here" {
			return fmt.Errorf("shown %q", got)
		}
		return nil
	})
	a.Leave()
	if file.installation() == was {
		t.Error("the restored store goes by its old installation id")
	}
	b.Leave()
}

// The token in a backup is old, so its first login is refused. The next one must be found out as the backup's all the same, or what it
// sends under numbers that were used would be taken for repeats.
func TestRestoredBackupWithAnOldToken(t *testing.T) {
	b := person(t, "b").Login()
	file, backup := newStoreFile(t, "a.db"), newStoreFile(t, "backup.db")
	var old atomic.Bool
	a := person(t, "a", harness.Keeping(file.open()), func(c *gatepost.Config) {
		token := c.Token
		c.Token = func(ctx context.Context) (string, error) {
			if old.CompareAndSwap(true, false) {
				return "old", nil
			}
			return token(ctx)
		}
	}).Login()
	a.Accepted(b.UID, "before")
	a.Close()
	file.copyTo(backup)
	a.Restart(file.open)
	a.Login()
	forgotten := texts("forgotten by the backup", 10)
	for _, text := range forgotten {
		a.Accepted(b.UID, text)
	}
	b.Wants(slices.Concat([]string{"before"}, forgotten)...)
	a.Close()

	backup.copyTo(file)
	a.Restart(file.open)
	old.Store(true)
	if err := a.TryLogin(); harness.Code(err) != status.BadToken {
		t.Fatal(err)
	}
	a.Login()
	after := texts("after", 5)
	for _, text := range after {
		a.Accepted(b.UID, text)
	}
	b.Wants(slices.Concat([]string{"before"}, forgotten, after)...)
	a.Leave()
	b.Leave()
}
