// A program that uses modernc.org/sqlite of its own beside the SDK's store.
package main

import (
	"database/sql"
	"fmt"
	"os"

	"github.com/gatepost/gatepost/sdk/go/sqlitestore"
	_ "modernc.org/sqlite"
)

func main() {
	store, err := sqlitestore.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	defer store.Close()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		panic(err)
	}
	defer db.Close()
	var one int
	if err := db.QueryRow("SELECT 1").Scan(&one); err != nil {
		panic(err)
	}
	fmt.Println("ok", one)
}
