package report

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
)

// Every measurement is counted once: over all, and in one group of every kind.
func TestCountsAddUp(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var ms []measure.Measurement
		probes := map[string][]measure.Measurement{}
		for range rapid.IntRange(0, 60).Draw(rt, "n") {
			m := measured(
				measure.Verdict(rapid.IntRange(0, 15).Draw(rt, "verdict")), // some of a later version
				at(rapid.SampledFrom([]int{0, 4, 6}).Draw(rt, "family"), rapid.SampledFrom([]uint16{53, 80, 443}).Draw(rt, "port")),
				rapid.SliceOfNDistinct(rapid.SampledFrom([]measure.Condition{measure.CondWorks, measure.CondVantageNoRoute, "tfo.new.one"}), 0, 3, rapid.ID).Draw(rt, "conditions")...)
			m.Outcome = measure.Outcome(rapid.IntRange(0, 4).Draw(rt, "outcome"))
			probe := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "probe")
			probes[probe] = append(probes[probe], m)
			ms = append(ms, m)
		}
		s, err := Aggregate(write(t, testSurvey(), probes))
		if err != nil {
			rt.Fatal(err)
		}
		if s.Measurements != uint64(len(ms)) {
			rt.Fatalf("%d counted of %d", s.Measurements, len(ms))
		}
		check := func(c Counts) {
			if c.Measured+c.Refused+c.Interrupted+c.Unknown != c.Measurements {
				rt.Fatalf("outcomes of %+v", c)
			}
			n, share := uint64(0), 0.0
			for _, v := range c.Verdicts {
				n += v.Count
				share += v.Share
			}
			if n != c.Measured || n > 0 && (share < 0.999 || share > 1.001) {
				rt.Fatalf("verdicts of %+v", c)
			}
		}
		check(s.Counts)
		for _, groups := range [][]Group{s.ByProbe, s.ByPort, s.ByFamily} {
			n := uint64(0)
			for _, g := range groups {
				check(g.Counts)
				n += g.Measurements
			}
			if n != s.Measurements {
				rt.Fatalf("%d in groups %+v", n, groups)
			}
		}
		for _, c := range s.Conditions {
			n := uint64(0)
			for _, m := range ms {
				if m.Outcome == measure.OutcomeMeasured && slices.Contains(m.Conditions, measure.Condition(c.Condition)) {
					n++
				}
			}
			if c.Count != n {
				rt.Fatalf("%s: %d of %d", c.Condition, c.Count, n)
			}
		}
	})
}

func TestAggregateErrors(t *testing.T) {
	if _, err := Aggregate(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	dir := write(t, testSurvey(), map[string][]measure.Measurement{"local": times(3, measured(measure.Offline, at(4, 443)))})
	tables, err := filepath.Glob(filepath.Join(dir, "measurements", "*.parquet"))
	if err != nil || len(tables) != 1 {
		t.Fatal(tables, err)
	}
	if err := os.Truncate(tables[0], 100); err != nil {
		t.Fatal(err)
	}
	if _, err := Aggregate(dir); err == nil || !strings.Contains(err.Error(), tables[0]) {
		t.Errorf("a truncated table: %v", err)
	}
}

// The median of what was saved is that of supported targets, and only theirs.
func TestSaved(t *testing.T) {
	other := saving(at(4, 443), 900_000, 100)
	other.Verdict = measure.Inconclusive
	noTFO := saving(at(4, 443), 50_000, 20_000)
	noTFO.Attempts = noTFO.Attempts[:1]
	s := aggregated(t, testSurvey(), []measure.Measurement{
		saving(at(4, 443), 50_000, 20_000), saving(at(4, 443), 10_000, 12_000), saving(at(4, 443), 40_000, 20_000), other, noTFO,
	})
	if s.Saved == nil || s.Saved.N != 3 || s.Saved.MedianUS != 20_000 || !s.Saved.Exact || s.Saved.P10US >= s.Saved.MedianUS {
		t.Errorf("%+v", s.Saved)
	}
	if s := aggregated(t, testSurvey(), []measure.Measurement{noTFO}); s.Saved != nil {
		t.Errorf("saved without a time with TFO: %+v", s.Saved)
	}
}

// Aggregating takes no more memory for more targets.
func BenchmarkAggregate(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	s := testSurvey()
	w, err := dataset.Create(b.TempDir(), s)
	if err != nil {
		b.Fatal(err)
	}
	const chunks, chunk = 8, 8192
	for k := range uint32(chunks) {
		ms := make([]measure.Measurement, chunk)
		for i := range ms {
			ms[i] = saving(measure.Target{Item: uint64(i), Addr: netip.AddrFrom4([4]byte{1, byte(i >> 8), byte(i), 1}), Port: 443}, 20_000+r.Int64N(90_000), 10_000+r.Int64N(40_000))
			ms[i].Started = time.Unix(1763668800, r.Int64N(1e9))
			if r.IntN(10) > 0 {
				ms[i].Verdict = measure.Unsupported
			}
			ms[i].Attempts[0].InfoFinal = make([]byte, 280)
		}
		if err := w.WriteChunk(dataset.ChunkKey{Survey: s.ID, Probe: "local", Chunk: k}, ms); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Aggregate(w.Dir()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(chunks*chunk)*float64(b.N)/b.Elapsed().Seconds(), "measurements/s")
}
