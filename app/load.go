package app

import (
	"errors"
	"fmt"
	"regexp"
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
var notSettings = regexp.MustCompile(`^GATEPOST_(TEST_.*|(.*_)?SERVICE_(HOST|PORT)(_.*)?|(.*_)?PORT(_[0-9]+_(TCP|UDP)(_.*)?)?)$`)

// Sources are the places that settings come from, each over the one before it. All may be empty.
type Sources struct {
	File    string         // YAML
	Environ []string       // as os.Environ gives it
	Flags   *pflag.FlagSet // flags that were set and were defined by AddFlags
	Set     []string       // key=value, over everything
	known   map[string]field
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
	err := ko.UnmarshalWithConf("", &cfg, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		DecodeHook:       mapstructure.StringToTimeDurationHookFunc(),
		WeaklyTypedInput: true, // the environment and flags hold text
		MatchName:        func(key, name string) bool { return key == snake(name) },
		ErrorUnused:      true,
		ZeroFields:       true, // a list replaces the default, it is not laid over it
		Result:           &cfg,
	}})
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", valueFaults(err))
	}
	return cfg, nil
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

func (s *Sources) loadFile(ko *koanf.Koanf) error {
	if s.File == "" {
		return nil
	}
	in := koanf.New(".")
	if err := in.Load(file.Provider(s.File), yaml.Parser()); err != nil {
		return fmt.Errorf("configuration file %s: %w", s.File, err)
	}
	var unknown []error
	for _, key := range in.Keys() {
		if _, ok := s.known[key]; !ok {
			unknown = append(unknown, fmt.Errorf("configuration file %s: unknown key %q%s", s.File, key, s.near(key)))
		}
	}
	if len(unknown) > 0 {
		return errors.Join(unknown...)
	}
	return ko.Merge(in)
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
