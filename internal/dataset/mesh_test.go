package dataset

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// genDifference draws one that a comparison of SYNs can give, or that of a
// version to come.
func genDifference() *rapid.Generator[measure.PathDifference] {
	return rapid.Custom(func(t *rapid.T) measure.PathDifference {
		d := measure.PathDifference{Seen: rapid.IntRange(0, 9).Draw(t, "seen"), Of: rapid.IntRange(0, 9).Draw(t, "of")}
		d.Field = measure.SynField(rapid.IntRange(1, 40).Draw(t, "field"))
		d.Change = rapid.SampledFrom([]measure.Change{measure.Rewritten, measure.Removed, measure.Added}).Draw(t, "change")
		if d.Option = optionOf[d.Field]; d.Option == 0 {
			d.Option = rapid.SampledFrom([]uint8{0, 3, 34, 254}).Draw(t, "option")
		}
		value := rapid.SampledFrom([]string{"", "1460", "34 request", "34 00ff", "2001:db8::1", "2 4 8 3", "true", "yes", "empty"})
		if d.Change != measure.Added {
			d.Before = value.Draw(t, "before")
		}
		if d.Change != measure.Removed {
			d.After = value.Draw(t, "after")
		}
		return d
	})
}

func genMeshRow(mesh string) *rapid.Generator[MeshRow] {
	return rapid.Custom(func(t *rapid.T) MeshRow {
		tri := rapid.Custom(func(t *rapid.T) tfo.Tri { return tfo.Tri(rapid.IntRange(0, 2).Draw(t, "tri")) })
		few := rapid.IntRange(0, 9)
		r := MeshRow{
			Mesh: mesh, Started: genTime().Draw(t, "started"), Client: genWord.Draw(t, "client"), Server: genWord.Draw(t, "server"),
			Family: rapid.SampledFrom([]int{4, 6}).Draw(t, "family"), Port: rapid.Uint16().Draw(t, "port"),
			Address: genAddr().Draw(t, "address"), ClientAddress: genAddr().Draw(t, "client address"), Item: rapid.Uint64Range(0, 1<<40).Draw(t, "item"),
			Verdict: measure.JointVerdict(rapid.IntRange(0, 30).Draw(t, "verdict")), Direction: measure.Direction(few.Draw(t, "direction")),
			Doubt: measure.Doubt(few.Draw(t, "doubt")), ClientVerdict: measure.Verdict(rapid.IntRange(0, 20).Draw(t, "client verdict")),
			NAT:        measure.NAT{Address: tri.Draw(t, "address"), Port: tri.Draw(t, "port"), Changing: tri.Draw(t, "changing")},
			CarrierNAT: rapid.Bool().Draw(t, "cgn"), Attempts: few.Draw(t, "attempts"), Joined: few.Draw(t, "joined"), Unmatched: few.Draw(t, "unmatched"),
			ClientLost: rapid.Bool().Draw(t, "client lost"), ServerLost: rapid.Bool().Draw(t, "server lost"),
			Nonce:    measure.Nonce(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "nonce")),
			Evidence: genBlob(200).Draw(t, "evidence"),
		}
		for range rapid.IntRange(0, 3).Draw(t, "differences") {
			r.Differences = append(r.Differences, genDifference().Draw(t, "difference"))
		}
		return r
	})
}

// meshRows reads all rows of a dataset's meshes.
func meshRows(t testing.TB, dir string) (rows []MeshRow) {
	t.Helper()
	for r, err := range ReadMesh(dir) {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	return rows
}

// sampleMesh is the rows of a mesh of two probes.
func sampleMesh(mesh string) []MeshRow {
	a := MeshRow{
		Mesh: mesh, Started: time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC), Client: "ams-1", Server: "fra-1", Family: 4, Port: 443,
		Address: netip.MustParseAddr("192.0.2.7"), ClientAddress: netip.MustParseAddr("198.51.100.1"), Item: 0,
		Verdict: measure.JointOptionStripped, Direction: measure.Forward, NAT: measure.NAT{Address: tfo.Yes, Port: tfo.No, Changing: tfo.No},
		Attempts: 7, Joined: 7, ClientVerdict: measure.Unsupported, Nonce: measure.Nonce{1, 2, 3}, Evidence: []byte("evidence"),
		Differences: []measure.PathDifference{
			{Difference: measure.Difference{Field: measure.FieldMSS, Change: measure.Rewritten, Option: 2, Before: "1460", After: "1380"}, Seen: 7, Of: 7},
			{Difference: measure.Difference{Field: measure.FieldFastOpen, Change: measure.Removed, Option: 34, Before: "34 request"}, Seen: 4, Of: 7},
		},
	}
	b := MeshRow{
		Mesh: mesh, Client: "fra-1", Server: "ams-1", Family: 6, Port: 80, Item: 1, Verdict: measure.JointPeerLost, ClientLost: true,
		Nonce: measure.Nonce{4}, Address: netip.MustParseAddr("2001:db8::1"),
	}
	return []MeshRow{a, b}
}

