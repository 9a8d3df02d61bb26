package sql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// checkDurability warns of every setting under which a committed message could be lost (G1), and exports one gauge for each. It refuses nothing:
// an operator may have bought durability elsewhere.
func (db *DB) checkDurability(ctx context.Context, logger *slog.Logger, metrics prometheus.Registerer) error {
	checks, err := db.durability(ctx)
	if err != nil {
		return err
	}
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "gatepost_store_durable",
		Help: "1 when the named setting of the database keeps what was committed, 0 when a crash may lose it.",
	}, []string{"setting"})
	if metrics != nil {
		if err := metrics.Register(gauge); err != nil {
			var there prometheus.AlreadyRegisteredError
			if !errors.As(err, &there) {
				return fmt.Errorf("register metrics: %w", err)
			}
			gauge = there.ExistingCollector.(*prometheus.GaugeVec)
		}
	}
	for _, c := range checks {
		value := 1.0
		if !c.ok {
			value = 0
			logger.Warn("the database may lose committed messages", slog.String("setting", c.setting), slog.String("value", c.value), slog.String("wanted", c.wanted))
		}
		gauge.WithLabelValues(c.setting).Set(value)
	}
	return nil
}

// setting is one setting of the database and what it should be.
type setting struct {
	setting, value, wanted string
	ok                     bool
}

func (db *DB) durability(ctx context.Context) ([]setting, error) {
	if db.d == &sqliteDialect {
		var journal, synchronous string
		if err := db.write.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&journal); err != nil {
			return nil, err
		}
		if err := db.write.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&synchronous); err != nil {
			return nil, err
		}
		return []setting{
			{"journal_mode", journal, "wal", journal == "wal"},
			{"synchronous", synchronous, "2", synchronous == "2" || synchronous == "3"},
		}, nil
	}
	var flush, binlog, sync, mode, autocommit string
	if err := db.write.QueryRowContext(ctx, "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.log_bin, @@GLOBAL.sync_binlog, @@SESSION.sql_mode, @@SESSION.autocommit").
		Scan(&flush, &binlog, &sync, &mode, &autocommit); err != nil {
		return nil, err
	}
	return []setting{
		{"innodb_flush_log_at_trx_commit", flush, "1", flush == "1"},
		{"sync_binlog", sync, "1", sync == "1" || binlog == "0"},
		{"autocommit", autocommit, "1", autocommit == "1"},
		{"sql_mode", mode, "STRICT_ALL_TABLES", strings.Contains(mode, "STRICT_ALL_TABLES")},
	}, nil
}
