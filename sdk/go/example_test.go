package gatepost_test

import (
	"context"
	"fmt"
	"log"

	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/sqlitestore"
)

// A client that sends one message and shows what comes.
func Example() {
	key, err := gatepost.ParseKey("1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	if err != nil {
		log.Fatal(err)
	}
	store, err := sqlitestore.Open("alice.db")
	if err != nil {
		log.Fatal(err)
	}
	client, err := gatepost.New(gatepost.Config{
		Gates:  []string{"tcp://localhost:7100"},
		Keys:   []gatepost.Key{key},
		User:   gatepost.User{Domain: "shop", UID: "alice"},
		Device: gatepost.Desktop,
		Token:  func(context.Context) (string, error) { return "token of the app-server", nil },
		Store:  store,
		OnMessage: func(_ context.Context, m gatepost.Message) error {
			fmt.Println(m.From, string(m.Content))
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()
	if err := client.Login(ctx); err != nil {
		log.Print(err) // a stay-away: the app decides
		return
	}
	sending, err := client.C2C(ctx, gatepost.User{Domain: "shop", UID: "bob"}, gatepost.Outgoing{Type: "text", Content: []byte("hello")})
	if err != nil {
		log.Print(err)
		return
	}
	if _, err := sending.Wait(ctx); err != nil {
		log.Print(err)
	}
}
