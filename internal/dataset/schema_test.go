package dataset

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
)

// typeName is how SCHEMA.md writes a column's type.
func typeName(t *testing.T, f parquet.Field) string {
	if f.Name() == "conditions" || f.Name() == "differences" {
		return "list<string>"
	}
	name := f.Type().String()
	switch {
	case name == "INT(64,true)":
		name = "int64"
	case name == "INT(32,true)":
		name = "int32"
	case name == "STRING":
		name = "string"
	case name == "BYTE_ARRAY":
		name = "binary"
	case name == "FIXED_LEN_BYTE_ARRAY(8)":
		name = "fixed[8]"
	case name == "FIXED_LEN_BYTE_ARRAY(16)":
		name = "fixed[16]"
	case name == "TIMESTAMP(isAdjustedToUTC=true,unit=MICROS)":
		name = "timestamp_us_utc"
	default:
		t.Errorf("column %s: no word for type %s", f.Name(), name)
	}
	if f.Optional() {
		name += "?"
	}
	return name
}

// documented gives the rows "| `name` | type | meaning |" of a section.
func documented(t *testing.T, section string) (columns []string) {
	t.Helper()
	doc, err := os.ReadFile("SCHEMA.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "\n## "+section+"\n")
	if !ok {
		t.Fatalf("SCHEMA.md has no section %s", section)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (\\S+) \\| (.+) \\|$").FindAllStringSubmatch(rest, -1) {
		columns = append(columns, m[1]+" "+m[2])
	}
	return columns
}

// SCHEMA.md names every column of every table, in order, with its type.
func TestSchemaIsDocumented(t *testing.T) {
	for section, row := range map[string]any{"targets": targetRow{}, "measurements": measurementRow{}, "attempts": attemptRow{}, "mesh": meshRow{}} {
		var columns []string
		for _, f := range parquet.SchemaOf(row).Fields() {
			columns = append(columns, f.Name()+" "+typeName(t, f))
		}
		if diff := cmp.Diff(columns, documented(t, section)); diff != "" {
			t.Errorf("%s: schema (-) and SCHEMA.md (+) differ:\n%s", section, diff)
		}
	}
}

func columnNames(row any) (names []string) {
	for _, f := range parquet.SchemaOf(row).Fields() {
		names = append(names, f.Name())
	}
	return names
}

// The exports have the columns of the tables, under their names.
func TestExportsHaveEveryColumn(t *testing.T) {
	j := &join{measurement: &measurementRow{}, attempts: []attemptRow{{}}}

	header := strings.Split(strings.TrimSuffix(string(csvHeader()), "\n"), ",")
	want := append(columnNames(measurementRow{}), "attempts_made")
	slices.Sort(header)
	slices.Sort(want)
	if diff := cmp.Diff(want, header); diff != "" {
		t.Errorf("csv: %s", diff)
	}

	var line map[string]json.RawMessage
	if err := json.Unmarshal(appendJSONLine(nil, j), &line); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(columnNames(measurementRow{}))), slices.Sorted(maps.Keys(line))); diff != "" {
		t.Errorf("jsonl: %s", diff)
	}
	var attempts []map[string]json.RawMessage
	if err := json.Unmarshal(line["attempts"], &attempts); err != nil {
		t.Fatal(err)
	}
	own := slices.DeleteFunc(columnNames(attemptRow{}), func(s string) bool {
		return slices.Contains([]string{"survey", "probe", "chunk", "item"}, s)
	})
	if diff := cmp.Diff(slices.Sorted(slices.Values(own)), slices.Sorted(maps.Keys(attempts[0]))); diff != "" {
		t.Errorf("jsonl attempts: %s", diff)
	}
}
