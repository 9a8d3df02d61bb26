package sql

import (
	stdsql "database/sql"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/callbacks"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"
)

// sqliteDialector tells gorm how SQLite writes what this package asks of it: selects, inserts and updates of named columns.
// It takes an opened pool and reaches for nothing, and it has no migrator: the DDL lies in migrations/ alone.
type sqliteDialector struct{ pool *stdsql.DB }

// Name implements gorm.Dialector.
func (sqliteDialector) Name() string { return DriverSQLite }

// Initialize implements gorm.Dialector.
func (d sqliteDialector) Initialize(g *gorm.DB) error {
	g.ConnPool = d.pool
	callbacks.RegisterDefaultCallbacks(g, &callbacks.Config{LastInsertIDReversed: true})
	return nil
}

// Migrator implements gorm.Dialector: there is none.
func (sqliteDialector) Migrator(*gorm.DB) gorm.Migrator { return nil }

// DataTypeOf implements gorm.Dialector; only a migrator asks for it.
func (sqliteDialector) DataTypeOf(f *schema.Field) string { return string(f.DataType) }

// DefaultValueOf implements gorm.Dialector: SQLite has no word for a column's default.
func (sqliteDialector) DefaultValueOf(*schema.Field) clause.Expression {
	return clause.Expr{SQL: "NULL"}
}

// BindVarTo implements gorm.Dialector.
func (sqliteDialector) BindVarTo(w clause.Writer, _ *gorm.Statement, _ any) { w.WriteByte('?') }

// QuoteTo implements gorm.Dialector. Backticks, since SQLite takes an unknown name in double quotes for a string.
func (sqliteDialector) QuoteTo(w clause.Writer, name string) {
	w.WriteByte('`')
	w.WriteString(strings.ReplaceAll(strings.ReplaceAll(name, "`", "``"), ".", "`.`"))
	w.WriteByte('`')
}

// Explain implements gorm.Dialector: the statement as it is logged.
func (sqliteDialector) Explain(text string, vars ...any) string {
	return logger.ExplainSQL(text, nil, "'", vars...)
}
