package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatepost/gatepost/app"
	gatepost "github.com/gatepost/gatepost/sdk/go"
	"github.com/gatepost/gatepost/sdk/go/appserver"
)

// appServer is what the demo has of an app-server: a client, and the key that was made for it.
type appServer struct {
	client *appserver.Client
	keyID  string
}

// reportGroup is the consumer group of all runs: each goes on where the last one ended.
const reportGroup = "gatepost-demo"

// reportType is the type of the reports of the demo.
const reportType = "position"

// report sends reports and reads them from their topic, as a business service does.
func report(ctx context.Context, r *run) (string, error) {
	rt := r.Target.Runtime
	if rt == nil || len(rt.Kafka) == 0 {
		return "", leftOut("the Kafka of the platform is not known here: it takes the --data-dir of one that has topics")
	}
	topic := topicOf(rt.Topics, r.Domain, reportType)
	if topic == "" {
		return "", leftOut("this account system has no topic for positions")
	}
	if r.alice == nil {
		return "", errNobody
	}
	begin := time.Now()
	var ids, contents []string
	for _, content := range []string{"52.5163,13.3777", "52.5170,13.3889", "52.5186,13.4081"} {
		sending, err := r.alice.client.C2S(ctx, gatepost.Report{Type: reportType, Content: []byte(content)})
		if err != nil {
			return "", err
		}
		if _, err := sending.Wait(ctx); err != nil {
			return "", fmt.Errorf("%s was not accepted: %w", content, err)
		}
		ids, contents = append(ids, sending.ID().String()), append(contents, content)
	}
	accepted := time.Since(begin)

	consuming, stop := context.WithCancel(ctx)
	defer stop()
	var events []*appserver.Event // of alice; all of one user are in one partition, and come one after another
	consumer, err := appserver.NewConsumer(appserver.ConsumerConfig{
		Brokers: rt.Kafka, Group: reportGroup, Topics: []string{topic}, CommitEvery: -1,
		Handler: func(_ context.Context, e *appserver.Event) error {
			if e.Domain != r.Domain || e.UID != r.alice.user.UID || e.Type != reportType {
				return nil
			}
			if events = append(events, e); len(events) == len(ids) {
				stop()
			}
			return nil
		},
	})
	if err != nil {
		return "", err
	}
	if err := consumer.Run(consuming); err != nil && !errors.Is(err, context.Canceled) {
		return "", fmt.Errorf("read %s: %w", topic, err)
	}
	var gotIDs, got []string
	for _, e := range events {
		gotIDs, got = append(gotIDs, e.ID), append(got, string(e.Content))
	}
	if !slices.Equal(gotIDs, ids) || !slices.Equal(got, contents) {
		return "", fmt.Errorf("topic %s holds [%s], want [%s]", topic, strings.Join(got, ", "), strings.Join(contents, ", "))
	}
	last := events[len(events)-1]
	return fmt.Sprintf("3 were accepted within %v; group %s read them from topic %s, partition %d, the last at offset %d",
		accepted.Round(100*time.Microsecond), reportGroup, topic, last.Partition, last.Offset), nil
}

// topicOf is the topic of the reports of a type; empty: there is none.
func topicOf(routes []app.Route, domain, typ string) (topic string) {
	best := -1
	for _, known := range []string{domain, "*"} {
		for _, route := range routes {
			prefix, pattern := strings.CutSuffix(route.Type, "*")
			match, rank := route.Type == typ, len(typ)+1
			if pattern {
				match, rank = strings.HasPrefix(typ, prefix), len(prefix)
			}
			if route.Domain == known && match && rank > best {
				topic, best = route.Topic, rank
			}
		}
		if slices.ContainsFunc(routes, func(route app.Route) bool { return route.Domain == known }) {
			break // an account system with an entry of its own takes nothing from the others' one
		}
	}
	return topic
}

// appKeys is the database of the platform's app keys.
func (r *run) appKeys() (*app.AppKeys, error) {
	cfg, err := app.Load(app.Standalone, app.Sources{})
	if err != nil {
		return nil, err
	}
	cfg.DataDir = r.Target.DataDir
	return app.OpenAppKeys(app.Standalone, cfg)
}

// startAppServer makes an app key, as gatepost app-key add does, and a client that shows it.
func startAppServer(ctx context.Context, r *run) (_ string, err error) {
	rt := r.Target.Runtime
	if rt == nil || rt.Role != app.Standalone || rt.App == "" {
		return "", leftOut("it takes the --data-dir of a standalone, whose database an app key is made in")
	}
	keys, err := r.appKeys()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, keys.Close()) }()
	text, key, err := keys.Add(ctx, r.Domain, []string{"push", "presence"})
	if err != nil {
		return "", err
	}
	r.app = &appServer{keyID: key.ID}
	if r.app.client, err = appserver.New(appserver.Config{Addresses: []string{rt.App}, Key: text}); err != nil {
		return "", err
	}
	return fmt.Sprintf("key %s of account system %s, for %s", key.ID, r.Domain, strings.Join(key.Rights, " and ")), nil
}

