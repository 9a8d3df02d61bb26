package app

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/knadh/koanf/parsers/yaml"
)

//go:generate go run ./internal/configdoc

// unused are the keys and sections that a role does not look at.
var unused = map[Role][]string{
	Standalone: {"rpc_listen", "redis", "gate.rpc_address", "gate.logic", "logic.rpc_address", "sql.driver", "sql.dsn", "sql.auto_migrate",
		"sql.conn_max_lifetime", "sql.dial_timeout", "sql.io_timeout"},
	Gate:  {"domains", "app_listen", "logic", "sql", "redis", "kafka"},
	Logic: {"gate", "tls", "kafka.listen", "kafka.advertise"},
}

// printWidth is the column after which a comment goes on in the next line.
const printWidth = 110

const printHead = "Settings of gatepost %s. A time is written like 500ms, 30s or 1h30m; sizes are bytes. " +
	"Zero is refused where a comment does not say what it means. A key that is left out has its default."

// used are the settings that role looks at.
func (c *Config) used(role Role) []field {
	return slices.DeleteFunc(fieldsOf(c), func(f field) bool {
		return slices.ContainsFunc(unused[role], func(u string) bool { return f.key == u || strings.HasPrefix(f.key, u+".") })
	})
}

// differences are the settings that role looks at and that other has other values of, those of domains aside. c is what the process
// was built with.
func (c Config) differences(other Config, role Role) (keys []string) {
	if role == Standalone {
		other = other.standalone()
	}
	now, then := c.used(role), other.used(role)
	for i := range now {
		if now[i].key != domainsKey && now[i].text() != then[i].text() {
			keys = append(keys, now[i].key)
		}
	}
	return keys
}

// Print returns what role uses of the configuration as a YAML file that Load takes again, each key with what it means, secrets redacted.
func (c Config) Print(role Role) ([]byte, error) {
	var b bytes.Buffer
	comment(&b, "", fmt.Sprintf(printHead, role))
	var open []string // the sections that the last key stood in
	for _, l := range c.lines(role) {
		f := l.field
		sections, last := l.path[:len(l.path)-1], l.path[len(l.path)-1]
		same := 0
		for same < min(len(open), len(sections)) && open[same] == sections[same] {
			same++
		}
		for i := same; i < len(sections); i++ {
			if i == 0 || sections[0] != domainsKey {
				b.WriteByte('\n')
			}
			name := sections[i]
			if i == 1 && sections[0] == domainsKey {
				name = strconv.Quote(name) // "*" and "no" mean something else in YAML
			}
			fmt.Fprintf(&b, "%s%s:\n", strings.Repeat("  ", i), name)
		}
		if same < len(open) && same == len(sections) && (same == 0 || sections[0] != domainsKey) {
			b.WriteByte('\n')
		}
		open = sections
		indent := strings.Repeat("  ", len(sections))
		if !l.silent {
			comment(&b, indent, f.meaning())
		}
		line, err := yaml.Parser().Marshal(map[string]any{last: f.redacted()})
		if err != nil {
			return nil, fmt.Errorf("print %s: %w", f.key, err)
		}
		for l := range strings.Lines(string(line)) {
			b.WriteString(indent + l)
		}
	}
	return b.Bytes(), nil
}

// line is one setting as Print writes it.
type line struct {
	field
	path   []string // its key; the names of domains in it may hold dots
	silent bool     // its meaning has been told
}

// lines are the settings that role looks at, with those of each domain in the place of the table of domains.
func (c *Config) lines(role Role) []line {
	var out []line
	for _, f := range c.used(role) {
		if f.key != domainsKey || len(c.Domains) == 0 {
			out = append(out, line{field: f, path: strings.Split(f.key, ".")})
			continue
		}
		for i, name := range slices.Sorted(maps.Keys(c.Domains)) {
			d := c.Domains[name]
			for _, f := range fieldsOf(&d) {
				out = append(out, line{field: f, path: append([]string{domainsKey, name}, strings.Split(f.key, ".")...), silent: i > 0})
			}
		}
	}
	return out
}

// PrintEnv returns what role uses of the configuration as lines of environment variables, each with what it means, secrets redacted.
func (c Config) PrintEnv(role Role) []byte {
	var b bytes.Buffer
	comment(&b, "", fmt.Sprintf(printHead, role)+" Lists are separated by commas. Of domains only the names can be given here.")
	for _, f := range c.used(role) {
		v := f.redacted()
		switch v.(type) {
		case []string, map[string]Domain:
			v = f.text()
		}
		comment(&b, "", f.meaning())
		fmt.Fprintf(&b, "%s=%v\n", EnvName(f.key), v)
	}
	return b.Bytes()
}

// comment writes text in lines that begin with #.
func comment(b *bytes.Buffer, indent, text string) {
	for paragraph := range strings.SplitSeq(text, "\n") {
		line := ""
		for word := range strings.FieldsSeq(paragraph) {
			if line != "" && len(indent)+len("# ")+len(line)+1+len(word) > printWidth {
				b.WriteString(indent + "# " + line + "\n")
				line = ""
			}
			line = strings.TrimPrefix(line+" "+word, " ")
		}
		if line != "" {
			b.WriteString(indent + "# " + line + "\n")
		}
	}
}

var goWord = regexp.MustCompile(`[A-Za-z][A-Za-z0-9]*`)

// meaning is the doc comment with the names of fields as files have them.
func (f field) meaning() string {
	first := true
	return goWord.ReplaceAllStringFunc(f.doc, func(word string) string {
		// A name of one word is a word like others, unless it begins the comment of its own field.
		own := first && word == f.name
		first = false
		if own || isCompound(word) && fieldNames[word] {
			return snake(word)
		}
		return word
	})
}

// isCompound reports whether a name is made of several words.
func isCompound(name string) bool {
	return strings.ContainsFunc(name, unicode.IsLower) && strings.Contains(snake(name), "_")
}

// fieldNames are the names of all struct fields that are settings.
var fieldNames = func() map[string]bool {
	names := make(map[string]bool)
	for _, f := range append(fieldsOf(new(Config)), fieldsOf(new(Domain))...) {
		names[f.name] = true
	}
	return names
}()
