package main

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/gatepost/gatepost/audit/bench"
	"github.com/gatepost/gatepost/audit/limit"
	"github.com/gatepost/gatepost/audit/platform"
	"github.com/spf13/cobra"
)

// databaseName is what --depth-database may be.
var databaseName = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)

// checkDatabase checks what is asked of the database below a cluster.
func (f *benchFlags) checkDatabase(deep bool, depth int64, delayed bool, delay time.Duration) error {
	s := &f.servers
	switch {
	case deep && depth < 0:
		return fmt.Errorf("--depth %d: must not be negative", depth)
	case deep && s.backing == "":
		return errors.New("--depth is for --backing")
	case s.depthDatabase != "" && !deep:
		return errors.New("--depth-database is for --depth")
	case s.depthDatabase != "" && !databaseName.MatchString(s.depthDatabase):
		return fmt.Errorf("--depth-database %s: must be letters, digits and underscores, at most 64", s.depthDatabase)
	case delayed && !s.cluster():
		return errors.New("--commit-delay is for --backing or --mysql")
	case delay < 0:
		return fmt.Errorf("--commit-delay %s: must not be negative", delay)
	}
	return nil
}

// pulledUsers are those of the waiting users whose pull is timed.
const pulledUsers = 200

// deepen puts rows into the inbox of users who are away, and times a pull of 100 for some of them; nil: there are too few rows for it.
func (o *opened) deepen(rows int64) (*bench.Latency, error) {
	r := limit.Resting{DSN: o.database, Domain: platform.Domain, Rows: rows, Size: o.flags.load.Size}
	err := fill(o.cmd, r)
	o.alone.deep = o.database
	if err != nil || rows < limit.RowsPerUser {
		return nil, err
	}
	uids := make([]string, min(pulledUsers, r.Users()))
	for i := range uids {
		uids[i] = r.UID(int64(i) * r.Users() / int64(len(uids)))
	}
	return bench.Pulls(o.cmd.Context(), o.target, uids)
}

// fill puts in what is missing, and tells how far it is.
func fill(cmd *cobra.Command, r limit.Resting) error {
	return r.Fill(cmd.Context(), func(n int64) {
		fmt.Fprintf(cmd.ErrOrStderr(), "depth      %d of %d rows\n", n, r.Rows)
	})
}

// waiting makes a database with waiting rows on the server that dsn names: name, which stays, or one that drop removes.
func waiting(cmd *cobra.Command, dsn, name string, rows int64, size int) (deep string, drop func() error, err error) {
	drop = func() error { return nil }
	if name != "" {
		deep, err = limit.KeptDatabase(cmd.Context(), dsn, name)
	} else {
		deep, drop, err = platform.CreateDatabase(cmd.Context(), dsn, "gatepost_bench")
	}
	if err != nil {
		return "", func() error { return nil }, err
	}
	return deep, drop, fill(cmd, limit.Resting{DSN: deep, Domain: platform.Domain, Rows: rows, Size: size})
}
