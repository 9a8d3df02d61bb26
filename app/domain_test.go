package app

import (
	"strings"
	"testing"
	"time"

	"github.com/gatepost/gatepost/logic"
	"github.com/gatepost/gatepost/mq"
	"github.com/google/go-cmp/cmp"
)

const twoDomains = `kafka: {brokers: ["k1:9092"]}
domains:
  "*": {}
  shop.example:
    accept_from: [drivers]
    unknown_receivers: refuse
    uplinks: {topics: {"order.*": orders, position: positions}, default: rest}
    hook: {url: "http://127.0.0.1:1/may", away: allow}
    limits: {messages: 50, life: 24h}
    events: {topic: events, waiting: true}
`

func TestDomainsAreReadOverTheirDefaults(t *testing.T) {
	cfg, err := Load(Logic, Sources{File: write(t, "c.yaml", twoDomains)})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Domain{"*": defaultDomain(), "shop.example": {
		Auth: defaultDomain().Auth, AcceptFrom: []string{"drivers"}, UnknownReceivers: "refuse",
		Uplinks: mq.TopicMap{Topics: map[string]string{"order.*": "orders", "position": "positions"}, Default: "rest"},
		Hook:    DomainHook{URL: "http://127.0.0.1:1/may", Timeout: time.Second, Away: "allow"},
		Limits:  DomainLimits{Messages: 50, Life: 24 * time.Hour},
		Events:  DomainEvents{Topic: "events", Waiting: true},
	}}
	if d := cmp.Diff(want, cfg.Domains); d != "" {
		t.Error(d)
	}
	if err := cfg.validateDomains(Logic); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff([]string{"events", "orders", "positions", "rest"}, topics(cfg.Domains)); d != "" {
		t.Error(d)
	}
	printed, err := cfg.Print(Logic)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(Logic, Sources{File: write(t, "c.yaml", string(printed))})
	if err != nil {
		t.Fatalf("%v\n%s", err, printed)
	}
	if d := cmp.Diff(cfg.Domains, again.Domains, equateEmpty); d != "" {
		t.Errorf("what was printed loads as something else: %s\n%s", d, printed)
	}
}

// Unless a domain says otherwise, its hook holds up nobody when it is away.
func TestHookThatIsAwayRefuses(t *testing.T) {
	d := defaultDomain()
	d.Hook.URL = "http://127.0.0.1:1/may"
	var closers []func()
	built, err := d.build(nil, &closers)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range closers {
		f()
	}
	if built.MayWrite == nil || built.HookAway != logic.HookAwayRefuse {
		t.Errorf("%+v", built)
	}
}

func TestDomainsByNameHaveTheDefaults(t *testing.T) {
	for _, c := range []struct {
		role  Role
		set   []string
		topic string
		from  []string
	}{
		{Standalone, nil, DefaultTopic, []string{"*"}},
		{Standalone, []string{"kafka.listen="}, "", []string{"*"}},
		{Logic, nil, "", nil},
		{Logic, []string{"kafka.brokers=k:1"}, DefaultTopic, nil},
	} {
		cfg, err := Load(c.role, Sources{Environ: []string{"GATEPOST_DOMAINS=x,y"}, Set: append(c.set, "domains=shop,drivers")})
		if err != nil {
			t.Fatal(err)
		}
		d, ok := cfg.Domains["drivers"]
		if len(cfg.Domains) != 2 || !ok || d.Auth.Kind != "token" || d.Uplinks.Default != c.topic || !cmp.Equal(d.AcceptFrom, c.from, equateEmpty) {
			t.Errorf("%s %v: %+v", c.role, c.set, cfg.Domains)
		}
	}
	cfg, err := Load(Standalone, Sources{Set: []string{"kafka.listen="}})
	if err != nil || cfg.Domains["*"].Uplinks.Default != "" {
		t.Errorf("without a Kafka: %+v, %v", cfg.Domains, err)
	}
	cfg, err = Load(Logic, Sources{File: write(t, "c.yaml", twoDomains), Set: []string{"domains=drivers"}})
	if err != nil || len(cfg.Domains) != 1 {
		t.Errorf("names do not replace those in the file: %+v, %v", cfg.Domains, err)
	}
}

func TestFaultsOfDomainsAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		want []string
	}{
		"the old list": {"domains: [shop, drivers]\n", []string{"domains is a map", "shop: {auth: {kind: token}"}},
		"unknown keys": {"domains: {shop: {aut: 1, uplinks: {topix: {}}}, a.b: {limits: {life: soon}}}\nlog: {levle: info}\n",
			[]string{`"domains.shop.aut"`, `"domains.shop.uplinks.topix"`, "domains.a.b.limits.life", `"log.levle"`}},
		"no settings": {"domains: {shop: 5}\n", []string{"domains.shop"}},
		"values": {`domains:
  a/b: {auth: {kind: magic}, unknown_receivers: maybe, accept_from: [""]}
  b: {hook: {url: nowhere, away: never, timeout: 0s, remember: -1s}, limits: {content_bytes: 99999, life: 200h, inbox_bound: 15, pushes: -1}}
  c: {uplinks: {default: t}}
  d: {events: {presence: true}}
  e: {events: {topic: t}}
  f: {events: {topic: "no topic", presence: true}}
`, []string{"domains.a/b: a name", "auth.kind", "unknown_receivers", "accept_from", "hook.url", "hook.away", "hook.timeout", "hook.remember",
			"limits.content_bytes", "limits.life", "limits.inbox_bound is 15: must be 0, or at least 16", "limits.pushes", "domains.f: events: ", "domains.c: topics are named (t), and there is no Kafka", "domains.d: events.topic", "domains.e: events.topic"}},
	} {
		cfg, err := Load(Logic, Sources{File: write(t, "c.yaml", c.file)})
		if err == nil {
			err = cfg.validateDomains(Logic)
		}
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in %v", name, want, err)
			}
		}
	}
}
