package main

import (
	"context"
	"errors"
	"time"

	"github.com/gatepost/gatepost/cmd/gatepost/internal/chat"
	"github.com/gatepost/gatepost/cmd/gatepost/internal/clientstore"
	"github.com/gatepost/gatepost/cmd/gatepost/internal/target"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/spf13/cobra"
)

func chatCommand() *cobra.Command {
	var to target.Flags
	var domain, uid, peer, token string
	var copies bool
	cmd := &cobra.Command{
		Use:   "chat",
		Short: "Chat from this terminal with a user at another one",
		Long: `Chat with another user: each line is a message. It is kept durably before it leaves, and "accepted" means that the
platform has committed it. Whoever is away is shown his messages when he comes back. ✓✓ marks that the other one's app has shown a message.

What is not accepted yet and what was received lies in the data directory under clients/, a directory for each platform (by its
pinned key) and a file for each user: end the chat, or kill it, and start it again. "maybe repeated" marks a message that was being shown when the process died; "late" one that its
successor overtook. A second chat of the same user on another machine wins, and this one is told.`,
		Example: `  gatepost chat --data-dir data --uid alice --to bob
  gatepost chat --data-dir data --uid bob --to alice      # in another terminal, now or later
  gatepost chat --gate tcp://10.0.0.21:7100 --keys-file keys.json --uid alice --to bob`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if uid == "" || peer == "" {
				return usageError{errors.New("--uid and --to are missing: who writes to whom?")}
			}
			t, err := to.Find()
			if err != nil {
				return err
			}
			if token == "" && !t.CanMint() {
				return usageError{errors.New("there is nothing to log in with: name the platform's secrets by --keys-file, or a token by --token")}
			}
			cfg := t.Client(gatepost.User{Domain: domain, UID: uid}, gatepost.Desktop)
			if token != "" {
				cfg.Token = func(context.Context) (string, error) { return token, nil }
			}
			path, err := t.StorePath(target.FileName(domain), target.FileName(uid)+".db")
			if err != nil {
				return err
			}
			store, err := clientstore.Open(path)
			if err != nil {
				return err
			}
			cfg.Store = store
			return chat.Run(cmd.Context(), chat.Config{
				Client: cfg, To: gatepost.User{Domain: domain, UID: peer},
				In: cmd.InOrStdin(), Out: cmd.OutOrStdout(), Linger: 5 * time.Second, Copy: copies,
			})
		},
	}
	to.Add(cmd.Flags())
	cmd.Flags().StringVar(&domain, "domain", defaultDomain, "account system of both users")
	cmd.Flags().StringVar(&uid, "uid", "", "who you are")
	cmd.Flags().StringVar(&peer, "to", "", "whom you write to")
	cmd.Flags().BoolVar(&copies, "copy", false, "your own other devices get what you send")
	cmd.Flags().StringVar(&token, "token", "", "token to log in with, instead of one made from the platform's secrets")
	return cmd
}