func TestMeshRoundTrip(t *testing.T) {
	w := newDataset(t)
	rapid.Check(t, func(rt *rapid.T) {
		if err := w.p.Remove(meshFile("m")); err != nil {
			rt.Fatal(err)
		}
		want := rapid.SliceOfN(genMeshRow("m"), 1, 150).Draw(rt, "rows")
		if err := w.WriteMesh(want); err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(want, meshRows(t, w.Dir()), exact...); diff != "" {
			rt.Fatal(diff)
		}
	})
}

// The form of a difference is in datasets, and queries ask for it.
func TestDifferenceText(t *testing.T) {
	for text, d := range map[string]measure.PathDifference{
		"mss 1460 -> 1380 (4/4)":             {Difference: measure.Difference{Field: measure.FieldMSS, Change: measure.Rewritten, Option: 2, Before: "1460", After: "1380"}, Seen: 4, Of: 4},
		"sack_permitted yes -> - (1/4)":      {Difference: measure.Difference{Field: measure.FieldSACKPermitted, Change: measure.Removed, Option: 4, Before: "yes"}, Seen: 1, Of: 4},
		"option.30 - -> 0081 (2/2)":          {Difference: measure.Difference{Field: measure.FieldOption, Change: measure.Added, Option: 30, After: "0081"}, Seen: 2, Of: 2},
		"fast_open.34 34 request -> - (1/1)": {Difference: measure.Difference{Field: measure.FieldFastOpen, Change: measure.Removed, Option: 34, Before: "34 request"}, Seen: 1, Of: 1},
		"dscp 0 -> 10 (3/3)":                 {Difference: measure.Difference{Field: measure.FieldDSCP, Change: measure.Rewritten, Before: "0", After: "10"}, Seen: 3, Of: 3},
	} {
		if got := differenceText(d); got != text {
			t.Errorf("%+v is %q, want %q", d, got, text)
		}
		if got, err := parseDifference(text); got != d || err != nil {
			t.Errorf("%q is %+v, %v, want %+v", text, got, err, d)
		}
	}
	for _, bad := range []string{"", "mss", "mss 1 -> 2", "mss 1 2 (1/1)", "mss 1 -> 2 (1)", "mss 1 -> 2 (a/1)", "what 1 -> 2 (1/1)", "option.300 - -> 1 (1/1)"} {
		if d, err := parseDifference(bad); err == nil {
			t.Errorf("%q is %+v", bad, d)
		}
	}
}

func FuzzParseDifference(f *testing.F) {
	for _, s := range []string{"mss 1460 -> 1380 (4/4)", "option.30 - -> 0081 (2/2)", "fast_open.254 254 00 -> - (1/9)", " ->  (/)", "dscp - -> - (0/0)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDifference(text)
		if err != nil {
			return
		}
		if again, err := parseDifference(differenceText(d)); err != nil || again != d {
			t.Errorf("%q is %+v, and then %+v, %v", text, d, again, err)
		}
	})
}

