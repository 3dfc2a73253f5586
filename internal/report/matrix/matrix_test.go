package matrix

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jedib0t/go-pretty/v6/text"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report"
	"tfofleet/internal/tfo"
)

var update = flag.Bool("update", false, "write the golden files")

// scene is a mesh of five probes: one behind a NAT that clamps the MSS, one
// whose own network strips the option from what it sends, two between which one
// way truncates data, and one that is lost for IPv6.
func scene() (rows []dataset.MeshRow) {
	probes := []string{"ams-1", "fra-2", "lon-1", "nyc-1", "a-name-longer-than-most"}
	item := uint64(0)
	for _, family := range []int{4, 6} {
		for _, port := range []uint16{80, 443} {
			for _, c := range probes {
				for _, s := range probes {
					if c == s {
						continue
					}
					r := dataset.MeshRow{
						Mesh: "m1", Client: c, Server: s, Family: family, Port: port, Item: item, Verdict: measure.JointSupported, Attempts: 5, Joined: 5,
						NAT: measure.NAT{Address: tfo.No, Port: tfo.No, Changing: tfo.No}, Evidence: []byte("x"),
						Differences: []measure.PathDifference{{Difference: measure.Difference{Field: measure.FieldTTL, Change: measure.Rewritten, Before: "64", After: "60"}, Seen: 5, Of: 5}},
					}
					item++
					switch {
					case family == 4 && port == 80:
					case c == "fra-2":
						r.Verdict, r.Direction = measure.JointOptionStripped, measure.Forward
					case s == "fra-2":
						r.Verdict, r.Direction = measure.JointCookieStripped, measure.Return
					case c == "ams-1" && s == "lon-1":
						r.Verdict, r.Direction = measure.JointPayloadTruncated, measure.Forward
					case c == "lon-1" && s == "ams-1" && family == 6:
						r.Verdict, r.Doubt, r.Unmatched, r.Joined = measure.JointInconclusive, measure.DoubtUnjoined, 2, 3
					}
					if c == "nyc-1" {
						r.NAT.Address, r.NAT.Changing = tfo.Yes, tfo.No
						r.Differences = append(r.Differences,
							measure.PathDifference{Difference: measure.Difference{Field: measure.FieldSourceAddress, Change: measure.Rewritten, Before: "10.0.0.1", After: "192.0.2.1"}, Seen: 5, Of: 5},
							measure.PathDifference{Difference: measure.Difference{Field: measure.FieldMSS, Option: 2, Change: measure.Rewritten, Before: "1460", After: "1380"}, Seen: 5, Of: 5})
					}
					if s == "a-name-longer-than-most" && family == 6 {
						r.Verdict, r.Direction, r.Doubt, r.ServerLost = measure.JointPeerLost, 0, 0, true
					}
					rows = append(rows, r)
				}
			}
		}
	}
	return rows
}

