package dataset

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

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
	rapid.Check(t, func(rt *rapid.T) {
		w := newDataset(t)
		want := make(map[ChunkKey][]Row)
		for chunk := range uint32(rapid.IntRange(1, 4).Draw(rt, "chunks")) {
			k := ChunkKey{"s1", rapid.SampledFrom([]string{"a", "b.c"}).Draw(rt, "probe"), chunk}
			ms := rapid.SliceOfN(genMeasurement(), 0, 20).Draw(rt, "measurements")
			if err := w.WriteChunk(k, ms); err != nil {
				rt.Fatal(err)
			}
		}
		for r, err := range Rows(w.Dir()) {
			if err != nil {
				rt.Fatal(err)
			}
			r.Cookie = nil
			want[r.ChunkKey] = append(want[r.ChunkKey], r)
		}
		got, err := rowsOfScan(NewScan(AllColumns, w.Dir()), rapid.IntRange(1, 3).Draw(rt, "visitors"))
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(want, got, exact...); diff != "" {
			rt.Fatalf("rows (-) and scan (+): %s", diff)
		}
	})
}
