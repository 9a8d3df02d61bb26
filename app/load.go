package app

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// EnvPrefix begins the environment variables that are settings: GATEPOST_GATE_HELLO_TIMEOUT is gate.hello_timeout.
const EnvPrefix = "GATEPOST_"

// notSettings are variables that begin with the prefix and are none of ours: those that Kubernetes makes for a service named
// gatepost, and those that tell tests where servers are.
var notSettings = regexp.MustCompile(`^GATEPOST_(APP_KEY|TEST_.*|(.*_)?SERVICE_(HOST|PORT)(_.*)?|(.*_)?PORT(_[0-9]+_(TCP|UDP)(_.*)?)?)$`)

// Sources are the places that settings come from, each over the one before it. All may be empty.
type Sources struct {
	File    string         // YAML
	Environ []string       // as os.Environ gives it
	Flags   *pflag.FlagSet // flags that were set and were defined by AddFlags
	Set     []string       // key=value, over everything

	known   map[string]field
	domains map[string]Domain // that the file holds; nil: none
}

// flagKey is the annotation of a flag that sets a key.
const flagKey = "gatepost-key"

// Load returns the defaults of role with what the sources say over them. Keys that do not exist are refused by name;
// the values are not checked yet: see Validate.
func Load(role Role, src Sources) (Config, error) {
	cfg := Default(role)
	src.known = make(map[string]field)
	for _, f := range fieldsOf(&cfg) {
		src.known[f.key] = f
	}
	ko := koanf.New(".")
	layers := []func(*koanf.Koanf) error{src.loadFile, src.loadEnv, src.loadFlags, src.loadSet}
	for _, load := range layers {
		if err := load(ko); err != nil {
			return Config{}, err
		}
	}
	names, named := ko.Get(domainsKey).([]string) // of the environment or a flag: the file's were taken out
	ko.Delete(domainsKey)
	if err := ko.UnmarshalWithConf("", &cfg, koanf.UnmarshalConf{DecoderConfig: decoderConfig(&cfg)}); err != nil {
		return Config{}, fmt.Errorf("configuration: %w", valueFaults(err))
	}
	switch {
	case named:
		cfg.Domains = cfg.named(role, names)
	case src.domains != nil:
		cfg.Domains = src.domains
	case cfg.Domains != nil:
		cfg.Domains = cfg.named(role, slices.Collect(maps.Keys(cfg.Domains))) // whether there is a Kafka is known now
	}
	return cfg, nil
}

// decoderConfig is how settings become fields of result, a pointer to a struct.
func decoderConfig(result any) *mapstructure.DecoderConfig {
	return &mapstructure.DecoderConfig{
		TagName:          "koanf",
		DecodeHook:       mapstructure.StringToTimeDurationHookFunc(),
		WeaklyTypedInput: true, // the environment and flags hold text
		MatchName:        func(key, name string) bool { return key == snake(name) },
		ErrorUnused:      true,
		ZeroFields:       true, // a list replaces the default, it is not laid over it
		Result:           result,
	}
}

// valueFaults names the settings whose values do not parse as files name them; the decoder names fields of structs.
func valueFaults(err error) error {
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		var faults []error
		for _, e := range many.Unwrap() {
			faults = append(faults, valueFaults(e))
		}
		return errors.Join(faults...)
	}
	var one *mapstructure.DecodeError
	if !errors.As(err, &one) {
		return err
	}
	words := strings.Split(one.Name(), ".")
	for i, w := range words {
		words[i] = snake(w)
	}
	fault := fmt.Errorf("%s: %w", strings.Join(words, "."), one.Unwrap())
	if strings.Contains(fault.Error(), "duration") {
		return fmt.Errorf("%w (a time is written like 500ms, 30s or 1h30m)", fault)
	}
	return fault
}

const (
	domainsKey = "domains"
	// pathSeparator joins the keys of nested maps; no key in a file holds it, while names of domains and types have dots.
	pathSeparator = "\x00"
)

func (s *Sources) loadFile(ko *koanf.Koanf) error {
	if s.File == "" {
		return nil
	}
	in := koanf.New(pathSeparator)
	if err := in.Load(file.Provider(s.File), yaml.Parser()); err != nil {
		return fmt.Errorf("configuration file %s: %w", s.File, err)
	}
	domains, err := readDomains(in.Get(domainsKey))
	s.domains = domains
	in.Delete(domainsKey)
	if err := errors.Join(err, s.unknown(in)); err != nil {
		return prefixed("configuration file "+s.File+": ", err)
	}
	return ko.Merge(in)
}

// unknown refuses by name the keys of in that are no settings.
func (s *Sources) unknown(in *koanf.Koanf) error {
	var faults []error
	for _, path := range in.Keys() {
		if key := strings.ReplaceAll(path, pathSeparator, "."); !isKnown(s.known, path) {
			faults = append(faults, fmt.Errorf("unknown key %q%s", key, s.near(key)))
		}
	}
	return errors.Join(faults...)
}

