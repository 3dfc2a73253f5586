package fleettest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRowsHaveTests: every row of the package comment names tests, and they are
// there.
func TestRowsHaveTests(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(file.Doc.Text(), "\n  - ")[1:]
	if len(rows) != 15 {
		t.Errorf("%d rows, want 15", len(rows))
	}
	named := regexp.MustCompile(`((?:internal|cmd)/[a-z/]+)\.(Test\w+)`)
	known := make(map[string]map[string]bool) // by directory
	for _, row := range rows {
		tests := named.FindAllStringSubmatch(row, -1)
		if len(tests) == 0 {
			t.Errorf("no test of %q", row)
		}
		for _, m := range tests {
			dir, name := m[1], m[2]
			if known[dir] == nil {
				known[dir] = testsOf(t, filepath.Join("..", "..", filepath.FromSlash(dir)))
			}
			if !known[dir][name] {
				t.Errorf("there is no %s in %s", name, dir)
			}
		}
	}
}

// testsOf are the tests in a directory.
func testsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	tests := make(map[string]bool)
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				tests[f.Name.Name] = true
			}
		}
	}
	return tests
}
