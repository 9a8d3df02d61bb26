package archtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Package is what the checker needs to know of one package; the names are those of `go list -json`.
type Package struct {
	ImportPath   string
	Imports      []string // of the files that are built
	TestImports  []string // of test files in the package
	XTestImports []string // of test files in package x_test
	Deps         []string // everything that Imports reach
}

// List reads the packages of the module whose root is dir, built with tags. A package that does not compile is listed
// all the same: its arrows count, and the compiler tells the rest.
func List(dir, tags string) ([]Package, error) {
	cmd := exec.Command("go", "list", "-e", "-tags", tags, "-json=ImportPath,Imports,TestImports,XTestImports,Deps", "./...")
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list -tags %q in %s: %w", tags, dir, err)
	}
	var all []Package
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p Package
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what go list says: %w", err)
		}
		all = append(all, p)
	}
}

// Check compares packages with the table and returns a sentence for each arrow that is not in it, sorted.
func Check(rows []Row, packages []Package) []string {
	var faults []string
	for _, p := range packages {
		row, ok := rowOf(rows, ours(p.ImportPath))
		if !ok {
			faults = append(faults, fmt.Sprintf("%s has no row in the table of rooms", ours(p.ImportPath)))
			continue
		}
		for _, path := range p.Imports {
			if why := row.forbids(rows, path, false); why != "" {
				faults = append(faults, fmt.Sprintf("%s imports %s: %s", ours(p.ImportPath), ours(path), why))
			}
		}
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			if why := row.forbids(rows, path, true); why != "" {
				faults = append(faults, fmt.Sprintf("the tests of %s import %s: %s", ours(p.ImportPath), ours(path), why))
			}
		}
		for _, path := range p.Deps {
			if !slices.Contains(p.Imports, path) && within(row.NeverReach, path) {
				faults = append(faults, fmt.Sprintf("%s reaches %s: %s never does, not even through others", ours(p.ImportPath), path, row.Room))
			}
		}
	}
	slices.Sort(faults)
	return slices.Compact(faults)
}

// Arrows returns "from --> to" for each pair of rooms where one imports the other outside of tests, sorted.
func Arrows(rows []Row, packages []Package) []string {
	var arrows []string
	for _, p := range packages {
		from, ok := rowOf(rows, ours(p.ImportPath))
		for _, path := range p.Imports {
			if to, known := rowOf(rows, ours(path)); ok && known && isOurs(path) && to.Room != from.Room {
				arrows = append(arrows, from.Room+" --> "+to.Room)
			}
		}
	}
	slices.Sort(arrows)
	return slices.Compact(arrows)
}

// forbids says why this room does not import path; "" means that it may.
func (r Row) forbids(rows []Row, path string, test bool) string {
	if !isOurs(path) {
		if !test && (within(r.Never, path) || within(r.NeverReach, path)) {
			return r.Room + " never does"
		}
		return ""
	}
	rel := ours(path)
	if to, ok := rowOf(rows, rel); ok && to.Room == r.Room {
		return ""
	}
	if matches(r.May, rel) && !matches(r.Not, rel) || test && matches(r.Tests, rel) {
		return ""
	}
	return "no arrow leads there"
}

func rowOf(rows []Row, rel string) (Row, bool) {
	var best Row
	for _, r := range rows {
		if len(r.Room) > len(best.Room) && within([]string{r.Room}, rel) {
			best = r
		}
	}
	return best, best.Room != ""
}

func isOurs(path string) bool { return within([]string{Module}, path) }

// ours makes a path of this module relative to it; others stay as they are.
func ours(path string) string { return strings.TrimPrefix(path, Module+"/") }

// within tells whether path is one of roots or lies below one.
func within(roots []string, path string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return path == root || strings.HasPrefix(path, root+"/")
	})
}

// matches tells whether one of patterns stands for rel.
func matches(patterns []string, rel string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		root, below := strings.CutSuffix(pattern, "/...")
		return rel == root || below && strings.HasPrefix(rel, root+"/")
	})
}
