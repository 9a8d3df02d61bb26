package app

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/knadh/koanf/parsers/yaml"
)

//go:generate go run ./internal/configdoc

// unused are the keys and sections that a role does not look at.
var unused = map[Role][]string{
	Standalone: {"rpc_listen", "redis", "gate.rpc_address", "gate.logic", "logic.rpc_address", "sql.driver", "sql.dsn", "sql.auto_migrate",
		"sql.conn_max_lifetime", "sql.dial_timeout", "sql.io_timeout"},
	Gate:  {"domains", "logic", "sql", "redis"},
	Logic: {"gate", "tls"},
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

// Print returns what role uses of the configuration as a YAML file that Load takes again, each key with what it means, secrets redacted.
func (c Config) Print(role Role) ([]byte, error) {
	var b bytes.Buffer
	comment(&b, "", fmt.Sprintf(printHead, role))
	var open []string // the sections that the last key stood in
	for _, f := range c.used(role) {
		path := strings.Split(f.key, ".")
		sections, last := path[:len(path)-1], path[len(path)-1]
		same := 0
		for same < min(len(open), len(sections)) && open[same] == sections[same] {
			same++
		}
		for i := same; i < len(sections); i++ {
			fmt.Fprintf(&b, "\n%s%s:\n", strings.Repeat("  ", i), sections[i])
		}
		if same < len(open) && same == len(sections) {
			b.WriteByte('\n')
		}
		open = sections
		indent := strings.Repeat("  ", len(sections))
		comment(&b, indent, f.meaning())
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

// PrintEnv returns what role uses of the configuration as lines of environment variables, each with what it means, secrets redacted.
func (c Config) PrintEnv(role Role) []byte {
	var b bytes.Buffer
	comment(&b, "", fmt.Sprintf(printHead, role)+" Lists are separated by commas.")
	for _, f := range c.used(role) {
		v := f.redacted()
		if l, ok := v.([]string); ok {
			v = strings.Join(l, ",")
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
	for _, f := range fieldsOf(new(Config)) {
		names[f.name] = true
	}
	return names
}()
