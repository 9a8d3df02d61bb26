package app

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
)

// field is one setting: a leaf of the tree of configuration structs.
type field struct {
	key   string // dotted path in snake case, as it stands in the file: gate.hello_timeout
	name  string // of the struct field
	doc   string // of the struct field; empty: that of a field above it speaks for this one too
	value reflect.Value
}

// fieldsOf lists the settings of a configuration struct, in the order of its fields.
func fieldsOf(cfg any) []field {
	var out []field
	walk("", reflect.Indirect(reflect.ValueOf(cfg)), &out)
	return out
}

func walk(prefix string, v reflect.Value, out *[]field) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			walk(prefix, v.Field(i), out) // squashed
			continue
		}
		name := keyName(f)
		if name == "" {
			continue
		}
		key := name
		if prefix != "" {
			key = prefix + "." + name
		}
		if f.Type.Kind() == reflect.Struct {
			walk(key, v.Field(i), out)
			continue
		}
		doc := fieldDocs[v.Type().PkgPath()+"."+v.Type().Name()+"."+f.Name]
		*out = append(*out, field{key, f.Name, doc, v.Field(i)})
	}
}

// keyName is the name of a struct field in files; "" when it is no setting (not exported, or something that no file can hold).
func keyName(f reflect.StructField) string {
	if !f.IsExported() {
		return ""
	}
	switch f.Type.Kind() {
	case reflect.Func, reflect.Interface, reflect.Pointer, reflect.Chan:
		return ""
	}
	if tag, ok := f.Tag.Lookup("koanf"); ok {
		return strings.Trim(tag, "-")
	}
	return snake(f.Name)
}

// snake turns a Go name into snake case: TCPAddress is tcp_address, MaxInFlight is max_in_flight.
func snake(name string) string {
	var b strings.Builder
	rs := []rune(name)
	for i, r := range rs {
		if i > 0 && unicode.IsUpper(r) {
			endOfWord := unicode.IsLower(rs[i-1]) || unicode.IsDigit(rs[i-1])
			endOfAcronym := unicode.IsUpper(rs[i-1]) && i+1 < len(rs) && unicode.IsLower(rs[i+1])
			if endOfWord || endOfAcronym {
				b.WriteByte('_')
			}
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// plain is the value of a setting as a YAML file would hold it.
func (f field) plain() any {
	if d, ok := f.value.Interface().(time.Duration); ok {
		return d.String()
	}
	return f.value.Interface()
}

// parse turns the text of an environment variable or a flag into what a YAML file would hold. Lists are separated by commas, and so
// are the names in a map.
func (f field) parse(text string) any {
	if k := f.value.Kind(); k != reflect.Slice && k != reflect.Map {
		return text
	}
	var list []string
	for s := range strings.SplitSeq(text, ",") {
		if s = strings.TrimSpace(s); s != "" {
			list = append(list, s)
		}
	}
	return list
}

// text is plain as it would stand in an environment variable.
func (f field) text() string {
	switch v := f.value.Interface().(type) {
	case []string:
		return strings.Join(v, ",")
	case map[string]Domain:
		return strings.Join(slices.Sorted(maps.Keys(v)), ",")
	}
	return fmt.Sprint(f.plain())
}

// redacted is plain with secrets taken out.
func (f field) redacted() any {
	last := f.key[strings.LastIndexByte(f.key, '.')+1:]
	text := f.text()
	switch {
	case text == "":
		return f.plain()
	case last == "dsn":
		return redactDSN(text)
	case strings.Contains(last, "password"), strings.Contains(last, "secret"):
		return "(redacted)"
	}
	return f.plain()
}

// redactDSN hides the password in user:password@protocol(address)/name, and all of what does not look like that.
func redactDSN(dsn string) string {
	at := strings.LastIndexByte(dsn, '@')
	if at < 0 {
		return "(redacted)" // what it means is not known, and so not what is secret in it
	}
	user, _, ok := strings.Cut(dsn[:at], ":")
	if !ok {
		return dsn
	}
	return user + ":(redacted)" + dsn[at:]
}
