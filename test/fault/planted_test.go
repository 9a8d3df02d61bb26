//go:build e2e

package fault

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/audit/faults"
	"github.com/gatepost/gatepost/audit/platform"
	"github.com/gatepost/gatepost/test/harness"
)

// statement is a fault behind the platform's back: its processes do all that they should, and the database lies.
type statement struct {
	db  *sql.DB
	sql string
}

func (s statement) Name() string { return "a lie of the database" }

func (s statement) Strike(ctx context.Context, _ *rand.Rand) (string, error) {
	_, err := s.db.ExecContext(ctx, s.sql)
	if fault := new(mysql.MySQLError); errors.As(err, &fault) && fault.Number == 1213 {
		return "", nil // it met the platform in a deadlock, and lost: the next one may have more luck
	}
	return "", err
}

// The audit is honest over real servers too: what vanishes or changes in the database is found, under its name and with its history.
func TestAuditFindsWhatIsPlantedInTheDatabase(t *testing.T) {
	for _, tt := range []struct {
		what, sql string
		kind      audit.Kind
		count     func(audit.Verdict) int
		history   string
	}{
		{"rows vanish", "DELETE FROM inbox ORDER BY msg_id DESC LIMIT 20", audit.Lost, func(v audit.Verdict) int { return v.Lost }, "faults about it"},
		{"contents change", "UPDATE inbox SET content = CONCAT(content, 'x') ORDER BY msg_id DESC LIMIT 20", audit.Phantom,
			func(v audit.Verdict) int { return v.Phantoms }, "no message of this run"},
		{"rows change hands", "UPDATE inbox, (SELECT uid AS thief FROM device_mask ORDER BY RAND() LIMIT 1) t SET inbox.uid = t.thief WHERE inbox.uid <> t.thief",
			audit.WrongReceiver, func(v audit.Verdict) int { return v.WrongReceivers }, "shown by"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			p, db := startOverDatabase(t)
			target := audit.Target{Gates: p.Addresses(), Keys: p.Keys(), Domain: platform.Domain, Token: p.Token, Timing: faults.Timing()}
			dial, err := target.Dial()
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			report, err := audit.Run(ctx, audit.Config{
				Dial: dial, Seed: 1, Domain: platform.Domain, Users: 8, Classes: []audit.Class{1, 2}, Traffic: audit.Mixed, Window: 16, Size: 100,
				Pause: 2 * time.Millisecond, Duration: 2 * time.Second, Away: 0.5, Steady: time.Second, Settle: 2 * time.Second,
				Faults: []audit.Fault{statement{db, tt.sql}}, FaultEvery: 50 * time.Millisecond,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Log(report.Verdict)
			if report.Verdict.Pass || tt.count(report.Verdict) == 0 {
				t.Fatal("not found")
			}
			for _, v := range report.Verdict.Violations {
				if v.Kind == tt.kind && v.Message != "" && strings.Contains(v.History, tt.history) {
					t.Logf("%s: %s: %s", v.Kind, v.Message, v.History)
					return
				}
			}
			t.Errorf("no violation %q with %q in its history: %+v", tt.kind, tt.history, report.Verdict.Violations)
		})
	}
}

// startOverDatabase starts a gate and a logic node over a database that the test can reach, too.
func startOverDatabase(t *testing.T) (*platform.Platform, *sql.DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dsn, drop, err := platform.CreateDatabase(ctx, servers.Address(platform.MariaDB), "gatepost_test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(); err != nil {
			t.Error(err)
		}
	})
	p, err := platform.Start(ctx, platform.Options{Binary: bin, Dir: t.TempDir(), Gates: 1, Logic: 1, MySQL: dsn, Redis: servers.Address(platform.Redis)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(fmt.Errorf("open the database of the platform: %w", err))
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, db
}
