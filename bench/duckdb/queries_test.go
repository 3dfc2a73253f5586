package main

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report"
	"tfofleet/internal/report/matrix"
	"tfofleet/internal/report/queries"
	"tfofleet/internal/report/simulate"
)

// Every documented query gives, in DuckDB, the number that the summary has.
func TestQueries(t *testing.T) {
	f := &simulate.Fleet{Seed: 5, Targets: 4000, Probes: 3, ChunkSize: 700, Attempts: true, BadTargets: 10_000, BadPaths: 5000, Inconclusive: 5000, Transient: 5000}
	dir := t.TempDir()
	if err := f.Write(dir); err != nil {
		t.Fatal(err)
	}
	s, err := report.Aggregate(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir) // the queries are for the directory of the dataset
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	checks := map[string]func(rows [][]any){
		"verdicts": func(rows [][]any) {
			for _, r := range rows {
				same(t, "share of "+r[0].(string), share(s, r[0].(string)).Share, r[2])
				same(t, r[0].(string), share(s, r[0].(string)).Count, r[1])
			}
			same(t, "verdicts", len(s.Verdicts), len(rows))
		},
		"probe":  func(rows [][]any) { groups(t, s.ByProbe, rows) },
		"port":   func(rows [][]any) { groups(t, s.ByPort, rows) },
		"family": func(rows [][]any) { groups(t, s.ByFamily, rows) },
		"faults": func(rows [][]any) {
			same(t, "faults", s.Fault.Count, rows[0][0])
			same(t, "noise", s.Transient.Count, rows[0][1])
		},
		"interval": func(rows [][]any) {
			for _, r := range rows {
				p := share(s, r[0].(string))
				same(t, "low of "+r[0].(string), p.Low, r[1])
				same(t, "high of "+r[0].(string), p.High, r[2])
			}
		},
		"saved": func(rows [][]any) {
			same(t, "n", s.Saved.N, rows[0][0])
			for i, want := range []int64{s.Saved.P10US, s.Saved.MedianUS, s.Saved.P90US} {
				if got := rows[0][1].([]any)[i].(float64); math.Abs(got-float64(want)) > 1 { // we cut off, DuckDB does not
					t.Errorf("saved, quantile %d: %v in DuckDB, %v here", i, got, want)
				}
			}
			if got := rows[0][2].(float64); math.Abs(got-s.Saved.Share.Tenths[5]) > 0.001 {
				t.Errorf("of a round trip: %v in DuckDB, %v here", got, s.Saved.Share.Tenths[5])
			}
		},
		"conditions": func(rows [][]any) {
			for i, r := range rows {
				same(t, s.Conditions[i].Condition, s.Conditions[i].Count, r[1])
				same(t, "condition", s.Conditions[i].Condition, r[0])
			}
			same(t, "conditions", len(s.Conditions), len(rows))
		},
		"targets": func(rows [][]any) {
			var stable uint64
			for _, n := range s.Targets.Stability {
				if n.Name == "stable" {
					stable = n.Count
				}
			}
			same(t, "stable", stable, rows[0][1])
		},
	}
	hold(t, db, queries.All(), checks)
}

// hold holds each query against its check.
func hold(t *testing.T, db *sql.DB, qs []queries.Query, checks map[string]func(rows [][]any)) {
	t.Helper()
	for _, q := range qs {
		check := checks[q.Name]
		if check == nil {
			t.Errorf("query %s is held against nothing", q.Name)
			continue
		}
		delete(checks, q.Name)
		if rows := all(t, db, q.SQL); len(rows) == 0 {
			t.Errorf("%s: no row", q.Name)
		} else {
			check(rows)
		}
	}
	if len(checks) > 0 {
		t.Errorf("%d checks without a query", len(checks))
	}
}