// appReady says why no app-server can call; nil: one can.
func (r *run) appReady() error {
	if r.app == nil || r.app.client == nil {
		return leftOut("there is no app key")
	}
	if r.alice == nil || r.bob == nil {
		return errNobody
	}
	return nil
}

// pushTo pushes a text to users, and checks what became of it for each.
func (r *run) pushTo(ctx context.Context, text string, onlineOnly bool, want map[string]appserver.Outcome) error {
	p := appserver.Push{Domain: r.Domain, Type: "order", Content: []byte(text), OnlineOnly: onlineOnly}
	for uid := range want {
		p.UIDs = append(p.UIDs, uid)
	}
	results, err := r.app.client.Push(ctx, p)
	if err != nil {
		return err
	}
	for _, u := range results.Users {
		if u.Outcome != want[u.UID] {
			return fmt.Errorf("push to %s: %v %s, want %v", u.UID, u.Outcome, u.Reason, want[u.UID])
		}
	}
	return nil
}

func pushOnline(ctx context.Context, r *run) (string, error) {
	if err := r.appReady(); err != nil {
		return "", err
	}
	const text = "Your order has left the house."
	begin := time.Now()
	if err := r.pushTo(ctx, text, false, map[string]appserver.Outcome{r.names.alice.UID: appserver.Accepted}); err != nil {
		return "", err
	}
	accepted := time.Since(begin)
	if err := r.alice.expect(ctx, gatepost.User{Domain: r.Domain}, text); err != nil {
		return "", err
	}
	shown := time.Since(begin)
	return fmt.Sprintf("accepted after %v, shown to alice after %v, from %s without a user", accepted.Round(10*time.Microsecond), shown.Round(10*time.Microsecond), r.Domain), nil
}

func pushAway(ctx context.Context, r *run) (string, error) {
	if err := r.appReady(); err != nil {
		return "", err
	}
	if err := r.bob.client.Close(); err != nil {
		return "", fmt.Errorf("bob goes: %w", err)
	}
	r.bob = nil
	for gone := false; !gone; {
		who, err := r.app.client.Presence(ctx, r.Domain, r.names.bob.UID)
		if err != nil {
			return "", err
		}
		if gone = len(who[0].Online) == 0; !gone {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return "", fmt.Errorf("bob left and is still online: %w", ctx.Err())
			}
		}
	}
	const now, later = "Who is there?", "Your order is at the door."
	if err := r.pushTo(ctx, now, true, map[string]appserver.Outcome{r.names.bob.UID: appserver.NotOnline}); err != nil {
		return "", err
	}
	if err := r.pushTo(ctx, later, false, map[string]appserver.Outcome{r.names.bob.UID: appserver.Accepted}); err != nil {
		return "", err
	}
	back := time.Now()
	bob, err := r.login(ctx, r.names.bob, r.store("bob"), nil)
	if err != nil {
		return "", err
	}
	r.bob = bob
	if err := bob.expect(ctx, gatepost.User{Domain: r.Domain}, later); err != nil {
		return "", err
	}
	return fmt.Sprintf("bob was away: the push for those online told so; the other one waited, and was shown %v after he came back", time.Since(back).Round(100*time.Microsecond)), nil
}

func revokeKey(ctx context.Context, r *run) (string, error) {
	if r.app == nil || r.app.client == nil {
		return "", leftOut("there is no app key")
	}
	id, client := r.app.keyID, r.app.client
	if err := r.stopAppServer(ctx); err != nil {
		return "", err
	}
	defer client.Close()
	_, err := client.Presence(ctx, r.Domain, r.names.alice.UID)
	if code := appserver.CodeOf(err); code != appserver.Unauthenticated {
		return "", fmt.Errorf("a call with the revoked key: %v, want %v", err, appserver.Unauthenticated)
	}
	return fmt.Sprintf("the next call with %s was refused: %v", id, err), nil
}

// stopAppServer revokes the key of this run, if there is one. Its client is left to the caller.
func (r *run) stopAppServer(ctx context.Context) (err error) {
	if r.app == nil {
		return nil
	}
	keys, err := r.appKeys()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.Close()) }()
	if err := keys.Revoke(ctx, r.app.keyID); err != nil {
		return err
	}
	r.app = nil
	return nil
}
