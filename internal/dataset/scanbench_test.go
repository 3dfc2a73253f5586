package dataset

import (
	"context"
	"math/rand/v2"
	"testing"

	"tfofleet/internal/measure"
)

// scanDataset holds a million measurements: two probes, all targets each.
func scanDataset(b *testing.B) (dir string, rows int) {
	w := newDataset(b)
	r := rand.New(rand.NewPCG(1, 2))
	ms := fullChunk(r)
	for i := range ms {
		ms[i].Attempts = ms[i].Attempts[:4]
		for j := range ms[i].Attempts {
			ms[i].Attempts[j].InfoHandshake, ms[i].Attempts[j].InfoFinal = nil, nil
		}
		if r.IntN(4) == 0 {
			ms[i].Verdict, ms[i].Conditions = measure.Unsupported, ms[i].Conditions[:1]
			ms[i].Attempts[2].SynAcked, ms[i].Attempts[3].SynAcked = 0, 0
		}
		if r.IntN(8) == 0 {
			ms[i].Port, ms[i].Hostname = 80, "www.example.org"
		}
	}
	const chunks = 61
	for chunk := range uint32(chunks) {
		for i := range ms {
			ms[i].Item = uint64(chunk)*uint64(len(ms)) + uint64(i)
		}
		for _, probe := range []string{"a", "b"} {
			if err := w.WriteChunk(ChunkKey{Survey: "s1", Probe: probe, Chunk: chunk}, ms); err != nil {
				b.Fatal(err)
			}
		}
	}
	return w.Dir(), 2 * chunks * len(ms)
}

// BenchmarkScan gives rows per second with two visitors.
func BenchmarkScan(b *testing.B) {
	dir, rows := scanDataset(b)
	for _, c := range []struct {
		name    string
		columns Columns
	}{
		{"group by", ColPort | ColFamily | ColOutcome | ColVerdict},
		{"report", ColPort | ColFamily | ColOutcome | ColVerdict | ColConditions | ColSavedUS},
		{"addresses", ColItem | ColAddr | ColPort | ColOutcome | ColVerdict},
		{"all", AllColumns},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var n [2]struct {
					verdicts [256]int
					_        [64]byte
				}
				count := func(v int) func(*Batch) error {
					return func(batch *Batch) error {
						for _, verdict := range batch.Verdict {
							n[v].verdicts[verdict]++
						}
						return nil
					}
				}
				if err := NewScan(c.columns, dir).Run(context.Background(), count(0), count(1)); err != nil {
					b.Fatal(err)
				}
				if got := n[0].verdicts[measure.Supported] + n[1].verdicts[measure.Supported]; got < rows/2 || got > rows {
					b.Fatalf("%d of %d supported", got, rows)
				}
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
	b.Run("rows", func(b *testing.B) {
		for b.Loop() {
			for _, err := range Rows(dir) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	})
}
