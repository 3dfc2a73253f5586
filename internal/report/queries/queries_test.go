package queries

import (
	"strings"
	"testing"

	"tfofleet/internal/measure"
)

// Each query has a name, says what it is, and is one statement.
func TestAll(t *testing.T) {
	for file, qs := range map[string][]Query{headline: All(), mesh: Mesh()} {
		if len(qs) != strings.Count(file, "-- query ") || len(qs) < 3 {
			t.Fatalf("%d queries", len(qs))
		}
	}
	for _, q := range append(All(), Mesh()...) {
		if strings.Contains(q.Name, " ") || q.What == "" || strings.Count(q.SQL, ";") != 1 || !strings.HasSuffix(q.SQL, ";") {
			t.Errorf("%+v", q)
		}
		if q.Name != "faults" {
			continue
		}
		// The list of faults in it is that of the code.
		for _, v := range measure.Verdicts() {
			if strings.Contains(q.SQL, "'"+v.String()+"'") != v.Fault() {
				t.Errorf("%v is a fault: %v", v, v.Fault())
			}
		}
	}
}
