package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tfofleet/internal/measure"
)

// codesInSource lists the constants of exit.go.
func codesInSource(t *testing.T) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "exit.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(s.Names[0].Name, "exit") {
			codes[s.Values[0].(*ast.BasicLit).Value] = s.Names[0].Name
		}
		return true
	})
	return codes
}

// Programs depend on the codes: the README lists each of them, and no other.
func TestReadmeListsEveryExitCode(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(readme), "## Exit codes")
	if !ok {
		t.Fatal("README.md has no section on exit codes")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var listed []string
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(section, -1) {
		listed = append(listed, m[1])
	}
	codes := codesInSource(t)
	if len(codes) < 10 {
		t.Fatalf("found only %v", codes)
	}
	for code, name := range codes {
		if !slices.Contains(listed, code) {
			t.Errorf("README.md does not list %s (%s)", code, name)
		}
	}
	for _, code := range listed {
		if codes[code] == "" {
			t.Errorf("README.md lists %s, which exit.go does not have", code)
		}
	}
}

// The README explains every verdict a survey can give, and no other.
func TestReadmeListsEveryVerdict(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "## How to read a verdict")
	section, _, _ = strings.Cut(section, "\n## ")
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
		listed = append(listed, m[1])
	}
	var want []string
	for _, v := range measure.Verdicts() {
		want = append(want, v.String())
	}
	if !slices.Equal(listed, want) {
		t.Errorf("README.md lists %v\nwant %v", listed, want)
	}
}
