package dataset

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

var exact = []cmp.Option{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Comparer(func(a, b time.Time) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

func testSurvey() *Survey {
	return &Survey{ID: "s1", Name: "test", State: StateRunning, Created: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
}

func newDataset(t testing.TB) *Writer {
	t.Helper()
	w, err := Create(t.TempDir(), testSurvey())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func readAll(t testing.TB, dir string) []Record {
	t.Helper()
	var rs []Record
	for r, err := range Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	return rs
}

// Everything the schema claims to hold comes back, through one encoder that
// has other chunks behind it.
func TestRoundTrip(t *testing.T) {
	w := newDataset(t)
	var all []Record
	chunk := uint32(0)
	rapid.Check(t, func(t *rapid.T) {
		k := ChunkKey{Survey: "s1", Probe: "local", Chunk: chunk}
		ms := rapid.SliceOfN(genMeasurement(), 0, 8).Draw(t, "measurements")
		if err := w.WriteChunk(k, ms); err != nil {
			t.Fatal(err)
		}
		chunk++
		var got []measure.Measurement
		for r, err := range ReadChunk(w.Dir(), k) {
			if err != nil {
				t.Fatal(err)
			}
			if r.ChunkKey != k {
				t.Fatalf("chunk %v, want %v", r.ChunkKey, k)
			}
			got = append(got, r.Measurement)
			all = append(all, r)
		}
		if diff := cmp.Diff(ms, got, exact...); diff != "" {
			t.Fatal(diff)
		}
	})
	if diff := cmp.Diff(all, readAll(t, w.Dir()), exact...); diff != "" {
		t.Fatal(diff)
	}
	if !slices.IsSortedFunc(all, func(a, b Record) int { return a.ChunkKey.compare(b.ChunkKey) }) {
		t.Fatal("not in chunk order")
	}
}

// What Fast Open saves is told by attempts that send the whole payload of the
// plain ones in the SYN, and get all of it acknowledged; and by none that lost a
// SYN, plain or not.
func TestSavedIsOfWholePayloads(t *testing.T) {
	attempt := func(kind tfo.Kind, syn, acked int, ms int64) tfo.Evidence {
		return tfo.Evidence{Kind: kind, Offered: syn, SynBytes: syn, SynAcked: acked, End: tfo.EndResponse, ConnectNS: 10e6, FirstByteNS: ms * 1e6}
	}
	again := func(e tfo.Evidence) tfo.Evidence {
		e.SynRetransmits = 1
		e.ConnectNS, e.FirstByteNS = e.ConnectNS+1e9, e.FirstByteNS+1e9
		return e
	}
	m := measure.Measurement{Attempts: []tfo.Evidence{
		again(attempt(tfo.KindPlain, 0, 0, 40)), again(attempt(tfo.KindData, 100, 100, 20)), again(attempt(tfo.KindData, 100, 0, 40)),
		attempt(tfo.KindPlain, 0, 0, 40), attempt(tfo.KindData, 100, 100, 20), attempt(tfo.KindData, 100, 100, 22), attempt(tfo.KindData, 100, 60, 41),
		attempt(tfo.KindSized, 1, 1, 40), attempt(tfo.KindSized, 64, 64, 40), attempt(tfo.KindSized, 512, 512, 24), attempt(tfo.KindSized, 1420, 1420, 24),
	}}
	var row measurementRow
	var scratch []int64
	row.fill(&ChunkKey{}, &m, "", &measurementCells{}, &scratch)
	if row.TFOFirstByteUS == nil || *row.TFOFirstByteUS != 21_000 || row.SavedUS == nil || *row.SavedUS != 19_000 || row.PlainConnectUS == nil || *row.PlainConnectUS != 10_000 {
		t.Errorf("first byte %v, saved %v, handshake %v", row.TFOFirstByteUS, row.SavedUS, row.PlainConnectUS)
	}
}
