package main

import (
	"bytes"
	"errors"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"tfofleet/internal/doctest"
)

// Every command that a document shows exists, with its flags and the number of
// its arguments.
func TestDocumentedCommands(t *testing.T) {
	for _, c := range doctest.Commands(t, "controller") {
		var out bytes.Buffer
		a := &app{stdin: &out, stdout: &out, term: newTerminal(&out)}
		root := a.command()
		root.InitDefaultCompletionCmd()
		cmd, rest, err := root.Find(c.Args)
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err == nil && !c.Mentioned {
			err = cmd.ValidateArgs(cmd.Flags().Args())
		}
		if err != nil && !errors.Is(err, pflag.ErrHelp) {
			t.Errorf("%s\n%v", c.Where, err)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// anchors are what the headings of a document can be reached by.
func anchors(text string) (names []string) {
	for _, h := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(h[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// Every link within the repository leads somewhere.
func TestLinks(t *testing.T) {
	found := 0
	for path, text := range doctest.Documents(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			to, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(to, "://") {
				continue
			}
			found++
			target := path
			if to != "" {
				target = filepath.Join(filepath.Dir(path), to)
			}
			b, err := os.ReadFile(target)
			if info, statErr := os.Stat(target); statErr == nil && info.IsDir() {
				err = nil
			}
			if err != nil {
				t.Errorf("%s: %v", path, err)
			} else if anchor != "" && !slices.Contains(anchors(string(b)), anchor) {
				t.Errorf("%s: %s has no heading for #%s", path, target, anchor)
			}
		}
	}
	if found < 10 {
		t.Fatalf("found only %d links", found)
	}
}

// docs/architecture.md has every room on a floor, and rooms import what is below
// them only.
func TestFloors(t *testing.T) {
	text := doctest.Documents(t)[doctest.Root+"/docs/architecture.md"]
	_, text, _ = strings.Cut(text, "\n## The house\n")
	floors := make(map[string]int)
	floor := 0
	for _, row := range regexp.MustCompile(`(?m)^\| (\d?) ?\| (.+) \|.*\|$`).FindAllStringSubmatch(text, -1) {
		if n, err := strconv.Atoi(row[1]); err == nil {
			floor = n
		}
		for _, room := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[2], -1) {
			floors[room[1]] = floor
		}
	}
	room := func(dir string) string {
		parts := strings.Split(dir, "/")
		if parts[0] == "bench" {
			return "bench"
		}
		return strings.Join(parts[:min(2, len(parts))], "/")
	}
	seen := make(map[string]bool)
	for _, top := range []string{"cmd", "internal", "bench"} {
		err := filepath.WalkDir(filepath.Join(doctest.Root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			dir, err := filepath.Rel(doctest.Root, filepath.Dir(path))
			if err != nil {
				return err
			}
			from := room(filepath.ToSlash(dir))
			seen[from] = true
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			for _, spec := range f.Imports {
				name, _ := strconv.Unquote(spec.Path.Value)
				to, ours := strings.CutPrefix(name, "tfofleet/")
				if to = room(to); ours && strings.HasPrefix(to, "internal/") && to != from && floors[to] >= floors[from] {
					t.Errorf("%s, on floor %d, imports %s, on floor %d", path, floors[from], to, floors[to])
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for r := range seen {
		if floors[r] == 0 {
			t.Errorf("docs/architecture.md has no floor for %s", r)
		}
	}
	for r := range floors {
		if !seen[r] {
			t.Errorf("docs/architecture.md has %s, which is not there", r)
		}
	}
}