// isKnown reports whether path, joined by pathSeparator, leads to a setting or into one that is a map.
func isKnown(known map[string]field, path string) bool {
	var key string
	for word := range strings.SplitSeq(path, pathSeparator) {
		if strings.Contains(word, ".") {
			return false
		}
		key = strings.TrimPrefix(key+"."+word, ".")
		if f, ok := known[key]; ok && (f.value.Kind() == reflect.Map || key == strings.ReplaceAll(path, pathSeparator, ".")) {
			return true
		}
	}
	return false
}

// readDomains reads the account systems in a file; nil: it has none. All faults come joined.
func readDomains(raw any) (map[string]Domain, error) {
	switch raw := raw.(type) {
	case nil:
		return nil, nil
	case map[string]any:
		out := make(map[string]Domain, len(raw))
		var faults []error
		for _, name := range slices.Sorted(maps.Keys(raw)) {
			d, err := readDomain("domains."+name, raw[name])
			out[name] = d
			faults = append(faults, err)
		}
		return out, errors.Join(faults...)
	}
	return nil, fmt.Errorf(`domains is a map from each account system to its settings, not a list. Write:
domains:
  shop: {auth: {kind: token}, accept_from: ["*"], uplinks: {default: %s}}
  "*": {auth: {kind: token}}   # every other one; leave it out and they are unknown`, DefaultTopic)
}

// readDomain reads the settings of one account system, over the defaults. key is where they stand.
func readDomain(key string, raw any) (Domain, error) {
	d := defaultDomain()
	if raw == nil {
		return d, nil
	}
	settings, ok := raw.(map[string]any)
	if !ok {
		return d, fmt.Errorf("%s is %T: want the settings of an account system", key, raw)
	}
	known := make(map[string]field)
	for _, f := range fieldsOf(&d) {
		known[f.key] = f
	}
	in := koanf.New(pathSeparator)
	if err := in.Load(confmap.Provider(settings, ""), nil); err != nil {
		return d, fmt.Errorf("%s: %w", key, err)
	}
	var faults []error
	for _, path := range in.Keys() {
		if !isKnown(known, path) {
			faults = append(faults, fmt.Errorf("unknown key %q", key+"."+strings.ReplaceAll(path, pathSeparator, ".")))
		}
	}
	if len(faults) > 0 {
		return d, errors.Join(faults...)
	}
	decoder, err := mapstructure.NewDecoder(decoderConfig(&d))
	if err != nil {
		return d, err
	}
	if err := decoder.Decode(settings); err != nil {
		return d, prefixed(key+".", valueFaults(err))
	}
	return d, nil
}

// prefixed puts prefix before each of joined faults.
func prefixed(prefix string, err error) error {
	var many interface{ Unwrap() []error }
	if !errors.As(err, &many) {
		return fmt.Errorf("%s%w", prefix, err)
	}
	var faults []error
	for _, e := range many.Unwrap() {
		faults = append(faults, prefixed(prefix, e))
	}
	return errors.Join(faults...)
}

func (s *Sources) loadEnv(ko *koanf.Koanf) error {
	names := make(map[string]field, len(s.known))
	for key, f := range s.known {
		names[EnvName(key)] = f
	}
	var unknown []error
	environ := s.Environ
	if environ == nil {
		environ = []string{} // not the environment of the process
	}
	err := ko.Load(env.Provider(".", env.Opt{
		Prefix:      EnvPrefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) {
			f, ok := names[name]
			if !ok {
				if !notSettings.MatchString(name) {
					unknown = append(unknown, fmt.Errorf("environment: unknown variable %s (gatepost config print --env --role gate, logic or standalone lists those there are)", name))
				}
				return "", nil
			}
			return f.key, f.parse(value)
		},
	}), nil)
	return errors.Join(append(unknown, err)...)
}

func (s *Sources) loadFlags(ko *koanf.Koanf) error {
	if s.Flags == nil {
		return nil
	}
	return ko.Load(posflag.ProviderWithFlag(s.Flags, ".", ko, func(f *pflag.Flag) (string, any) {
		key := f.Annotations[flagKey]
		if len(key) == 0 || !f.Changed {
			return "", nil
		}
		return key[0], s.known[key[0]].parse(f.Value.String())
	}), nil)
}

func (s *Sources) loadSet(ko *koanf.Koanf) error {
	values := make(map[string]any, len(s.Set))
	for _, kv := range s.Set {
		key, value, ok := strings.Cut(kv, "=")
		if !ok {
			return fmt.Errorf("--set %s: want key=value", kv)
		}
		f, ok := s.known[key]
		if !ok {
			return fmt.Errorf("--set %s: unknown key %q%s", kv, key, s.near(key))
		}
		values[key] = f.parse(value)
	}
	return ko.Load(confmap.Provider(values, "."), nil)
}

// near proposes the keys whose last word is that of an unknown key.
func (s *Sources) near(key string) string {
	last := key[strings.LastIndexByte(key, '.')+1:]
	var found []string
	for k := range s.known {
		if strings.HasSuffix(k, last) {
			found = append(found, k)
		}
	}
	if len(found) == 0 {
		return ""
	}
	sort.Strings(found)
	return " (is it " + strings.Join(found, ", ") + "?)"
}

// EnvName is the environment variable that sets key.
func EnvName(key string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}
