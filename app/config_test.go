package app

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
)

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSourcesLieOverEachOther(t *testing.T) {
	file := write(t, "c.yaml", "gate:\n  keepalive: 31s\n  hello_timeout: 32s\n  body_timeout: 33s\n  write_timeout: 34s\n  advertise: [a, b]\n")
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(fs, Standalone)
	if err := fs.Parse([]string{"--tcp", "127.0.0.1:1", "--log-level", "debug"}); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(Standalone, Sources{
		File:    file,
		Environ: []string{"GATEPOST_GATE_HELLO_TIMEOUT=42s", "GATEPOST_GATE_LISTEN_TCP=127.0.0.1:2", "GATEPOST_REDIS_ADDRESSES=a:1, b:2", "GATEPOST_LOG_LEVEL=error", "HOME=/"},
		Flags:   fs,
		Set:     []string{"gate.write_timeout=44s", "log.level=warn"},
	})
	if err != nil {
		t.Fatal(err)
	}
	def := Default(Standalone)
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"default", cfg.Gate.LoginTimeout, def.Gate.LoginTimeout},
		{"file", cfg.Gate.Keepalive, 31 * time.Second},
		{"file, a list replaces the default", cfg.Gate.Advertise, []string{"a", "b"}},
		{"environment over file", cfg.Gate.HelloTimeout, 42 * time.Second},
		{"environment, a list", cfg.Redis.Addresses, []string{"a:1", "b:2"}},
		{"flag over environment", cfg.Gate.ListenTCP, "127.0.0.1:1"},
		{"set over file", cfg.Gate.WriteTimeout, 44 * time.Second},
		{"set over flag", cfg.Log.Level, "warn"},
		{"a flag that was not set says nothing", cfg.Gate.ListenTLS, def.Gate.ListenTLS},
	} {
		if d := cmp.Diff(c.want, c.got); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestUnknownKeysAreRefusedByName(t *testing.T) {
	for name, c := range map[string]struct {
		src  Sources
		want string
	}{
		"file":             {Sources{File: write(t, "c.yaml", "gate:\n  keepalife: 1s\n")}, `"gate.keepalife"`},
		"file, a section":  {Sources{File: write(t, "c.yaml", "gates:\n  keepalive: 1s\n")}, "gate.keepalive"},
		"environment":      {Sources{Environ: []string{"GATEPOST_GATE_KEEPALIFE=1s"}}, "GATEPOST_GATE_KEEPALIFE"},
		"set":              {Sources{Set: []string{"gate.keepalife=1s"}}, `"gate.keepalife"`},
		"set without =":    {Sources{Set: []string{"gate.keepalive"}}, "key=value"},
		"no such file":     {Sources{File: "/nowhere/c.yaml"}, "/nowhere/c.yaml"},
		"value of no kind": {Sources{Set: []string{"gate.keepalive=soon"}}, "gate.keepalive"},
	} {
		if _, err := Load(Gate, c.src); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error that names %s", name, err, c.want)
		}
	}
}