// Those over a mesh give what its matrix has.
func TestMeshQueries(t *testing.T) {
	w, err := dataset.Create(t.TempDir(), &dataset.Survey{ID: "m", State: dataset.StateDone, Created: time.Now(), Probes: []dataset.Probe{}})
	if err != nil {
		t.Fatal(err)
	}
	var rows []dataset.MeshRow
	probes := []string{"a", "b", "c", "d", "e"}
	rng := rand.New(rand.NewPCG(1, 2))
	for i, client := range probes {
		for j, server := range probes {
			for _, port := range []uint16{80, 443} {
				if i == j {
					continue
				}
				r := dataset.MeshRow{
					Mesh: "m", Client: client, Server: server, Family: 4, Port: port, Item: uint64(len(rows)), Attempts: 5, Joined: 5,
					Verdict:     measure.JointVerdict(1 + rng.IntN(len(measure.JointVerdicts()))),
					Differences: []measure.PathDifference{{Difference: measure.Difference{Field: measure.FieldTTL, Change: measure.Rewritten, Before: "64", After: "60"}, Seen: 5, Of: 5}},
				}
				if r.Verdict.Fault() {
					r.Direction = measure.Direction(rng.IntN(4))
				}
				if rng.IntN(2) == 0 {
					r.Differences = append(r.Differences, measure.PathDifference{Difference: measure.Difference{Field: measure.FieldMSS, Option: 2, Change: measure.Rewritten, Before: "1460", After: "1380"}, Seen: 5, Of: 5})
				}
				if change := measure.Change(rng.IntN(4)); change > 0 {
					d := measure.Difference{Field: measure.FieldTimestamps, Option: 8, Change: change, Before: "aa", After: "bb"}
					switch change {
					case measure.Removed:
						d.After = ""
					case measure.Added:
						d.Before = ""
					}
					r.Differences = append(r.Differences, measure.PathDifference{Difference: d, Seen: 5, Of: 5})
				}
				rows = append(rows, r)
			}
		}
	}
	if err := w.WriteMesh(rows); err != nil {
		t.Fatal(err)
	}
	m, err := matrix.Collect(w.Dir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(w.Dir())
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	hold(t, db, queries.Mesh(), map[string]func([][]any){
		"joint": func(rows [][]any) {
			got := map[any]int64{}
			for _, r := range rows {
				got[r[0]] += r[2].(int64)
			}
			for _, v := range m.Verdicts {
				same(t, v.Verdict, v.Pairs, got[v.Verdict])
			}
			same(t, "verdicts", len(m.Verdicts), len(got))
		},
		"asymmetric": func(rows [][]any) {
			got := map[string]int{}
			for _, r := range rows {
				got[fmt.Sprint(r[2:]...)]++
			}
			want := map[string]int{}
			for _, a := range m.Asymmetric {
				want[fmt.Sprint(a.A, a.B, a.AToB.Verdict, a.BToA.Verdict)] += len(a.Places)
			}
			if !maps.Equal(got, want) {
				t.Errorf("asymmetric: %v in DuckDB, %v here", got, want)
			}
		},
		"rewrites": func(rows [][]any) {
			same(t, "fields", len(m.Rewrites), len(rows))
			for i, r := range rows {
				w := m.Rewrites[i]
				same(t, "field", w.Field, r[0])
				same(t, "change of "+w.Field, w.Change, r[1])
				same(t, w.Field+" "+w.Change, w.Pairs, r[2])
			}
		},
	})
}

func all(t *testing.T, db *sql.DB, query string) [][]any {
	t.Helper()
	rows, err := db.QueryContext(context.Background(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var out [][]any
	for rows.Next() {
		cells := make([]any, len(columns))
		at := make([]any, len(columns))
		for i := range cells {
			at[i] = &cells[i]
		}
		if err := rows.Scan(at...); err != nil {
			t.Fatal(err)
		}
		out = append(out, cells)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// same compares numbers of any type, and words.
func same(t *testing.T, what string, here, there any) {
	t.Helper()
	a, b := fmt.Sprint(here), fmt.Sprint(there)
	if a == b {
		return
	}
	var x, y float64
	if _, err := fmt.Sscan(a, &x); err == nil {
		if _, err := fmt.Sscan(b, &y); err == nil && math.Abs(x-y) < 1e-12 {
			return
		}
	}
	t.Errorf("%s: %s in DuckDB, %s here", what, b, a)
}

func share(s *report.Summary, verdict string) report.Part {
	for _, v := range s.Verdicts {
		if v.Verdict == verdict {
			return v.Part
		}
	}
	return report.Part{}
}

func groups(t *testing.T, gs []report.Group, rows [][]any) {
	t.Helper()
	got := map[string]string{}
	for _, r := range rows {
		got[fmt.Sprint(r[0], " ", r[1])] = fmt.Sprint(r[2])
	}
	n := 0
	for _, g := range gs {
		for _, v := range g.Verdicts {
			n++
			same(t, g.Key+" "+v.Verdict, v.Count, got[g.Key+" "+v.Verdict])
		}
	}
	same(t, "groups", n, len(rows))
}

// Both sides of the benchmark find the same.
func TestSidesAgree(t *testing.T) {
	set, err := generate(t.TempDir(), &simulate.Fleet{Seed: 6, Targets: 3000, Probes: 2, ChunkSize: 900, BadTargets: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	a, err := ours(context.Background(), set)
	if err != nil {
		t.Fatal(err)
	}
	b, err := theirs(context.Background(), set)
	if err != nil {
		t.Fatal(err)
	}
	if err := agree(map[string]result{"ours": *a, "duckdb": *b}); err != nil {
		t.Error(err)
	}
}

// The attempts table opens as well: as many rows as the measurements say.
func TestAttempts(t *testing.T) {
	f := &simulate.Fleet{Seed: 7, Targets: 500, Probes: 2, Attempts: true}
	dir := t.TempDir()
	if err := f.Write(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "survey.json")); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows := all(t, db, strings.ReplaceAll(`select (select count(*) from 'DIR/attempts/*.parquet'), (select sum(attempts) from 'DIR/measurements/*.parquet'),
  (select count(*) from 'DIR/attempts/*.parquet' a join 'DIR/measurements/*.parquet' m using (survey, probe, item)), (select count(*) from 'DIR/targets.parquet')`, "DIR", dir))
	if r := rows[0]; fmt.Sprint(r[0]) != fmt.Sprint(r[1]) || fmt.Sprint(r[0]) != fmt.Sprint(r[2]) || fmt.Sprint(r[3]) != "500" || fmt.Sprint(r[0]) == "0" {
		t.Errorf("%v", r)
	}
}
