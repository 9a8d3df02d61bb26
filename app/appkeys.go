package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/gatepost/gatepost/logic"
	"github.com/gatepost/gatepost/store/sql"
)

// AppKey is the credential of an app-server as it is told of: without its secret.
type AppKey struct {
	ID        string    `json:"id"`
	Domain    string    `json:"domain"`
	Rights    []string  `json:"rights"`
	CreatedAt time.Time `json:"created_at"`
	RevokedAt time.Time `json:"revoked_at,omitzero"` // zero: it is valid
}

// AppRights are the rights that an app key can have.
func AppRights() []string { return logic.AppRights() }

// AppKeys are the credentials in a database. Running processes see a change at the next call of an app-server.
type AppKeys struct {
	db   *sql.DB
	keys *sql.AppKeys
}

// OpenAppKeys opens the database of a process of role: standalone's in its data directory, which may be in use by it, or the one that
// sql.dsn names. It makes and migrates nothing.
func OpenAppKeys(role Role, cfg Config) (*AppKeys, error) {
	if role == Standalone {
		cfg = cfg.standalone()
		cfg.SQL.AutoMigrate = false
		if _, err := os.Stat(cfg.SQL.Path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no database %s: start one by gatepost standalone --data-dir %s, or name another by --mysql", cfg.SQL.Path, cfg.DataDir)
		}
	}
	db, err := sql.Open(cfg.SQL)
	if err != nil {
		return nil, err
	}
	return &AppKeys{db, db.AppKeys()}, nil
}

// Close closes the database.
func (a *AppKeys) Close() error { return a.db.Close() }

// Add makes a key and stores it without its secret. text is what app-servers show; it can be had only here.
func (a *AppKeys) Add(ctx context.Context, domain string, rights []string) (text string, key AppKey, err error) {
	text, k, err := logic.NewAppKey(domain, rights)
	if err != nil {
		return "", AppKey{}, err
	}
	if err := a.keys.Create(ctx, k); err != nil {
		return "", AppKey{}, err
	}
	return text, AppKey{k.ID, k.Domain, k.Rights, k.CreatedAt, k.RevokedAt}, nil
}

// List tells of the keys of a domain, revoked ones too.
func (a *AppKeys) List(ctx context.Context, domain string) ([]AppKey, error) {
	keys, err := a.keys.List(ctx, domain)
	if err != nil {
		return nil, err
	}
	out := make([]AppKey, len(keys))
	for i, k := range keys {
		out[i] = AppKey{k.ID, k.Domain, k.Rights, k.CreatedAt, k.RevokedAt}
	}
	return out, nil
}

// Revoke revokes a key for good.
func (a *AppKeys) Revoke(ctx context.Context, id string) error {
	return a.keys.Revoke(ctx, id, time.Now())
}
