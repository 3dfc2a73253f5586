package html

import (
	"io"
	"testing"

	"tfofleet/internal/measure"
	"tfofleet/internal/report/html/htmltest"
)

// BenchmarkWrite makes the report of 20,000 targets.
func BenchmarkWrite(b *testing.B) {
	dir := b.TempDir()
	if err := htmltest.Write(dir, htmltest.Config{Seed: 5, Targets: 20_000, Probes: []string{"a"}, Plan: measure.Standard, Fault: 0.06}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := Write(b.Context(), io.Discard, Options{}, dir); err != nil {
			b.Fatal(err)
		}
	}
}
