package sql

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/gatepost/gatepost/store"
)

func TestFaultsOfTheSetupSayWhatToDo(t *testing.T) {
	cfg := Default()
	cfg.Driver, cfg.DSN = DriverMySQL, "gp:hunter2@tcp(10.0.0.5:3306)/gatepost"
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for name, c := range map[string]struct {
		err  error
		is   error
		says []string
	}{
		"no database":    {&mysql.MySQLError{Number: 1049, Message: "Unknown database 'gatepost'"}, ErrSetup, []string{"CREATE DATABASE `gatepost`", "10.0.0.5:3306"}},
		"not his":        {&mysql.MySQLError{Number: 1044}, ErrSetup, []string{"GRANT ALL PRIVILEGES ON `gatepost`.* TO 'gp'", "CREATE DATABASE"}},
		"wrong password": {&mysql.MySQLError{Number: 1045}, ErrSetup, []string{`user "gp"`, "password", "sql.dsn"}},
		"a right lacks":  {&mysql.MySQLError{Number: 1142}, ErrSetup, []string{"GRANT"}},
		"a plugin":       {mysql.ErrUnknownPlugin, ErrSetup, []string{"plugin"}},
		"nobody there":   {refused, store.ErrUnavailable, []string{"nobody answers at 10.0.0.5:3306"}},
		"a deadlock":     {&mysql.MySQLError{Number: 1213}, store.ErrUnavailable, nil},
	} {
		err := explain(cfg, mysqlDialect.classify("open", fmt.Errorf("check the schema: %w", c.err)))
		if !errors.Is(err, c.is) || c.is == ErrSetup && errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v is not %v", name, err, c.is)
		}
		for _, want := range c.says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in %v", name, want, err)
			}
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the password is told: %v", name, err)
		}
	}
}

func TestNobodyAtTheAddress(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	cfg := Default()
	cfg.Driver, cfg.DSN = DriverMySQL, "gp:hunter2@tcp("+ln.Addr().String()+")/gatepost"
	_, openErr := Open(cfg)
	for _, err := range []error{openErr, Migrate(t.Context(), cfg)} {
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, ErrSetup) || !strings.Contains(err.Error(), "nobody answers at "+ln.Addr().String()) {
			t.Error(err)
		}
	}
}