// Judged takes everything over that the judgement says.
func TestMeshRowJudged(t *testing.T) {
	at := func(s string) *tfo.Arrival { return &tfo.Arrival{Peer: netip.MustParseAddrPort(s)} }
	j := measure.Judgement{
		Verdict: measure.JointCookieRefused, Direction: measure.Forward, Doubt: measure.DoubtTooFew,
		NAT: measure.NAT{Address: tfo.Yes, Changing: tfo.Yes}, CarrierNAT: true, Unmatched: 2,
		Pairs: []measure.Pair{
			{}, {Arrival: at("192.0.2.9:1"), Sight: measure.SightOther}, {Arrival: at("[::ffff:192.0.2.1]:1")}, {Arrival: at("192.0.2.2:1")},
		},
		Differences: []measure.PathDifference{{Seen: 1}},
	}
	var r MeshRow
	r.Judged(&j)
	want := MeshRow{
		Verdict: j.Verdict, Direction: j.Direction, Doubt: j.Doubt, NAT: j.NAT, CarrierNAT: true, Attempts: 4, Joined: 3, Unmatched: 2,
		ClientAddress: netip.MustParseAddr("192.0.2.1"), Differences: j.Differences,
	}
	if diff := cmp.Diff(want, r, exact...); diff != "" {
		t.Error(diff)
	}
}

// The table is created once, on a disk and in an object store.
func TestMeshInAPlace(t *testing.T) {
	eachPlace(t, func(t *testing.T, dir string) {
		w := create(t, dir)
		if rows := meshRows(t, dir); rows != nil {
			t.Errorf("before there is a mesh: %v", rows)
		}
		if err := w.WriteMesh(nil); err != nil || meshRows(t, dir) != nil {
			t.Errorf("no rows: %v", err)
		}
		want := sampleMesh("m 1/2")
		for range 2 { // the second time it is there already
			if err := w.WriteMesh(want); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.WriteMesh(want[:1]); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "m 1/2") {
			t.Errorf("another content: %v", err)
		}
		other := sampleMesh("a")
		if err := w.WriteMesh(other); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(slices.Concat(other, want), meshRows(t, dir), exact...); diff != "" {
			t.Error(diff)
		}
		for _, rows := range [][]MeshRow{slices.Concat(want, other), {{}}} {
			if err := w.WriteMesh(rows); err == nil {
				t.Errorf("%d rows that are not of one mesh were written", len(rows))
			}
		}
		// It goes with the dataset wherever that goes.
		files, err := Files(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range files {
			names = append(names, f.Name)
		}
		if want := []string{"mesh/a.parquet", "mesh/m%201%2F2.parquet", surveyFile}; !slices.Equal(names, want) {
			t.Fatalf("files %q, want %q", names, want)
		}
		to := t.TempDir()
		for range 2 {
			missing, err := Missing(to, testSurvey().ID, files)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range missing {
				src, err := OpenFile(dir, f.Name)
				if err != nil {
					t.Fatal(err)
				}
				if err := Receive(to, f, io.NewSectionReader(src, 0, src.Size())); err != nil {
					t.Error(err)
				}
				src.Close()
			}
			files = missing
		}
		if len(files) != 1 {
			t.Errorf("missing when all is there: %v", files)
		}
		if diff := cmp.Diff(slices.Concat(other, want), meshRows(t, to), exact...); diff != "" {
			t.Error(diff)
		}
	})
}

// A table that is damaged or another one is an error that names the file.
func TestDamagedMesh(t *testing.T) {
	w := newDataset(t)
	if err := w.WriteMesh(sampleMesh("m")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.Dir(), meshFile("m"))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	read := func(content []byte) (err error) {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, err = range ReadMesh(w.Dir()) {
			if err != nil && !strings.Contains(err.Error(), path) {
				t.Fatalf("%v does not name %s", err, path)
			}
		}
		return err
	}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1 << (i % 8)
		if checkSeal(bytes.NewReader(b), int64(len(b))) == nil || checkSeal(bytes.NewReader(whole[:i]), int64(i)) == nil ||
			i%101 == 0 && (read(b) == nil || read(whole[:i]) == nil) {
			t.Fatalf("damaged at %d of %d, and read", i, len(whole))
		}
	}
	if err := read(whole); err != nil {
		t.Error(err)
	}
	other, err := os.ReadFile(pathOf(t, sampleDataset(t), ChunkKey{Survey: "s1", Probe: "local"}, attemptsDir))
	if err != nil {
		t.Fatal(err)
	}
	if err := read(other); err == nil || !strings.Contains(err.Error(), "another table") {
		t.Errorf("another table: %v", err)
	}
}
