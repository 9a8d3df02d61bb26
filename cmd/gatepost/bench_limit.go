package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/gatepost/gatepost/audit"
	"github.com/gatepost/gatepost/audit/bench"
	"github.com/gatepost/gatepost/audit/limit"
	"github.com/gatepost/gatepost/audit/platform"
	"github.com/spf13/cobra"
)

// parts are what a platform stands on, to be measured alone.
type parts struct {
	mysql    string   // DSN with the right to create databases; "": SQLite
	deep     string   // DSN of a database with waiting rows, beside which is measured; "": in one of its own
	dir      string   // for SQLite
	kafka    []string // brokers; nil: there are none
	known    bool     // whether mysql and dir say where the database is
	servers  []audit.Server
	size     int
	users    int // of the records; 0: 200
	inFlight int // records without an outcome, as the load has them; 0: 20,000
	took     time.Duration
	progress io.Writer
	database *limit.Database // opened when it is needed first
}

// parts of an open platform.
func (f *benchFlags) parts(o *openServers, cmd *cobra.Command) *parts {
	p := &parts{mysql: f.servers.mysql, dir: o.dir, known: o.local != nil, servers: o.processes(), size: f.load.Size, took: f.limitTime, progress: cmd.ErrOrStderr()}
	if o.backing != nil {
		p.mysql = o.backing.Address(platform.MariaDB)
	}
	if o.local != nil {
		p.kafka = o.local.Brokers()
	}
	return p
}

// aPart measures one part of them alone.
type aPart func(context.Context, *parts) (*bench.Limit, error)

// beside runs load, and with --limit part alone before and after it; rate is what is compared with it, nil: nothing is.
func (o *opened) beside(part aPart, load func(context.Context) (*bench.Result, error), rate func(*bench.Result) float64) (r *bench.Result, err error) {
	ctx := o.cmd.Context()
	if !o.flags.limit {
		return load(ctx)
	}
	defer func() { err = errors.Join(err, o.alone.close()) }()
	before, err := part(ctx, o.alone)
	if err != nil {
		return nil, err
	}
	if r, err = load(ctx); err != nil {
		return nil, err
	}
	after, err := part(ctx, o.alone)
	if err != nil {
		return nil, err
	}
	ratio := 0.0
	if rate != nil {
		ratio = rate(r)
	}
	r.SetLimit(before, after, ratio)
	return r, nil
}

func (p *parts) close() error {
	if p.database == nil {
		return nil
	}
	err := p.database.Close()
	p.database = nil
	return err
}

func (p *parts) open(ctx context.Context) (_ *limit.Database, err error) {
	switch {
	case p.database != nil:
	case p.deep != "":
		p.database, err = limit.OpenMySQLIn(ctx, p.deep, p.size)
	case p.mysql != "":
		p.database, err = limit.OpenMySQL(ctx, p.mysql, p.size)
	case p.known:
		p.database, err = limit.OpenSQLite(ctx, p.dir, p.size)
	default:
		return nil, usageError{errors.New("--limit is for --servers local, whose database is known")}
	}
	return p.database, err
}

// limitDatabase puts rows in and takes them out.
func limitDatabase(ctx context.Context, p *parts) (*bench.Limit, error) {
	db, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	plan, err := db.FindPlan(ctx, func(r limit.Rate) { fmt.Fprintf(p.progress, "limit      database: %8.0f/s by %s\n", r.PerS, r.Plan) })
	if err != nil {
		return nil, err
	}
	l := &bench.Limit{What: "database", How: plan.String()}
	l.ClientCPUUS, l.ServerCPU, err = bench.Cost(p.databaseProcess(), func() (uint64, error) {
		r, err := db.Cycle(ctx, plan, p.took)
		l.PerS = r.PerS
		return r.Rows, err
	})
	if err == nil {
		fmt.Fprintf(p.progress, "limit      database: %8.0f/s for %s\n", l.PerS, p.took)
	}
	return l, err
}

// databaseProcess is the process of the database; nil when it is not known.
func (p *parts) databaseProcess() []audit.Server {
	for _, s := range p.servers {
		if s.Name == platform.MariaDB || s.Name == "mysql" {
			return []audit.Server{s}
		}
	}
	return nil
}

// limitCommits puts rows in at a rate.
func limitCommits(rate float64) aPart {
	return func(ctx context.Context, p *parts) (*bench.Limit, error) {
		db, err := p.open(ctx)
		if err != nil {
			return nil, err
		}
		l, err := db.CommitAt(ctx, rate, p.took)
		if err != nil {
			return nil, err
		}
		commit := bench.Latency(l)
		fmt.Fprintf(p.progress, "limit      database at %.0f/s: %s\n", rate, commit)
		return &bench.Limit{What: "database", CommitBeforeMS: &commit}, nil
	}
}

// limitKafka produces records.
func limitKafka(ctx context.Context, p *parts) (*bench.Limit, error) {
	if len(p.kafka) == 0 {
		return nil, usageError{errors.New("no Kafka is known: name one by --kafka or --backing")}
	}
	var kafka []audit.Server
	for _, s := range p.servers {
		if s.Name == platform.Kafka || s.Name == "standalone" {
			kafka = append(kafka, s)
		}
	}
	l := &bench.Limit{What: "kafka", How: "sarama's AsyncProducer, idempotent, acknowledged by all in-sync replicas"}
	var err error
	l.ClientCPUUS, l.ServerCPU, err = bench.Cost(kafka, func() (n uint64, err error) {
		l.PerS, n, err = limit.Kafka{Brokers: p.kafka, Size: p.size, Users: p.users, InFlight: p.inFlight}.Produce(ctx, p.took)
		return n, err
	})
	if err == nil {
		fmt.Fprintf(p.progress, "limit      Kafka: %.0f/s for %s\n", l.PerS, p.took)
	}
	return l, err
}

