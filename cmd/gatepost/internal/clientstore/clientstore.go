// Package clientstore opens the durable store of the clients that live in this binary: chat, and the people of the demo.
package clientstore

import (
	"os"
	"path/filepath"
	"sync"

	"github.com/ncruces/go-sqlite3"
	"github.com/tetratelabs/wazero"

	"github.com/gatepost/gatepost/sdk/go/sqlitestore"
)

// Open is sqlitestore.Open with a kept compilation of SQLite: compiling it takes most of a second, reading what was compiled a fortieth of that.
func Open(path string) (*sqlitestore.Store, error) {
	keepCompiled()
	return sqlitestore.Open(path)
}

// keepCompiled keeps what SQLite was compiled to in the user's cache directory. Without such a directory each process compiles anew.
// It is for a program to decide, not for the SDK: the setting is the process's.
var keepCompiled = sync.OnceFunc(func() {
	dir, err := os.UserCacheDir()
	if err != nil {
		return
	}
	dir = filepath.Join(dir, "gatepost", "wazero")
	if os.MkdirAll(dir, 0o700) != nil {
		return
	}
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return
	}
	sqlite3.RuntimeConfig = wazero.NewRuntimeConfig().WithCompilationCache(cache)
})
