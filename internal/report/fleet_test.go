package report

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/jedib0t/go-pretty/v6/text"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/aggregate"
	"tfofleet/internal/report/change"
	"tfofleet/internal/report/simulate"
)

// fleet is a small one whose truth is known: its second probe drops data.
func fleet(t testing.TB, id string, seed uint64) string {
	t.Helper()
	f := &simulate.Fleet{
		Seed: seed, ID: id, Targets: 400, Probes: 3, ChunkSize: 150, Attempts: true, Broken: map[int]simulate.Box{1: simulate.DropsData},
		BadTargets: 10_000, BadPaths: 5000, Inconclusive: 10_000, Transient: 10_000,
	}
	dir := t.TempDir()
	if err := f.Write(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func summarized(t testing.TB, q Query, dirs ...string) *Summary {
	t.Helper()
	s, err := Summarize(context.Background(), q, dirs...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fleets are summaries of several probes and datasets.
func fleets(t testing.TB) map[string]*Summary {
	return map[string]*Summary{
		"fleet":    summarized(t, Query{By: []aggregate.By{{aggregate.KeyProbe, aggregate.KeyPort}, {aggregate.KeySuffix}, {aggregate.KeyKernel}}}, fleet(t, "monday", 1)),
		"datasets": summarized(t, Query{By: []aggregate.By{{aggregate.KeyDataset}}}, fleet(t, "monday", 1), fleet(t, "tuesday", 1)),
	}
}

// what a summary of a fleet says of its targets is what their lines say.
func TestWriteTargets(t *testing.T) {
	dir := fleet(t, "monday", 1)
	s := summarized(t, Query{}, dir)
	var b bytes.Buffer
	if err := WriteTargets(context.Background(), &b, Query{}, "jsonl", nil, dir); err != nil {
		t.Fatal(err)
	}
	blames, stabilities := map[string]uint64{}, map[string]uint64{}
	for line := range strings.Lines(b.String()) {
		var target Target
		if err := json.Unmarshal([]byte(line), &target); err != nil {
			t.Fatal(err)
		}
		blames[target.Blame]++
		stabilities[target.Stability]++
		if len(target.Seen) != 3 || target.Seen[0].Started == nil || target.Dataset != "monday" || target.Port == 0 {
			t.Fatal(line)
		}
	}
	for _, n := range s.Targets.Blame {
		if blames[n.Name] != n.Count {
			t.Errorf("%s: %d lines, %d in the summary", n.Name, blames[n.Name], n.Count)
		}
	}
	for _, n := range s.Targets.Stability {
		if stabilities[n.Name] != n.Count {
			t.Errorf("%s: %d lines, %d in the summary", n.Name, stabilities[n.Name], n.Count)
		}
	}
	b.Reset()
	if err := WriteTargets(context.Background(), &b, Query{}, "csv", []string{"path", "target"}, dir); err != nil {
		t.Fatal(err)
	}
	golden(t, "targets.csv", b.String())
}

// What changed, and what moved, fits a terminal.
func TestRenderChanges(t *testing.T) {
	d, err := change.Compare(context.Background(), fleet(t, "monday", 1), fleet(t, "tuesday", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]string{}
	render := func(name string, d *change.Diff) {
		var b bytes.Buffer
		if err := RenderDiff(&b, d, "table", Options{}); err != nil {
			t.Fatal(err)
		}
		pages[name] = b.String()
	}
	render("diff-same.txt", d)
	render("diff-none.txt", &change.Diff{})
	render("diff-mixed.txt", &change.Diff{Mixed: 3})
	v := dataset.Survey{ID: "monday", State: dataset.StateDone, Spec: dataset.Spec{Plan: "standard"}}
	render("diff.txt", &change.Diff{
		Old: change.Side{Survey: v, Measured: 12_000, Transient: 24}, New: change.Side{Survey: v, Measured: 11_990, Transient: 30},
		Probes: []string{"fra", "nyc"}, Units: 11_900, Same: 11_400, Chance: 180, Mixed: 3, OnlyIn: [2]uint64{90, 80},
		Verdicts: []change.Verdict{{Verdict: "supported", Old: 900, New: 590, Left: 400, Came: 90, P: 1e-30}, {Verdict: "blackholed_after_handshake", Old: 90, New: 400, Left: 90, Came: 400, P: 0.0123}},
		Changes:  []change.Pair{{Old: "supported", New: "blackholed_after_handshake", Count: 400, Back: 90, Chance: 90, P: 1e-30}, {Old: "blackholed_after_handshake", New: "supported", Count: 90, Back: 400, Chance: 90, P: 1e-30}},
	})
	var b bytes.Buffer
	if err := RenderMoves(&b, &change.Moves{
		Survey: v, Measurements: 1000, Judged: 900, Skipped: 100, Same: 880, Moved: 15, Relabel: 5, Verdicts: []change.Move{{Old: "cookie_only", New: "supported", Count: 15}},
		Added: []change.Count{{Condition: string(measure.CondSynDataAcked), Count: 15}}, Removed: []change.Count{{Condition: "tfo.old.one", Count: 5}},
	}, "table", Options{}); err != nil {
		t.Fatal(err)
	}
	pages["moves.txt"] = b.String()
	for name, page := range pages {
		golden(t, name, page)
		for line := range strings.Lines(page) {
			if n := text.StringWidth(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%s: %d columns in %q", name, n, line)
			}
		}
	}
}
