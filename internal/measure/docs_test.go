package measure_test

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

	"tfofleet/internal/lab"
	"tfofleet/internal/measure"
)

// document is docs/verdicts.md by its headings.
type document map[string]string

var heading = regexp.MustCompile(`(?m)^#{2,3} (.+)$`)

func readDocument(t *testing.T) document {
	t.Helper()
	b, err := os.ReadFile("../../docs/verdicts.md")
	if err != nil {
		t.Fatal(err)
	}
	d, text := document{}, string(b)
	at := heading.FindAllStringSubmatchIndex(text, -1)
	for i, h := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		d[text[h[2]:h[3]]] = text[h[1]:end]
	}
	return d
}

// rows are the cells of each table row whose first cell is a name.
func (d document) rows(t *testing.T, title string) (rows [][]string) {
	t.Helper()
	section, ok := d[title]
	if !ok {
		t.Fatalf("docs/verdicts.md has no section %q", title)
	}
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i, c := range cells {
			cells[i] = strings.TrimSpace(c)
		}
		if name, ok := strings.CutPrefix(cells[0], "`"); ok && strings.HasPrefix(line, "|") {
			cells[0] = strings.TrimSuffix(name, "`")
			rows = append(rows, cells)
		}
	}
	return rows
}

func (d document) names(t *testing.T, titles ...string) (names []string) {
	t.Helper()
	for _, title := range titles {
		for _, r := range d.rows(t, title) {
			names = append(names, r[0])
		}
	}
	return names
}

func same(t *testing.T, what string, listed, want []string) {
	t.Helper()
	if !slices.Equal(listed, want) {
		t.Errorf("docs/verdicts.md lists the %s %q\nwant %q", what, listed, want)
	}
}

// The document explains every verdict there is and no other, says of each what
// the code says, and every lab path that it names shows it.
func TestDocumentedVerdicts(t *testing.T) {
	text, err := os.ReadFile("../../docs/verdicts.md")
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]lab.Path{}
	for _, p := range lab.Catalogue() {
		paths[p.Name] = p
	}
	_, part, _ := strings.Cut(string(text), "## Verdicts of one vantage point")
	part, _, _ = strings.Cut(part, "\n## ")
	var listed []string
	var want []string
	for _, v := range measure.Verdicts() {
		want = append(want, v.String())
	}
	for i, section := range strings.Split(part, "\n### ") {
		if i == 0 {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(section, "`"), "`")
		listed = append(listed, name)
		v, err := measure.ParseVerdict(name)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, entry := range []string{"* Evidence: ", "* Cannot be told: "} {
			if !strings.Contains(section, entry) {
				t.Errorf("%s has no entry %q", name, entry)
			}
		}
		if want := map[bool]string{true: "* Fault: yes.", false: "* Fault: no."}[v.Fault()]; !strings.Contains(section, want) {
			t.Errorf("%s: want %q", name, want)
		}
		_, shown, _ := strings.Cut(section, "* In the lab: ")
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(shown, -1) {
			p, ok := paths[m[1]]
			if !ok || !slices.Contains(p.Truth, v) {
				t.Errorf("%s: the lab's path %q has not this truth", name, m[1])
			}
		}
	}
	same(t, "verdicts", listed, want)
}

func TestDocumentedJointVerdicts(t *testing.T) {
	d := readDocument(t)
	var want []string
	for _, v := range measure.JointVerdicts() {
		want = append(want, v.String())
	}
	same(t, "joint verdicts", d.names(t, "Joint verdicts"), want)
	for _, r := range d.rows(t, "Joint verdicts") {
		if v, err := measure.ParseJointVerdict(r[0]); err == nil && (r[1] == "yes") != v.Fault() {
			t.Errorf("%s: fault %v, and the document says %s", r[0], v.Fault(), r[1])
		}
	}
	all := func(name func(uint8) string) (names []string) {
		for i := uint8(0); i == 0 || name(i) != "unknown"; i++ {
			names = append(names, name(i))
		}
		return names
	}
	same(t, "directions", d.names(t, "Directions"), all(func(i uint8) string { return measure.Direction(i).String() }))
	same(t, "doubts", d.names(t, "Doubts"), all(func(i uint8) string { return measure.Doubt(i).String() }))
	same(t, "values of near_path", d.names(t, "What is near a probe"), all(func(i uint8) string { return measure.NearPath(i).String() }))
}

// Every condition that is a constant is in the document once, and none else is.
func TestDocumentedConditions(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "conditions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.ValueSpec); ok && len(s.Values) == 1 {
			if lit, ok := s.Values[0].(*ast.BasicLit); ok && strings.HasPrefix(s.Names[0].Name, "Cond") {
				text, _ := strconv.Unquote(lit.Value)
				want = append(want, text)
			}
		}
		return true
	})
	if len(want) < 50 {
		t.Fatalf("found only %v", want)
	}
	listed := readDocument(t).names(t, "What the attempts showed", "Questions of the plan `thorough`", "What only a look at the wire gives", "This machine's own doing", "Names")
	slices.Sort(want)
	slices.Sort(listed)
	for _, c := range want {
		if !slices.Contains(listed, c) {
			t.Errorf("docs/verdicts.md lacks %s", c)
		}
	}
	for i, c := range listed {
		if !slices.Contains(want, c) {
			t.Errorf("docs/verdicts.md has %s, and conditions.go has not", c)
		}
		if i > 0 && listed[i-1] == c {
			t.Errorf("docs/verdicts.md has %s twice", c)
		}
	}
}
