// Package gatepost is the client SDK of the Gatepost message platform.
//
// A Client keeps one connection to a gate. It sends through a durable outbox and shows each message to the app once, in
// the order in which its sender's device sent it, over reconnects and restarts of the app [G1, G2, G3].
//
//	client, err := gatepost.New(gatepost.Config{
//		Gates:     []string{"tcp://gate.example.com:7100"},
//		Keys:      []gatepost.Key{key},
//		User:      gatepost.User{Domain: "shop", UID: "alice"},
//		Device:    gatepost.Android,
//		Token:     fetchToken,
//		Store:     store, // sqlitestore.Open(path), or memstore.New() for a client that may forget
//		OnMessage: show,
//	})
//	err = client.Login(ctx)
//	sending, err := client.C2C(ctx, bob, gatepost.Outgoing{Type: "text", Content: []byte("hello")})
//
// C2S reports to the business services of the user's domain, through the same outbox in an order of its own. Messages may ask for
// a receipt, and for a copy on the user's other devices. App-servers push: such a message has a sender without UID.
//
// # What is remembered
//
// The state of a Client is bounded. Of numbered sequences it keeps a mark each: at most 10,000, of one sender 64, each with up to 64
// gaps, and none that was idle for 30 days. Of unnumbered messages (pushes, receipts) it keeps the last 4,096 ids of each kind, of
// any age; an online-only push is compared with the last 4,096 of its like that this process has seen. What repeats after more than
// that may be shown again. Of targets it keeps 1,024 numbers, and beyond that those used in the last eight days. What waits to be
// sent or shown is bounded by Config.Limits.
//
// # What the app promises
//
// The Store belongs to one user on one device and is opened by one process. Its files lie where the system's backup does
// not restore them. A store that was restored or cloned all the same is found out at its first login: see ErrRestored.
//
// # Callbacks
//
// All callbacks of a Client run one after another, never two at once, on a goroutine of their own. They may send, pull
// and read the state; they must not call Login, Logout or Close, which wait for them.
package gatepost
