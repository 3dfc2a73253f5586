package dataset

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tfofleet/internal/measure"
)

var update = flag.Bool("update", false, "write the golden files")

func exported(t testing.TB, dir string, f Format) string {
	t.Helper()
	var b bytes.Buffer
	if err := Export(dir, f, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func sampleDataset(t testing.TB) string {
	t.Helper()
	w := newDataset(t)
	if err := w.WriteChunk(ChunkKey{Survey: "s1", Probe: "local"}, []measure.Measurement{supportedTarget(), unresolvedTarget()}); err != nil {
		t.Fatal(err)
	}
	return w.Dir()
}

// The exported text is an interface: others parse it.
func TestExportGolden(t *testing.T) {
	dir := sampleDataset(t)
	for _, f := range []Format{JSONL, CSV} {
		got := exported(t, dir, f)
		golden := filepath.Join("testdata", "export."+string(f))
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s: %s", f, diff)
		}
	}
}

// Whatever is measured, a line is JSON and says what the measurement says.
func TestExportJSONL(t *testing.T) {
	w := newDataset(t)
	chunk := uint32(0)
	rapid.Check(t, func(t *rapid.T) {
		m := genMeasurement().Draw(t, "measurement")
		k := ChunkKey{Survey: "s1", Probe: "local", Chunk: chunk}
		chunk++
		if err := w.WriteChunk(k, []measure.Measurement{m}); err != nil {
			t.Fatal(err)
		}
		var b []byte
		for j, err := range joinsOf(w.p, k) {
			if err != nil {
				t.Fatal(err)
			}
			b = appendJSONLine(b, j)
		}
		if n := bytes.Count(b, []byte{'\n'}); n != 1 {
			t.Fatalf("%d lines", n)
		}
		var got struct {
			Target, Hostname, Verdict, Cookie *string
			Port                              uint16
			Started                           *time.Time
			Conditions                        []string
			Attempts                          []struct {
				SynBytesAcked *int    `json:"syn_bytes_acked"`
				ConnectUS     *int64  `json:"connect_us"`
				CookieBefore  *string `json:"cookie_before"`
				InfoFinal     *string `json:"info_final"`
			}
		}
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%v in %s", err, b)
		}
		check := func(name string, value *string, want string) {
			t.Helper()
			if (value == nil) != (want == "") || value != nil && *value != want {
				t.Fatalf("%s: want %q in %s", name, want, b)
			}
		}
		check("target", got.Target, addrText(m.Addr))
		check("hostname", got.Hostname, m.Hostname)
		check("cookie", got.Cookie, hex.EncodeToString(m.Cookie))
		if got.Port != m.Port || len(got.Conditions) != len(m.Conditions) || len(got.Attempts) != len(m.Attempts) {
			t.Fatalf("want %+v in %s", m, b)
		}
		if (got.Started == nil) != m.Started.IsZero() || got.Started != nil && !got.Started.Equal(m.Started) {
			t.Fatalf("started: want %v in %s", m.Started, b)
		}
		for i, a := range got.Attempts {
			e := m.Attempts[i]
			check("cookie_before", a.CookieBefore, hex.EncodeToString(e.CookieBefore.Bytes))
			check("info_final", a.InfoFinal, base64.StdEncoding.EncodeToString(e.InfoFinal))
			if (a.SynBytesAcked == nil) != (e.SynAcked < 0) || a.SynBytesAcked != nil && *a.SynBytesAcked != e.SynAcked {
				t.Fatalf("syn_bytes_acked: want %d in %s", e.SynAcked, b)
			}
			if (a.ConnectUS == nil) != (e.ConnectNS < 0) || a.ConnectUS != nil && *a.ConnectUS != e.ConnectNS/1000 {
				t.Fatalf("connect_us: want %d ns in %s", e.ConnectNS, b)
			}
		}
	})
	// The same as CSV: as many fields in every line as names in the first.
	records, err := csv.NewReader(strings.NewReader(exported(t, w.Dir(), CSV))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != int(chunk)+1 {
		t.Fatalf("%d records of %d chunks", len(records), chunk)
	}
}

// bigDataset has more to export than a pipe holds.
func bigDataset(t testing.TB) string {
	w := newDataset(t)
	ms := make([]measure.Measurement, 1000)
	for i := range ms {
		ms[i] = supportedTarget()
	}
	if err := w.WriteChunk(ChunkKey{Survey: "s1", Probe: "local"}, ms); err != nil {
		t.Fatal(err)
	}
	return w.Dir()
}

// `export DIR | head` is a clean end.
func TestExportReaderGoesAway(t *testing.T) {
	dir := bigDataset(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	done := make(chan error)
	go func() { done <- Export(dir, JSONL, w) }()
	if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestExportOutputFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if err := Export(bigDataset(t), CSV, full); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("%v is not ENOSPC", err)
	}
}

func BenchmarkExport(b *testing.B) {
	dir := bigDataset(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := Export(dir, JSONL, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "measurements/s")
}
