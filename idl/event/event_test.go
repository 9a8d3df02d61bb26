package event

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// constants are those of event.go, by their names.
func constants(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if i < len(spec.Values) {
				if lit, ok := spec.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
					text, err := strconv.Unquote(lit.Value)
					if err != nil {
						t.Fatal(err)
					}
					found[name.Name] = text
				}
			}
		}
		return true
	})
	if found["ID"] != ID || len(found) < 15 {
		t.Fatalf("constants: %v", found)
	}
	return found
}

// CloudEvents 1.0 §3.1: attribute names are lower-case letters and digits, and should not have more than 20 characters.
var attribute = regexp.MustCompile(`^[a-z0-9]{1,20}$`)

func TestHeadersAreAttributesOfCloudEvents(t *testing.T) {
	required := map[string]bool{"id": false, "source": false, "specversion": false, "type": false}
	seen := map[string]string{}
	for name, value := range constants(t) {
		attr, ok := strings.CutPrefix(value, "ce_")
		if !ok {
			continue
		}
		if !attribute.MatchString(attr) || attr == "data" || strings.HasPrefix(attr, "data_") {
			t.Errorf("%s = %q is no name of an attribute", name, value)
		}
		if other, ok := seen[value]; ok {
			t.Errorf("%s and %s are both %q", name, other, value)
		}
		seen[value] = name
		if _, ok := required[attr]; ok {
			required[attr] = true
		}
	}
	for attr, there := range required {
		if !there {
			t.Errorf("the required attribute %q has no header", attr)
		}
	}
	if Version != "1.0" {
		t.Errorf("specversion %q", Version)
	}
	if Traceparent != "traceparent" || ContentType != "content-type" {
		t.Error("headers that others know by their names were renamed")
	}
}

func TestTypesOfOurOwnDoNotCollide(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range []string{TypeOnline, TypeOffline, TypeWaiting} {
		if !strings.HasPrefix(name, "gatepost.") || seen[name] {
			t.Errorf("type %q", name)
		}
		seen[name] = true
	}
}

// The book's table of headers has each one that a client's report ends with [P-16.9].
func TestTheBookNamesEachHeader(t *testing.T) {
	book, err := os.ReadFile("../PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(book), "**[P-16.9]**")
	if !ok {
		t.Fatal("PROTOCOL.md has no rule of the record")
	}
	section, _, _ = strings.Cut(section, "**[P-16.10]**")
	for name, value := range constants(t) {
		if (strings.HasPrefix(value, "ce_") || value == Traceparent) && !regexp.MustCompile(`\b`+value+`\b`).MatchString(section) {
			t.Errorf("[P-16.9] does not name %s = %q", name, value)
		}
	}
}

// Whatever a domain and a uid hold, their source is a URI reference of two segments that gives them back: no two users share one.
func FuzzSourceOf(f *testing.F) {
	for _, u := range [][2]string{{"taxi", "alice"}, {"a/b", "c"}, {"a", "b/c"}, {"%2f", "ü 東京"}, {"?q#f", "a+b;c"}, {"..", "."}, {"a:b", "//c"}} {
		f.Add(u[0], u[1])
	}
	f.Fuzz(func(t *testing.T, domain, uid string) {
		source := SourceOf(domain, uid)
		parts := strings.Split(source, "/")
		if len(parts) != 3 || parts[0] != "" {
			t.Fatalf("%q", source)
		}
		for i, want := range []string{domain, uid} {
			if got, err := url.PathUnescape(parts[i+1]); err != nil || got != want {
				t.Errorf("part %d of %q is %q, %v", i, source, got, err)
			}
		}
		u, err := url.Parse(source)
		if domain == "" || uid == "" {
			return // no user has an empty name
		}
		if err != nil || u.Host != "" || u.RawQuery != "" || u.Fragment != "" || u.Path != "/"+domain+"/"+uid {
			t.Errorf("%q parses to %+v, %v", source, u, err)
		}
	})
}

func TestSourceOfEscapes(t *testing.T) {
	for _, c := range []struct{ domain, uid, want string }{
		{"taxi", "alice", "/taxi/alice"},
		{"taxi", "a/b c", "/taxi/a%2Fb%20c"},
		{"a?b", "c#d", "/a%3Fb/c%23d"},
		{"shop", "東", "/shop/%E6%9D%B1"},
		{"shop", "50%", "/shop/50%25"},
	} {
		if got := SourceOf(c.domain, c.uid); got != c.want {
			t.Errorf("%q, %q: %q, want %q", c.domain, c.uid, got, c.want)
		}
	}
}

// The key is domain/uid as it stands. A domain with a slash may share a key with another user, which costs a shared partition only.
func TestKeyOf(t *testing.T) {
	if got := KeyOf("taxi", "a/b"); got != "taxi/a/b" {
		t.Error(got)
	}
}
