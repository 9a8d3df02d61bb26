package appserver_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/gatepost/gatepost/sdk/go/appserver"
)

func ExampleClient_Push() {
	client, err := appserver.New(appserver.Config{Addresses: []string{"127.0.0.1:7130"}, Key: os.Getenv("APP_KEY")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	results, err := client.Push(context.Background(), appserver.Push{UIDs: []string{"alice", "bob"}, Type: "order", Content: []byte(`{"id":7}`)})
	if err != nil {
		fmt.Println("to be tried again later, with this ID:", err)
	}
	if results == nil {
		return
	}
	for _, r := range results.Users {
		fmt.Println(results.ID, r.UID, r.Outcome, r.Reason)
	}
}

func ExampleConsumer() {
	consumer, err := appserver.NewConsumer(appserver.ConsumerConfig{
		Brokers: []string{"127.0.0.1:7140"}, Group: "billing", Topics: []string{"uplinks"},
		Handler: func(ctx context.Context, e *appserver.Event) error {
			fmt.Println(e.UID, e.Device, e.Type, string(e.Content))
			return nil // now it is committed
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := consumer.Run(ctx); err != nil {
		fmt.Println(err)
	}
}
