package policy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tfofleet/internal/targets"
)

// docs/fleet.md explains every reason of a refusal, and no other.
func TestDocumentedReasons(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{targets.ReasonNotAnAddress, targets.ReasonSpecialPurpose, targets.ReasonBlocklist}
	constants := 0
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.ValueSpec); ok {
			constants++
			if lit, ok := s.Values[0].(*ast.BasicLit); ok {
				text, _ := strconv.Unquote(lit.Value)
				want = append(want, text)
			}
		}
		return true
	})
	if len(want) != constants {
		t.Fatalf("%d constants, and only %v", constants, want)
	}
	b, err := os.ReadFile("../../../docs/fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(b), "\n| reason |")
	text, _, _ = strings.Cut(text, "\n\n")
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(text, -1) {
		listed = append(listed, m[1])
	}
	slices.Sort(want)
	slices.Sort(listed)
	if !slices.Equal(listed, want) {
		t.Errorf("docs/fleet.md lists %q\nwant %q", listed, want)
	}
}
