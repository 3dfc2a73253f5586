package main

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	_ "github.com/duckdb/duckdb-go/v2"

	"tfofleet/internal/measure"
	"tfofleet/internal/report/aggregate"
	"tfofleet/internal/report/origin"
)

// Questions. Ours are answered in one pass.
const (
	wholeReport = "whole report, with blame"
	fourQueries = "group-bys, four queries"
	oneQuery    = "group-bys, grouping sets"
)

// properties are what both sides group verdicts by.
var properties = []string{"probe", "port", "family", "as"}

func ours(ctx context.Context, set string) (*result, error) {
	out := &result{map[string]float64{}, map[string]float64{}, map[string]map[string]uint64{}}
	watch := start()
	table, err := origin.Open(filepath.Join(set, asns))
	if err != nil {
		return nil, err
	}
	r, err := aggregate.Run(ctx, aggregate.Query{Origin: table, By: []aggregate.By{{aggregate.KeyAS}}}, set)
	if err != nil {
		return nil, err
	}
	watch.stop(out, wholeReport)
	for _, c := range r.Crossings {
		counts := map[string]uint64{}
		for i := range c.Groups {
			for _, v := range measure.Verdicts() {
				if n := c.Groups[i].Verdict(v); n > 0 {
					counts[c.Groups[i].Keys[0]+" "+v.String()] = n
				}
			}
		}
		out.Counts[c.By.String()] = counts
	}
	return out, nil
}

// columns are the properties as SQL. The prefixes of the benchmark are all /16
// and /32, so that a hash join finds them: the best that DuckDB can do.
var columns = map[string]string{
	"probe":  "probe",
	"port":   "port::varchar",
	"family": "'ipv' || family",
	"as":     "'AS' || a.asn",
}

const announced = `case family
  when 4 then split_part(target, '.', 1) || '.' || split_part(target, '.', 2) || '.0.0/16'
  else split_part(target, ':', 1) || ':' || split_part(target, ':', 2) || '::/32' end`

func theirs(ctx context.Context, set string) (*result, error) {
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	out := &result{map[string]float64{}, map[string]float64{}, map[string]map[string]uint64{}}
	if _, err := db.ExecContext(ctx, fmt.Sprintf("set threads = %d", runtime.NumCPU())); err != nil {
		return nil, err
	}
	files := "'" + filepath.Join(set, "measurements", "*.parquet") + "'"
	join := fmt.Sprintf(" join read_csv('%s', header = false, names = ['prefix', 'asn'], types = {'prefix': 'varchar'}) a on a.prefix = %s", filepath.Join(set, asns), announced)

	watch := start()
	for _, p := range properties {
		from := files
		if p == "as" {
			from += " m" + join
		}
		counts, err := count(ctx, db, fmt.Sprintf("select %s, verdict, count(*), count(*) filter (list_contains(conditions, 'tfo.connectivity.transient')) from %s where outcome = 'measured' group by 1, 2", columns[p], from))
		if err != nil {
			return nil, err
		}
		out.Counts[p] = counts
	}
	watch.stop(out, fourQueries)

	watch = start()
	var sets []string
	for i := range properties {
		sets = append(sets, fmt.Sprintf("(p%d, verdict)", i))
	}
	query := fmt.Sprintf(`select coalesce(p0, p1, p2, p3), verdict, count(*), count(*) filter (transient) from (
  select %s p0, %s p1, %s p2, %s p3, verdict, list_contains(conditions, 'tfo.connectivity.transient') transient from %s m%s where outcome = 'measured')
group by grouping sets (%s)`, columns["probe"], columns["port"], columns["family"], columns["as"], files, join, strings.Join(sets, ", "))
	if _, err := count(ctx, db, query); err != nil {
		return nil, err
	}
	watch.stop(out, oneQuery)
	return out, nil
}

func count(ctx context.Context, db *sql.DB, query string) (map[string]uint64, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	defer rows.Close()
	counts := map[string]uint64{}
	for rows.Next() {
		var key, verdict string
		var n, transient uint64
		if err := rows.Scan(&key, &verdict, &n, &transient); err != nil {
			return nil, err
		}
		counts[key+" "+verdict] = n
	}
	return counts, rows.Err()
}
