package change

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/simulate"
	"tfofleet/internal/tfo"
)

// made makes a dataset of one chunk per probe.
func made(t testing.TB, id string, probes map[string][]measure.Measurement) string {
	t.Helper()
	s := &dataset.Survey{ID: id, State: dataset.StateDone, Created: time.Unix(1763668800, 0), Spec: dataset.Spec{Plan: "standard"}}
	w, err := dataset.Create(t.TempDir(), s)
	if err != nil {
		t.Fatal(err)
	}
	for probe, ms := range probes {
		if err := w.WriteChunk(dataset.ChunkKey{Survey: id, Probe: probe}, ms); err != nil {
			t.Fatal(err)
		}
	}
	return w.Dir()
}

// list is a measurement of each verdict in turn; item i is target i, but in the
// order of the list at.
func list(at []int, vs ...measure.Verdict) []measure.Measurement {
	ms := make([]measure.Measurement, len(vs))
	for i, v := range vs {
		target := at[i]
		ms[i] = measure.Measurement{Target: measure.Target{Item: uint64(i), Addr: netip.AddrFrom4([4]byte{192, 0, byte(target >> 8), byte(target)}), Port: 443}, Outcome: measure.OutcomeMeasured, Verdict: v}
		if target%3 == 0 {
			ms[i].Hostname = fmt.Sprintf("h%d.example", target)
			ms[i].Addr = netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}) // wherever it resolved to
		}
	}
	return ms
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// A list in another order is the same list; each kind of unit is in its place.
func TestCompare(t *testing.T) {
	const sup, uns, drop, off, unclear = measure.Supported, measure.Unsupported, measure.DataDropped, measure.Offline, measure.Inconclusive
	old := made(t, "old", map[string][]measure.Measurement{
		"fra": list(upTo(7), sup, sup, uns, drop, off, unclear, sup),
		"ams": list(upTo(2), uns, uns), // in the old one only
	})
	new := made(t, "new", map[string][]measure.Measurement{
		"fra": list([]int{6, 5, 4, 3, 2, 1, 0, 9}, sup, sup, off, sup, uns, drop, sup, sup),
	})
	var changed []string
	d, err := Compare(context.Background(), old, new, func(c *Changed) error {
		changed = append(changed, fmt.Sprint(c.Hostname, c.Port, " ", c.Probe, " ", c.Old, " ", c.New))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// 0 sup sup, 1 sup drop, 2 uns uns, 3 drop sup, 4 off off, 5 unclear sup, 6 sup sup, 9 new.
	want := &Diff{
		Probes: []string{"fra"}, Units: 6, Same: 4, Chance: 2, OnlyIn: [2]uint64{0, 2},
		Verdicts: []Verdict{
			{"supported", 3, 3, 1, 1, 1}, {"unsupported", 1, 1, 0, 0, 1}, {"data_dropped", 1, 1, 1, 1, 1}, {"offline", 1, 1, 0, 0, 1},
		},
		Changes: []Pair{{"data_dropped", "supported", 1, 1, 1, 1}, {"supported", "data_dropped", 1, 1, 1, 1}},
	}
	if diff := cmp.Diff(want, d, cmpopts.IgnoreFields(Diff{}, "Old", "New")); diff != "" {
		t.Error(diff)
	}
	if d.Old.Measured != 9 || d.New.Measured != 8 || d.Old.Survey.ID != "old" {
		t.Errorf("%+v %+v", d.Old, d.New)
	}
	if diff := cmp.Diff([]string{"443 fra supported data_dropped", "h3.example443 fra data_dropped supported"}, changed, cmpopts.SortSlices(func(a, b string) bool { return a < b })); diff != "" {
		t.Error(diff)
	}

	// Without a probe in common a target is what all saw of it.
	other := made(t, "other", map[string][]measure.Measurement{"nyc": list(upTo(2), uns, drop), "sin": list(upTo(2), uns, sup)})
	d, err = Compare(context.Background(), old, other, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Target 0 was sup and uns in the old, target 1 is drop and sup in the new.
	if len(d.Probes) != 0 || d.Mixed != 2 || d.Units != 0 || d.OnlyIn != [2]uint64{4, 0} {
		t.Errorf("%+v", d)
	}
}

// Units add up, whatever is compared, and a dataset does not differ from itself.
func TestCompareAddsUp(t *testing.T) {
	for seed := range uint64(10) {
		f := simulate.Fleet{Seed: seed, Targets: 20 + int(seed)*13, Probes: 2, BadPaths: 50_000, Inconclusive: 50_000, BadTargets: 50_000}
		g := f
		g.ID, g.Broken, g.Targets = "later", map[int]simulate.Box{int(seed % 3): simulate.StripsOption}, 100
		dirs := []string{t.TempDir(), t.TempDir()}
		if err := f.Write(dirs[0]); err != nil {
			t.Fatal(err)
		}
		if err := g.Write(dirs[1]); err != nil {
			t.Fatal(err)
		}
		n := uint64(0)
		d, err := Compare(context.Background(), dirs[0], dirs[1], func(*Changed) error { n++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		var left, came, changes, chance uint64
		for _, v := range d.Verdicts {
			if v.Old-v.Left != v.New-v.Came {
				t.Fatalf("seed %d: %+v", seed, v)
			}
			left, came = left+v.Left, came+v.Came
		}
		for _, c := range d.Changes {
			if c.Chance > c.Count {
				t.Fatalf("seed %d: %+v", seed, c)
			}
			changes, chance = changes+c.Count, chance+c.Chance
		}
		if left != n || came != n || changes != n || d.Units-d.Same != n || chance != d.Chance {
			t.Fatalf("seed %d: %d changed: %+v", seed, n, d)
		}
		d, err = Compare(context.Background(), dirs[0], dirs[0], nil)
		if err != nil || d.Same != d.Units || len(d.Changes) > 0 {
			t.Fatalf("seed %d: %+v %v", seed, d, err)
		}
	}
}

// A hundred targets that flip either way are chance; a hundred that go one way
// are not.
func TestChance(t *testing.T) {
	const n = 200
	compare := func(other func(i int) (was, is measure.Verdict)) *Diff {
		was, is := make([]measure.Verdict, n), make([]measure.Verdict, n)
		for i := range n {
			was[i], is[i] = other(i)
		}
		d, err := Compare(context.Background(), made(t, "a", map[string][]measure.Measurement{"p": list(upTo(n), was...)}), made(t, "b", map[string][]measure.Measurement{"p": list(upTo(n), is...)}), nil)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := compare(func(i int) (was, is measure.Verdict) {
		return []measure.Verdict{measure.Supported, measure.DataDropped}[i%2], []measure.Verdict{measure.DataDropped, measure.Supported}[i%2]
	})
	if d.Chance != n || d.Verdicts[0].P != 1 {
		t.Errorf("either way: %+v", d)
	}
	d = compare(func(i int) (was, is measure.Verdict) {
		if i < 10 {
			return measure.DataDropped, measure.Supported
		}
		return measure.Supported, measure.DataDropped
	})
	if d.Chance != 20 || d.Changes[0].P > 1e-9 || d.Changes[0].Chance != 10 || d.Verdicts[0].P > 1e-9 {
		t.Errorf("one way: %+v", d)
	}
}

// evidence is a target that grants a cookie and takes data, as often as it takes
// for a verdict.
func evidence() []tfo.Evidence {
	cookie := tfo.Cookie{State: tfo.CookiePresent, Bytes: []byte("12345678")}
	plain := tfo.Evidence{Kind: tfo.KindPlain, End: tfo.EndResponse, ConnectNS: 1e6, FirstByteNS: 2e6, TotalNS: 2e6}
	request := plain
	request.Kind, request.OptionKind, request.CookieBefore, request.CookieAfter = tfo.KindRequest, 34, tfo.Cookie{State: tfo.CookieNone}, cookie
	data := request
	data.Kind, data.CookieBefore, data.Offered, data.SynBytes, data.SynAcked = tfo.KindData, cookie, 10, 10, 10
	return []tfo.Evidence{plain, request, data, data, plain}
}

// What was judged by other rules is found, what was said beside the evidence
// stays, and the dataset is not touched.
func TestReclassify(t *testing.T) {
	ms := list(upTo(5), measure.CookieOnly, measure.Supported, measure.Offline, measure.Supported, measure.Supported)
	v, cs := measure.Classify(measure.Standard, evidence())
	for i := range ms {
		if i != 2 { // that one never was resolved
			ms[i].Attempts, ms[i].Conditions = evidence(), cs
		}
	}
	ms[0].Conditions = append([]measure.Condition{measure.CondVantageLate, "tfo.old.one"}, cs...)
	ms[1].Conditions = cs[1:]
	ms[2].Conditions = []measure.Condition{measure.CondNameNotFound}
	ms[4] = measure.Measurement{Target: ms[4].Target, Outcome: measure.OutcomeRefused}
	dir := made(t, "s", map[string][]measure.Measurement{"p": ms})
	before := files(t, dir)

	out := filepath.Join(t.TempDir(), "again")
	var moved []string
	m, err := Reclassify(context.Background(), dir, out, func(m *Moved) error {
		moved = append(moved, fmt.Sprint(m.Item, m.Old, m.New))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if v != measure.Supported {
		t.Fatalf("the evidence shows %v", v)
	}
	want := &Moves{
		Measurements: 5, Judged: 3, Skipped: 2, Same: 1, Moved: 1, Relabel: 1,
		Verdicts: []Move{{"cookie_only", "supported", 1}}, Added: []Count{{string(cs[0]), 1}}, Removed: []Count{{"tfo.old.one", 1}},
	}
	if diff := cmp.Diff(want, m, cmpopts.IgnoreFields(Moves{}, "Survey")); diff != "" {
		t.Error(diff)
	}
	if len(moved) != 1 || moved[0] != "0 cookie_only supported" {
		t.Error(moved)
	}
	if diff := cmp.Diff(before, files(t, dir)); diff != "" {
		t.Errorf("the dataset was touched: %s", diff)
	}

	// The copy is what today's rules say, and nothing moves any more.
	again, err := Reclassify(context.Background(), out, "", nil)
	if err != nil || again.Same != 3 || again.Skipped != 2 {
		t.Errorf("%+v %v", again, err)
	}
	if again.Survey.Counts.Verdicts["supported"] != 3 || again.Survey.Counts.Verdicts["offline"] != 1 {
		t.Errorf("%v", again.Survey.Counts)
	}
	if _, err := Reclassify(context.Background(), t.TempDir(), "", nil); err == nil {
		t.Error("of nothing")
	}
	if b, err := json.Marshal(m); err != nil || len(b) == 0 {
		t.Error(err)
	}
}

// files is all there is in a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	if err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}
