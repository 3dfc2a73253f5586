package aggregate

import (
	"context"
	"testing"

	"tfofleet/internal/report/simulate"
)

// What a report costs, by AS as well; the module bench/duckdb compares.
func BenchmarkRun(b *testing.B) {
	f := &simulate.Fleet{Seed: 1, Targets: 40_000, Probes: 5, Attempts: true, BadTargets: 3000, BadPaths: 1000, Inconclusive: 2000, Transient: 2000}
	dir := written(b, f)
	q := Query{By: []By{{KeyAS}}, Origin: asns(b)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Run(context.Background(), q, dir); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(f.Targets*f.Probes)*float64(b.N)/b.Elapsed().Seconds(), "measurements/s")
}