// each gives rows without errors.
func each(rows []dataset.MeshRow) func(func(dataset.MeshRow, error) bool) {
	return func(yield func(dataset.MeshRow, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func from(t testing.TB, rows []dataset.MeshRow) *Matrix {
	t.Helper()
	m, err := From(each(rows))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func render(t testing.TB, m *Matrix, format string, o report.Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := Render(&b, m, format, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What is written is an interface.
func TestGolden(t *testing.T) {
	m := from(t, scene())
	for name, text := range map[string]string{
		"table.txt":    render(t, m, "table", report.Options{}),
		"color.txt":    render(t, m, "table", report.Options{Color: true, Width: 100}),
		"matrix.json":  render(t, m, "json", report.Options{}),
		"matrix.csv":   render(t, m, "csv", report.Options{}),
		"matrix.md":    render(t, m, "markdown", report.Options{}),
		"empty.txt":    render(t, from(t, nil), "table", report.Options{}),
		"empty.json":   render(t, from(t, nil), "json", report.Options{}),
		"clean.txt":    render(t, from(t, scene()[:20]), "table", report.Options{}),
		"twomeshes.md": render(t, from(t, append(scene(), dataset.MeshRow{Mesh: "m2", Client: "x", Server: "y|z", Family: 4, Port: 80, Verdict: 99})), "markdown", report.Options{}),
	} {
		golden := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), text); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	if err := Render(io.Discard, m, "odt", report.Options{}); err == nil {
		t.Error("an unknown format is written")
	}
	if strings.Contains(render(t, m, "table", report.Options{}), "\x1b") {
		t.Error("escape codes without color")
	}
}

// The order of rows changes nothing, and neither does the way through a dataset.
func TestAnyOrder(t *testing.T) {
	want := render(t, from(t, scene()), "json", report.Options{})
	rows := scene()
	seed := rand.Uint64()
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	if diff := cmp.Diff(want, render(t, from(t, rows), "json", report.Options{})); diff != "" {
		t.Errorf("seed %d: %s", seed, diff)
	}
	dir := t.TempDir()
	w, err := dataset.Create(dir, &dataset.Survey{ID: "m1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteMesh(rows); err != nil {
		t.Fatal(err)
	}
	m, err := Collect(t.TempDir(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, render(t, m, "json", report.Options{})); diff != "" {
		t.Error(diff)
	}
	broken := errors.New("the table ends here")
	if _, err := From(func(yield func(dataset.MeshRow, error) bool) { yield(dataset.MeshRow{}, broken) }); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// Twenty probes fit into 80 columns side by side; more go over several pages.
// Every pair is in the text once, under the right numbers.
func TestWidth(t *testing.T) {
	for _, tt := range []struct{ probes, width, pages int }{{6, 80, 1}, {20, 80, 1}, {45, 80, 3}, {45, 200, 1}, {120, 80, 8}, {20, 10, 1}} {
		var rows []dataset.MeshRow
		names := make([]string, tt.probes)
		for i := range names {
			names[i] = fmt.Sprintf("probe-with-a-name-%03d", i)
		}
		for i, c := range names {
			for j, s := range names {
				if i != j {
					r := dataset.MeshRow{Mesh: "m", Client: c, Server: s, Family: 4, Port: 80, Verdict: measure.JointSupported}
					if (i*7+j*3)%11 == 0 {
						r.Verdict = measure.JointReset
					}
					rows = append(rows, r)
				}
			}
		}
		out := render(t, from(t, rows), "table", report.Options{Width: tt.width})
		pages, cells := 0, 0
		var heads []string
		for line := range strings.Lines(out) {
			if n := text.StringWidthWithoutEscSequences(strings.TrimRight(line, "\n")); n > max(80, tt.width) {
				t.Errorf("%d probes in %d columns: a line of %d: %s", tt.probes, tt.width, n, line)
			}
			f := strings.Fields(line)
			switch {
			case strings.HasPrefix(line, "     ") && len(f) > 0 && slices.IndexFunc(f, func(s string) bool { return strings.Trim(s, "0123456789") != "" }) < 0:
				pages++
				heads = f
			case len(f) > 2 && strings.HasPrefix(f[1], "probe-with") && f[2] != "as":
				for n, code := range f[2:] {
					var row, column int
					fmt.Sscan(f[0], &row)
					fmt.Sscan(heads[n], &column)
					i, j := row-1, column-1
					want := "ok"
					switch {
					case i == j:
						want = "\\"
					case (i*7+j*3)%11 == 0:
						want = "RS"
					}
					if cells++; code != want {
						t.Fatalf("%d to %d is %s, want %s:\n%s", row, column, code, want, line)
					}
				}
			}
		}
		if pages != tt.pages || cells != tt.probes*tt.probes {
			t.Errorf("%d probes in %d columns: %d pages, %d cells", tt.probes, tt.width, pages, cells)
		}
	}
}

// Every verdict has a code of two letters that no other has, and every doubt a
// meaning.
func TestCodes(t *testing.T) {
	for d := measure.DoubtLocal; d.String() != "unknown"; d++ {
		if doubtMeanings[d.String()] == "" {
			t.Errorf("%v means nothing", d)
		}
	}
	of := map[string]measure.JointVerdict{}
	for _, v := range measure.JointVerdicts() {
		c := codeOf(v)
		if len(c.short) != 2 || c.short == "??" || c.meaning == "" {
			t.Errorf("%v: %+v", v, c)
		}
		if other, taken := of[c.short]; taken {
			t.Errorf("%v and %v are both %s", v, other, c.short)
		}
		if (strings.ToUpper(c.short) == c.short) != v.Fault() {
			t.Errorf("%v: faults are in capitals, and nothing else: %s", v, c.short)
		}
		of[c.short] = v
	}
}

// Of a great many pairs some are told, and the rest is counted.
func TestManyAsymmetries(t *testing.T) {
	var rows []dataset.MeshRow
	for i := range 12 {
		for j := range 12 {
			if i != j {
				r := dataset.MeshRow{Mesh: "m", Client: fmt.Sprintf("p%02d", i), Server: fmt.Sprintf("p%02d", j), Family: 4, Port: 80, Verdict: measure.JointSupported}
				if i < j && j > 1 {
					r.Verdict = measure.JointReset
				}
				rows = append(rows, r)
			}
		}
	}
	m := from(t, rows)
	// 65 pairs differ. Of p11 all connections to it are faulty, and there are 11.
	lines := m.asymmetries()
	if len(m.Asymmetric) != 65 || len(lines) != shownPairs+2 || lines[shownPairs] != "and 24 more" || lines[shownPairs+1] != "and 11 pairs with a probe named above" {
		t.Errorf("%d pairs, %d lines: %q", len(m.Asymmetric), len(lines), lines[max(0, len(lines)-2):])
	}
}

// What programs read can be read.
func TestMachineFormats(t *testing.T) {
	m := from(t, scene())
	var back Matrix
	if err := json.Unmarshal([]byte(render(t, m, "json", report.Options{})), &back); err != nil || back.Pairs != len(scene()) {
		t.Error(back.Pairs, err)
	}
	lines, err := csv.NewReader(strings.NewReader(render(t, m, "csv", report.Options{}))).ReadAll()
	if err != nil || len(lines) != len(scene())+1 {
		t.Error(len(lines), err)
	}
}

// A single other probe does not tell whom a fault is near to, and what is not
// known is no fault.
func TestNear(t *testing.T) {
	row := func(c, s string, v measure.JointVerdict) dataset.MeshRow {
		return dataset.MeshRow{Mesh: "m", Client: c, Server: s, Family: 4, Port: 80, Verdict: v}
	}
	const bad, good = measure.JointOptionStripped, measure.JointSupported
	for _, tt := range []struct {
		name string
		rows []dataset.MeshRow
		want []string
	}{
		{"two probes", []dataset.MeshRow{row("a", "b", bad), row("b", "a", bad)}, nil},
		{"all of a client", []dataset.MeshRow{row("a", "b", bad), row("a", "c", measure.JointReset), row("b", "c", good), row("c", "b", good)}, []string{"a client"}},
		{"all but one", []dataset.MeshRow{row("a", "b", bad), row("a", "c", bad), row("a", "d", good)}, nil},
		{"all of a server that are known", []dataset.MeshRow{row("b", "a", bad), row("c", "a", bad), row("d", "a", measure.JointPeerLost)}, []string{"a server"}},
		{"none is known", []dataset.MeshRow{row("b", "a", measure.JointInconclusive), row("c", "a", measure.JointInconclusive)}, nil},
		{"a server that nobody reaches", []dataset.MeshRow{row("b", "a", measure.JointOffline), row("c", "a", measure.JointOffline)}, []string{"a server"}},
	} {
		var got []string
		for _, n := range from(t, tt.rows).Near {
			got = append(got, n.Probe+" "+n.Role)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// What is counted as a fault is what the verdict says it is, also in the list of
// faults by probe.
func TestByProbe(t *testing.T) {
	for _, v := range measure.JointVerdicts() {
		m := from(t, []dataset.MeshRow{
			{Mesh: "m", Client: "a", Server: "b", Family: 4, Port: 80, Verdict: v},
			{Mesh: "m", Client: "b", Server: "a", Family: 4, Port: 80, Verdict: measure.JointSupported},
		})
		var want []ByProbe
		if v.Fault() {
			want = []ByProbe{
				{Probe: "a", AsClient: Share{1, 1}, AsServer: Share{0, 1}},
				{Probe: "b", AsClient: Share{0, 1}, AsServer: Share{1, 1}},
			}
		}
		if !slices.Equal(m.ByProbe, want) {
			t.Errorf("%v: faults by probe %v, want %v", v, m.ByProbe, want)
		}
	}
}
