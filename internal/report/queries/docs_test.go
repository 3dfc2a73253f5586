package queries

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the queries into the document")

const (
	document = "../../../docs/dataset.md"
	begin    = "<!-- queries: kept by internal/report/queries, go test ./internal/report/queries -update -->\n"
	end      = "<!-- end of queries -->\n"
)

// The document shows exactly the queries that are tested.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	shown, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the queries", document)
	}
	var want strings.Builder
	for _, q := range append(All(), Mesh()...) {
		fmt.Fprintf(&want, "\n### `%s`\n\n%s.\n\n```sql\n%s\n```\n", q.Name, strings.ToUpper(q.What[:1])+q.What[1:], q.SQL)
	}
	want.WriteString("\n")
	if *update {
		if err := os.WriteFile(document, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if shown != want.String() {
		t.Errorf("%s shows other queries than there are: go test ./internal/report/queries -update", document)
	}
}