func TestForeignVariablesAreNoSettings(t *testing.T) {
	_, err := Load(Gate, Sources{Environ: []string{
		"GATEPOST_SERVICE_HOST=10.0.0.1", "GATEPOST_PORT=tcp://10.0.0.1:7100", "GATEPOST_PORT_7100_TCP_ADDR=10.0.0.1",
		"GATEPOST_GATE_SERVICE_PORT_CLIENTS=7100", "GATEPOST_TEST_MYSQL=x",
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDefaultsAreValid(t *testing.T) {
	if err := Default(Standalone).Validate(Standalone); err != nil {
		t.Errorf("standalone: %v", err)
	}
	gate := Default(Gate)
	gate.KeysFile = "keys.json"
	if err := gate.Validate(Gate); err != nil {
		t.Errorf("gate: %v", err)
	}
	logic := Default(Logic)
	logic.KeysFile, logic.Domains, logic.SQL.DSN, logic.Redis.Addresses = "keys.json", logic.named(Logic, []string{"shop"}), "u:p@tcp(h:1)/d", []string{"h:2"}
	if err := logic.Validate(Logic); err != nil {
		t.Errorf("logic: %v", err)
	}
}

func TestValidateJoinsAllFaults(t *testing.T) {
	cfg := Default(Logic)
	cfg.Log.Level, cfg.Log.Format = "loud", "xml"
	cfg.Admin.Address = "0.0.0.0:7190"
	cfg.RPCListen = "0.0.0.0:7120"
	cfg.StopGrace = time.Second
	cfg.Redis.RouteTTL = cfg.Gate.WalkInterval
	err := cfg.Validate(Logic)
	for _, want := range []string{"log.level", "log.format", "admin.allow_remote", "logic.rpc_address", "stop_grace", "keys_file", "domains", "dsn", "redis.addresses", "redis.route_ttl"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the faults do not name %s: %v", want, err)
		}
	}
	gate := Default(Gate)
	gate.Gate.ListenTLS = "127.0.0.1:0"
	gate.TLS.CertFile = "cert.pem"
	if err := gate.Validate(Gate); err == nil || !strings.Contains(err.Error(), "belong together") {
		t.Errorf("half a certificate: %v", err)
	}
}

func TestAdminListensOnLoopbackOnly(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:1": true, "[::1]:1": true, "localhost:1": true, "0.0.0.0:1": false, ":1": false, "10.0.0.1:1": false, "host:1": false, "1": false,
	} {
		if err := checkAdminAddress(address, false); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := checkAdminAddress("0.0.0.0:1", true); err != nil {
		t.Error(err)
	}
}

func TestPrintRedactsAndLoadsAgain(t *testing.T) {
	cfg := Default(Logic)
	cfg.SQL.DSN = "gatepost:hunter2@tcp(127.0.0.1:3306)/gatepost"
	cfg.Redis.Password = "hunter2"
	cfg.SQL.LockTimeout = 7 * time.Second
	out, err := cfg.Print(Logic)
	if err != nil {
		t.Fatal(err)
	}
	if all := string(out) + string(cfg.PrintEnv(Logic)); strings.Contains(all, "hunter2") || !strings.Contains(all, "gatepost:(redacted)@tcp(127.0.0.1:3306)/gatepost") {
		t.Fatalf("not redacted:\n%s", all)
	}
	again, err := Load(Logic, Sources{File: write(t, "c.yaml", string(out))})
	if err != nil {
		t.Fatal(err)
	}
	if again.SQL.LockTimeout != cfg.SQL.LockTimeout || again.Logic != cfg.Logic {
		t.Error("what was printed loads as something else")
	}
}

func TestPrintTellsTheMeaningOfWhatTheRoleUses(t *testing.T) {
	for role, c := range map[Role]struct{ has, hasNot []string }{
		Standalone: {[]string{"data_dir:", "\ngate:", "  lanes:", "\nlogic:", "\nsql:", "\ndomains:\n  \"*\":\n    auth:\n", "default: uplinks", "\nkafka:", "listen: 127.0.0.1:7140"}, []string{"redis:", "rpc_listen:", "dsn:"}},
		Gate:       {[]string{"rpc_listen:", "\ngate:", "# hello_timeout bounds accept"}, []string{"domains:", "\nlogic:", "sql:", "redis:"}},
		Logic:      {[]string{"domains:", "app_listen:", "\nlogic:", "\nsql:", "\nredis:", "\nkafka:"}, []string{"\ngate:", "tls:", " listen:"}},
	} {
		cfg := Default(role)
		out, err := cfg.Print(role)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.has {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: no %q in\n%s", role, want, out)
			}
		}
		for _, other := range c.hasNot {
			if strings.Contains(string(out), other) {
				t.Errorf("%s: %q is printed, and the role has no use for it", role, other)
			}
		}
		again, err := Load(role, Sources{File: write(t, "c.yaml", string(out))})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(cfg, again, equateEmpty, cmpopts.IgnoreFields(Config{}, "SQL.Logger", "SQL.Metrics")); d != "" {
			t.Errorf("%s: what was printed loads as something else: %s", role, d)
		}
	}
}

// A setting without a comment of its own must be named in the one above it.
func TestEverySettingHasAMeaning(t *testing.T) {
	doc := ""
	for _, f := range append(fieldsOf(new(Config)), fieldsOf(new(Domain))...) {
		if f.doc != "" {
			doc = f.doc
		} else if !slices.Contains(goWord.FindAllString(doc, -1), f.name) {
			t.Errorf("%s has no comment, and the one before it is silent about it: %q", f.key, doc)
		}
	}
}

func TestSnake(t *testing.T) {
	for in, want := range map[string]string{"ListenTCP": "listen_tcp", "TLSCert": "tls_cert", "MaxInFlight": "max_in_flight", "DSN": "dsn", "IOTimeout": "io_timeout", "rpc_address": "rpc_address"} {
		if got := snake(in); got != want {
			t.Errorf("snake(%s) = %s, want %s", in, got, want)
		}
	}
}

func TestValuesThatDoNotParseAreNamedAsFilesNameThem(t *testing.T) {
	_, err := Load(Standalone, Sources{Set: []string{"gate.keepalive=3", "gate.max_in_flight=abc", "stop_grace=x"}})
	for _, want := range []string{"gate.keepalive: ", "gate.max_in_flight: ", "stop_grace: ", "written like"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

var equateEmpty = cmpopts.EquateEmpty()
