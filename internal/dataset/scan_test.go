package dataset

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// rowsOfScan turns a scan of all columns back into the rows that [Rows] gives.
func rowsOfScan(s *Scan, visitors int) (map[ChunkKey][]Row, error) {
	got := make([]map[ChunkKey][]Row, visitors)
	var visit []func(*Batch) error
	for v := range got {
		got[v] = make(map[ChunkKey][]Row)
		visit = append(visit, func(b *Batch) error {
			for i := range b.Len {
				got[v][b.ChunkKey] = append(got[v][b.ChunkKey], rowOfBatch(s, b, i))
			}
			return nil
		})
	}
	if err := s.Run(context.Background(), visit...); err != nil {
		return nil, err
	}
	for _, m := range got[1:] {
		for k, rows := range m {
			got[0][k] = append(got[0][k], rows...)
		}
	}
	return got[0], nil
}

func rowOfBatch(s *Scan, b *Batch, i int) Row {
	known := func(v int64) int64 {
		if v == Null {
			return tfo.NotKnown
		}
		return v
	}
	r := Row{
		Record: Record{b.ChunkKey, measure.Measurement{
			Target:  measure.Target{Item: b.Item[i], Addr: b.Addr[i], Port: b.Port[i], Hostname: string([]byte(b.Hostname.At(i)))},
			Outcome: b.Outcome[i], Verdict: b.Verdict[i],
		}},
		Made: int(b.Attempts[i]), Family: int(b.Family[i]),
		PlainConnectUS: known(b.PlainConnectUS[i]), PlainFirstByteUS: known(b.PlainFirstByteUS[i]), TFOFirstByteUS: known(b.TFOFirstByteUS[i]),
	}
	for _, id := range b.Conditions.At(i) {
		r.Conditions = append(r.Conditions, s.Label(id))
	}
	if b.Started[i] != Null {
		r.Started = when(&b.Started[i])
	}
	r.Duration = time.Duration(b.DurationUS[i]) * time.Microsecond
	if v := b.SavedUS[i]; v != Null {
		r.SavedUS = &v
	}
	return r
}

// A scan gives what Rows gives.
func TestScanIsRows(t *testing.T) {
	seed := rand.IntN(1 << 30)
	t.Logf("seed %d", seed)
	w := newDataset(t)
	for chunk, n := range []int{0, 1, 3, 64, 150} {
		ms := make([]measure.Measurement, n)
		for i := range ms {
			ms[i] = genMeasurement().Example(seed + i)
		}
		if err := w.WriteChunk(ChunkKey{Survey: "s1", Probe: []string{"a", "b.c"}[chunk%2], Chunk: uint32(chunk)}, ms); err != nil {
			t.Fatal(err)
		}
	}
	want := make(map[ChunkKey][]Row)
	for r, err := range Rows(w.Dir()) {
		if err != nil {
			t.Fatal(err)
		}
		r.Cookie, r.Observed = nil, netip.Addr{} // columns that are not scanned
		want[r.ChunkKey] = append(want[r.ChunkKey], r)
	}
	for visitors := range 3 {
		got, err := rowsOfScan(NewScan(AllColumns, w.Dir()), visitors+1)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, exact...); diff != "" {
			t.Fatalf("rows (-) and scan (+): %s", diff)
		}
	}
}

// Batches with targets in common are one run for one visitor, whatever the
// numbers of their chunks are; all others are runs of their own.
func TestScanRuns(t *testing.T) {
	eachPlace(t, func(t *testing.T, dir string) {
		w := create(t, dir)
		from := func(first, n int) []measure.Measurement {
			ms := items(n)
			for i := range ms {
				ms[i].Item = uint64(first + i)
			}
			return ms
		}
		write := func(probe string, chunk uint32, first, n int) ChunkKey {
			k := ChunkKey{Survey: "s1", Probe: probe, Chunk: chunk}
			if err := w.WriteChunk(k, from(first, n)); err != nil {
				t.Fatal(err)
			}
			return k
		}
		var want [][]ChunkKey
		for part := range 5 {
			// Chunk numbers of the probes differ; the third has the rest of a
			// part under a later number.
			first := part * 100
			want = append(want, []ChunkKey{
				write("a", uint32(part), first, 100),
				write("b", uint32(100+part), first, 60),
				write("b", uint32(200+part), first+60, 40),
				write("c", uint32(300-part), first+99, 1),
			})
		}
		want = append(want, []ChunkKey{write("a", 999, 5000, 0)}) // nothing in it

		var visitors [3][][]ChunkKey
		var visit []func(*Batch) error
		for v := range visitors {
			var run []ChunkKey
			visit = append(visit, func(b *Batch) error {
				if run = append(run, b.ChunkKey); b.Last {
					visitors[v], run = append(visitors[v], run), nil
				}
				if b.Len != len(b.Item) || b.Port != nil || b.Dir != 1 && b.Dir != 2 {
					t.Errorf("batch of %d: %+v", b.Len, b)
				}
				return nil
			})
		}
		if err := NewScan(ColItem, t.TempDir(), dir, dir).Run(t.Context(), visit...); err != nil {
			t.Fatal(err)
		}
		got := slices.Concat(visitors[:]...)
		order := func(a, b []ChunkKey) int { return a[0].compare(b[0]) }
		slices.SortFunc(got, order)
		want = append(want, want...) // the dataset was given twice
		slices.SortFunc(want, order)
		for _, run := range want {
			slices.SortFunc(run, ChunkKey.compare)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("runs (-want +got): %s", diff)
		}
	})
}

