package sql

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/gatepost/gatepost/store"
)

// AppKeys holds the credentials of app-servers.
type AppKeys struct{ db *DB }

// AppKeys returns the credentials in this database.
func (db *DB) AppKeys() *AppKeys { return &AppKeys{db} }

// appKey is the table of credentials, for gorm.
type appKey struct {
	ID        string `gorm:"primaryKey"`
	Domain    string
	Rights    string
	Hash      []byte
	CreatedAt int64 `gorm:"autoCreateTime:false"`
	RevokedAt int64
}

// TableName implements gorm's Tabler.
func (appKey) TableName() string { return "app_key" }

var appKeyColumns = []string{"id", "domain", "rights", "hash", "created_at", "revoked_at"}

func (r *appKey) key() store.AppKey {
	k := store.AppKey{ID: r.ID, Domain: r.Domain, CreatedAt: fromMillis(r.CreatedAt)}
	if r.Rights != "" {
		k.Rights = strings.Split(r.Rights, " ")
	}
	if r.RevokedAt != 0 {
		k.RevokedAt = fromMillis(r.RevokedAt)
	}
	copy(k.Hash[:], r.Hash)
	return k
}

// Create stores a key. Its id must be new; rights are words without spaces.
func (a *AppKeys) Create(ctx context.Context, k store.AppKey) error {
	for _, r := range k.Rights {
		if r == "" || strings.ContainsAny(r, " \t\n") {
			return fmt.Errorf("create app key: %w: right %q is not a word", errData, r)
		}
	}
	row := appKey{ID: k.ID, Domain: k.Domain, Rights: strings.Join(k.Rights, " "), Hash: k.Hash[:], CreatedAt: millis(k.CreatedAt)}
	// Index PRIMARY.
	err := a.db.on(ctx, a.db.write).Select(appKeyColumns).Create(&row).Error
	return a.db.d.classify("create app key", err)
}

// List returns the keys of a domain, revoked ones too, by id.
func (a *AppKeys) List(ctx context.Context, domain string) ([]store.AppKey, error) {
	var rows []appKey
	// Index app_key_domain (domain, id).
	err := a.db.on(ctx, a.db.read).Select(appKeyColumns).Where("domain = ?", domain).Order("id").Find(&rows).Error
	if err != nil {
		return nil, a.db.d.classify("list app keys", err)
	}
	keys := make([]store.AppKey, len(rows))
	for i := range rows {
		keys[i] = rows[i].key()
	}
	return keys, nil
}

// Get returns a key by its id; store.ErrNotFound.
func (a *AppKeys) Get(ctx context.Context, id string) (store.AppKey, error) {
	var row appKey
	// Index PRIMARY.
	err := a.db.on(ctx, a.db.read).Select(appKeyColumns).Where("id = ?", id).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return store.AppKey{}, fmt.Errorf("app key %q: %w", id, store.ErrNotFound)
	}
	if err != nil {
		return store.AppKey{}, a.db.d.classify("get app key", err)
	}
	return row.key(), nil
}

// Revoke revokes a key for good; the first revocation's time stays. store.ErrNotFound.
func (a *AppKeys) Revoke(ctx context.Context, id string, at time.Time) error {
	if _, err := a.Get(ctx, id); err != nil {
		return err
	}
	// Index PRIMARY.
	err := a.db.on(ctx, a.db.write).Model(&appKey{}).Where("id = ? AND revoked_at = 0", id).UpdateColumn("revoked_at", millis(at)).Error
	return a.db.d.classify("revoke app key", err)
}