// limitWire sends frames, batch of them in each write.
func limitWire(batch int) aPart {
	return func(ctx context.Context, p *parts) (*bench.Limit, error) {
		l := &bench.Limit{What: "wire", How: fmt.Sprintf("sealed frames one way over loopback, %d in a write", batch)}
		var err error
		l.ClientCPUUS, _, err = bench.Cost( // sender and receiver are both in this process
			[]audit.Server{{Name: "this", PID: os.Getpid()}}, func() (n uint64, err error) {
				l.PerS, n, err = limit.Wire{Size: p.size, Batch: batch}.Frames(ctx, p.took)
				return n, err
			})
		if err == nil {
			fmt.Fprintf(p.progress, "limit      wire: %.0f frames/s for %s\n", l.PerS, p.took)
		}
		return l, err
	}
}

// limits is the result of bench limit.
type limits struct {
	Bench   string        `json:"bench"`
	Commit  string        `json:"commit,omitempty"`
	Machine bench.Machine `json:"machine"`
	Command []string      `json:"command,omitempty"`

	DepthRows int64          `json:"depth_rows,omitempty"`
	Limits    []*bench.Limit `json:"limits"`
}

func benchLimitCommand() *cobra.Command {
	p := &parts{known: true}
	var backing, depthDatabase string
	var depth int64
	var rate float64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "limit",
		Short: "Measure what the database, Kafka and the wire do alone",
		Long: `The parts below the platform alone, on this machine, with rows, records and frames like the platform's: the database inserts and removes rows in
the batches that prove fastest (SQLite in a temporary directory, or the MySQL or MariaDB that is named), commits rows that come at --rate, sarama
produces into Kafka when one is named, and sealed frames go over loopback. With --depth so many rows wait in the same table meanwhile. No platform
is started.`,
		Example: `  gatepost bench limit
  gatepost bench limit --backing .cache/servers/bench --json
  gatepost bench limit --mysql 'root@tcp(127.0.0.1:3306)/' --kafka 127.0.0.1:9092`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			deep := cmd.Flags().Changed("depth")
			switch {
			case p.took <= 0 || p.size < 1 || rate <= 0:
				return usageError{errors.New("--duration, --size and --rate must be above zero")}
			case deep && (depth < 0 || backing == "" && p.mysql == ""):
				return usageError{errors.New("--depth must not be negative and is for --backing or --mysql")}
			case depthDatabase != "" && (!deep || !databaseName.MatchString(depthDatabase)):
				return usageError{errors.New("--depth-database is for --depth, and has letters, digits and underscores, at most 64")}
			}
			if backing != "" {
				if p.mysql != "" || len(p.kafka) > 0 {
					return usageError{errors.New("--backing names MariaDB and Kafka: --mysql and --kafka are for servers that are elsewhere")}
				}
				b, err := platform.OpenBacking(backing, "")
				if err != nil {
					return usageError{fmt.Errorf("--backing: %w", err)}
				}
				p.mysql = b.Address(platform.MariaDB)
				if kafka := b.Address(platform.Kafka); kafka != "" {
					p.kafka = []string{kafka}
				}
				for _, s := range b.Processes() {
					p.servers = append(p.servers, audit.Server(s))
				}
			}
			p.progress = cmd.ErrOrStderr()
			if p.dir, err = os.MkdirTemp("", "gatepost-limit-"); err != nil {
				return err
			}
			drop := func() error { return nil }
			defer func() { err = errors.Join(err, p.close(), drop(), os.RemoveAll(p.dir)) }()
			if deep {
				if p.deep, drop, err = waiting(cmd, p.mysql, depthDatabase, depth, p.size); err != nil {
					return err
				}
			}
			measure := []aPart{limitDatabase, limitCommits(rate)}
			if len(p.kafka) > 0 {
				measure = append(measure, limitKafka)
			}
			measure = append(measure, limitWire(1), limitWire(16))
			out := limits{Bench: "limit", DepthRows: depth, Commit: bench.ThisCommit(), Machine: bench.ThisMachine(), Command: commandLine(os.Args)}
			for _, part := range measure {
				l, err := part(cmd.Context(), p)
				if err != nil {
					return err
				}
				out.Limits = append(out.Limits, l)
				if !asJSON {
					fmt.Fprint(cmd.OutOrStdout(), l)
				}
			}
			if asJSON {
				return report(cmd.OutOrStdout(), true, out, audit.Verdict{Pass: true})
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&backing, "backing", "", "directory of the servers that deploy/servers/up.sh has started")
	cmd.Flags().StringVar(&p.mysql, "mysql", "", "data source name of a MySQL or MariaDB with the right to create databases (default: SQLite)")
	cmd.Flags().StringSliceVar(&p.kafka, "kafka", nil, "Kafka brokers, host:port (default: none is measured)")
	cmd.Flags().Int64Var(&depth, "depth", 0, "with --backing or --mysql: rows that wait in the same table")
	cmd.Flags().StringVar(&depthDatabase, "depth-database", "", "with --depth: name of a database that keeps them (default: one of this run)")
	cmd.Flags().IntVar(&p.size, "size", 200, "bytes of content")
	cmd.Flags().DurationVar(&p.took, "duration", 5*time.Second, "how long to measure each")
	cmd.Flags().Float64Var(&rate, "rate", 1000, "rows a second whose commits are timed")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}