// A scan ends with the error of a visitor, of a file or of the context.
func TestScanEnds(t *testing.T) {
	eachPlace(t, func(t *testing.T, dir string) {
		w := create(t, dir)
		for chunk := range uint32(40) {
			if err := w.WriteChunk(ChunkKey{Survey: "s1", Probe: "a", Chunk: chunk}, items(1)); err != nil {
				t.Fatal(err)
			}
		}
		stopped := errors.New("stopped")
		calls := 0
		stop := func(*Batch) error {
			if calls++; calls == 5 {
				return stopped
			}
			return nil
		}
		if err := NewScan(ColItem, dir).Run(t.Context(), stop); !errors.Is(err, stopped) || calls != 5 {
			t.Errorf("%v after %d calls", err, calls)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ends := func(*Batch) error { cancel(); return nil }
		if err := NewScan(ColItem, dir).Run(ctx, ends, ends); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		f, err := w.p.New(measurementsDir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Discard()
		if _, err := f.Write([]byte("PAR1 is how it begins")); err != nil {
			t.Fatal(err)
		}
		if err := f.Finish(); err != nil {
			t.Fatal(err)
		}
		k := ChunkKey{Survey: "s1", Probe: "a", Chunk: 7}
		if err := f.Replace(base(k.measurements())); err != nil {
			t.Fatal(err)
		}
		keep := func(*Batch) error { return nil }
		if err := NewScan(ColItem, dir).Run(t.Context(), keep, keep); err == nil || !strings.Contains(err.Error(), w.p.Path(k.measurements())) {
			t.Errorf("a damaged file: %v", err)
		}
	})
}

// A table with other columns, and one of another kind, are refused with a name.
func TestScanOfAnotherTable(t *testing.T) {
	w := newDataset(t)
	k := ChunkKey{Survey: "s1", Probe: "a", Chunk: 0}
	if err := w.WriteChunk(k, items(3)); err != nil {
		t.Fatal(err)
	}
	attempts, err := os.ReadFile(pathOf(t, w.Dir(), k, attemptsDir))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pathOf(t, w.Dir(), k, measurementsDir), attempts, 0o644); err != nil {
		t.Fatal(err)
	}
	err = NewScan(ColOutcome, w.Dir()).Run(t.Context(), func(*Batch) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "no column outcome") {
		t.Error(err)
	}
}

// A footer that is longer than was guessed is read whole.
func TestItemsOfLongFooter(t *testing.T) {
	w := newDataset(t)
	k := ChunkKey{Survey: "s1", Probe: "a", Chunk: 0}
	f, err := w.p.New(measurementsDir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Discard()
	out := &sealer{f: f}
	table := newRowWriter[measurementRow](out, parquet.KeyValueMetadata("x", strings.Repeat("x", 2*footerGuess)))
	if err := table.Write([]measurementRow{{Item: 7}, {Item: 9}}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{table.w.Close, out.seal, f.Finish, func() error { return f.Create(base(k.measurements())) }} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if first, last, err := itemsOf(w.p, k.measurements()); first != 7 || last != 9 || err != nil {
		t.Errorf("%d to %d, %v", first, last, err)
	}
}

func FuzzParseIPv4(f *testing.F) {
	for _, s := range []string{"1.2.3.4", "255.255.255.255", "0.0.0.0", "01.2.3.4", "256.1.1.1", "1.2.3", "1.2.3.4.5", "1..2.3", "", ".", "1.2.3.", "::1", "1.2.3.4%e", "1.2.3.00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := parseIPv4([]byte(s))
		want, err := netip.ParseAddr(s)
		if wantOK := err == nil && want.Is4(); ok != wantOK || ok && a != want {
			t.Errorf("%q: %v, %v, want %v, %v", s, a, ok, want, wantOK)
		}
	})
}
