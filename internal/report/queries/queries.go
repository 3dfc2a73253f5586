// Package queries holds, as SQL over the tables of a dataset, every number that
// a summary shows first, so that a study can go on in DuckDB, or in what else
// reads Parquet, and knows what it computes. The benchmark module runs each and
// holds it against the summary.
package queries

import (
	_ "embed"
	"strings"
)

//go:embed headline.sql
var headline string

//go:embed mesh.sql
var mesh string

// Query is one number, or table, of a summary.
type Query struct {
	Name string // a word
	What string // a sentence
	// SQL is for DuckDB, in the directory of the dataset.
	SQL string
}

// All lists the queries, in the order of a summary.
func All() []Query { return parse(headline) }

// Mesh lists those over the table of a mesh, which a survey does not have.
func Mesh() []Query { return parse(mesh) }

func parse(file string) (qs []Query) {
	_, text, _ := strings.Cut(file, "-- query ")
	for part := range strings.SplitSeq(text, "-- query ") {
		head, sql, ok := strings.Cut(part, "\n")
		name, what, named := strings.Cut(head, ": ")
		if ok && named {
			qs = append(qs, Query{name, what, strings.TrimSpace(sql)})
		}
	}
	return qs
}
