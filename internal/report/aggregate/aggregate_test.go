package aggregate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/origin"
	"tfofleet/internal/report/simulate"
)

func asns(t testing.TB) *origin.Table {
	t.Helper()
	path := filepath.Join(t.TempDir(), "asn.csv")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := simulate.WriteASNs(file); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	table, err := origin.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func random(rt *rapid.T) *simulate.Fleet {
	return &simulate.Fleet{
		Seed: rapid.Uint64().Draw(rt, "seed"), Targets: rapid.IntRange(1, 300).Draw(rt, "targets"), Probes: rapid.IntRange(1, 4).Draw(rt, "probes"),
		ChunkSize: rapid.IntRange(100, 200).Draw(rt, "chunk"), Shard: rapid.Bool().Draw(rt, "shard"), Attempts: rapid.Bool().Draw(rt, "attempts"),
		BadTargets: 30_000, BadPaths: 30_000, Inconclusive: 30_000, Transient: 100_000,
	}
}

// valuesOf is what a measurement has of each property, told without package
// aggregate. Announced: it is known what addresses are announced in.
func valuesOf(f *simulate.Fleet, s *dataset.Survey, r *dataset.Row, announced bool) map[Key]string {
	kernel := ""
	for _, p := range s.Probes {
		if p.Name == r.Probe {
			kernel = p.Kernel
		}
	}
	bits := 24
	if r.Addr.Is6() {
		bits = 48
	}
	prefix, _ := r.Addr.Prefix(bits)
	if announced {
		prefix = simulate.Announced(r.Addr)
	}
	suffix := "address"
	if r.Hostname != "" {
		_, suffix, _ = strings.Cut(r.Hostname, ".example.")
	}
	return map[Key]string{
		KeyProbe: r.Probe, KeyPort: fmt.Sprint(r.Port), KeyFamily: fmt.Sprint("ipv", r.Family), KeyKernel: kernel, KeyPrefix: prefix.String(),
		KeyAS: fmt.Sprint("AS", simulate.AS(simulate.Announced(r.Addr))), KeySuffix: suffix, KeyDataset: s.ID,
	}
}

// Every crossing counts every measurement once, in the group that a plain count
// over all rows puts it in; and summed over one property it is that of the
// other.
func TestCrossings(t *testing.T) {
	known := []Key{KeyProbe, KeyPort, KeyFamily, KeyKernel, KeyPrefix, KeySuffix, KeyDataset, KeyAS}
	table := asns(t)
	rapid.Check(t, func(rt *rapid.T) {
		announced, keys, table := rapid.Bool().Draw(rt, "announced"), known, table
		if !announced {
			keys, table = known[:len(known)-1], nil
		}
		f := random(rt)
		dir := written(t, f)
		a := rapid.SampledFrom(keys).Draw(rt, "a")
		b := rapid.SampledFrom(slices.DeleteFunc(slices.Clone(keys), func(k Key) bool { return k == a })).Draw(rt, "b")
		q := Query{By: []By{{a, b}, {a}, {b}}, Origin: table, Workers: rapid.IntRange(1, 3).Draw(rt, "workers")}
		r, err := Run(context.Background(), q, dir)
		if err != nil {
			rt.Fatal(err)
		}
		want := map[string]map[string]*Cell{}
		var all Cell
		for row, err := range dataset.Rows(dir) {
			if err != nil {
				rt.Fatal(err)
			}
			slot := slotOf(row.Outcome, row.Verdict)
			if slices.Contains(row.Conditions, measure.CondTransient) {
				slot |= transientBit
			}
			all.add(slot)
			values := valuesOf(f, f.Survey(), &row, announced)
			for _, by := range append(slices.Clone(standard), q.By...) {
				cells := want[by.String()]
				if cells == nil {
					cells = map[string]*Cell{}
					want[by.String()] = cells
				}
				var words []string
				for _, k := range by {
					words = append(words, values[k])
				}
				word := strings.Join(words, " ")
				if cells[word] == nil {
					cells[word] = &Cell{}
				}
				cells[word].add(slot)
			}
		}
		// A crossing is asked for more than once above where it is a standard one.
		times := map[string]int{}
		for _, by := range append(slices.Clone(standard), q.By...) {
			times[by.String()]++
		}
		if r.All != all {
			rt.Fatalf("all: %+v, want %+v", r.All, all)
		}
		sums := map[string]map[string]Cell{}
		for _, c := range r.Crossings {
			got := map[string]*Cell{}
			n := uint64(0)
			for i := range c.Groups {
				g := &c.Groups[i]
				got[strings.Join(g.Keys, " ")] = &g.Cell
				n += g.Measurements()
				if i > 0 && c.Groups[i-1].Measurements() < g.Measurements() {
					rt.Fatalf("by %v: not the largest first", c.By)
				}
				if len(c.By) == 2 {
					for j := range 2 {
						k := string(c.By[j])
						if sums[k] == nil {
							sums[k] = map[string]Cell{}
						}
						cell := sums[k][g.Keys[j]]
						cell.merge(&g.Cell)
						sums[k][g.Keys[j]] = cell
					}
				}
			}
			if n != all.Measurements() {
				rt.Fatalf("by %v: %d of %d", c.By, n, all.Measurements())
			}
			for word, cell := range want[c.By.String()] {
				if got[word] == nil {
					rt.Fatalf("by %v: no group %q, of %d", c.By, word, len(got))
				}
				plain := *cell
				for i := range plain.n {
					plain.n[i] /= uint64(times[c.By.String()])
				}
				plain.transient /= uint64(times[c.By.String()])
				if *got[word] != plain {
					rt.Fatalf("by %v %q: %+v, want %+v", c.By, word, *got[word], plain)
				}
			}
			if len(c.By) == 1 {
				if sum, ok := sums[string(c.By[0])]; ok {
					for word, cell := range got {
						if sum[word] != *cell {
							rt.Fatalf("summed over the other property, %s %s is %+v, want %+v", c.By, word, sum[word], *cell)
						}
					}
				}
			}
		}
	})
}

// What several workers find is what one finds, whatever comes to whom.
func TestWorkers(t *testing.T) {
	f := &simulate.Fleet{Seed: 3, Targets: 2000, Probes: 4, ChunkSize: 100, BadTargets: 20_000, BadPaths: 20_000, Transient: 5000, Attempts: true, Broken: map[int]simulate.Box{2: simulate.DropsData}}
	dir := written(t, f)
	var results []*Result
	for _, n := range []int{1, 2, 5} {
		r, err := Run(context.Background(), Query{Workers: n, By: []By{{KeyAS}, {KeyProbe, KeySuffix}}, Origin: asns(t)}, dir)
		if err != nil {
			t.Fatal(err)
		}
		r.Saved.Saved.Quantile(0) // sorts it
		r.Saved.RTT.Quantile(0)
		r.Saved.Share.Quantile(0)
		results = append(results, r)
	}
	for _, r := range results[1:] {
		if diff := gocmp.Diff(results[0], r, gocmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
			t.Error(diff)
		}
	}
}

// The same measurements in one dataset or in several, each with its own list:
// the same judgements.
func TestSeveralDatasets(t *testing.T) {
	f := simulate.Fleet{Seed: 4, Targets: 1500, Probes: 5, ChunkSize: 256, BadTargets: 20_000, BadPaths: 20_000, Inconclusive: 10_000, Broken: map[int]simulate.Box{1: simulate.StripsOption}}
	whole, err := Run(context.Background(), Query{}, written(t, &f))
	if err != nil {
		t.Fatal(err)
	}
	a, b := f, f
	a.ID, a.Only = "a", []int{0, 3}
	b.ID, b.Only, b.ChunkSize = "b", []int{1, 2, 4}, 100
	dirs := []string{written(t, &a), written(t, &b)}
	parts, err := Run(context.Background(), Query{By: []By{{KeyDataset}}, Workers: 2}, dirs...)
	if err != nil {
		t.Fatal(err)
	}
	if parts.All != whole.All || parts.Targets.Tally != whole.Targets.Tally {
		t.Errorf("in parts %+v %+v, whole %+v %+v", parts.All, parts.Targets.Tally, whole.All, whole.Targets.Tally)
	}
	if diff := gocmp.Diff(whole.Targets.Broken, parts.Targets.Broken); diff != "" {
		t.Error(diff)
	}
	by := parts.Crossings[len(parts.Crossings)-1]
	if len(by.Groups) != 2 || by.Groups[0].Keys[0] != "b" || by.Groups[0].Measurements() != 4500 || by.Groups[1].Measurements() != 3000 {
		t.Errorf("by dataset %+v", by)
	}
	n := 0
	if err := Judge(context.Background(), Query{}, func(j *Judged) error {
		n++
		if len(j.Seen) != 5 || cmp.Compare(j.Seen[0].Dataset, j.Seen[4].Dataset) >= 0 || !j.Seen[4].Started.Equal(f.Measure(4, int(j.Item)).Started) {
			return fmt.Errorf("%+v", j)
		}
		return nil
	}, dirs...); err != nil || n != f.Targets {
		t.Errorf("%d targets, %v", n, err)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "tfofleet-report-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A name is one target in several datasets, wherever it leads to. One that a
// list has for several addresses is as many targets, also where it led nowhere.
func TestNamesOfSeveralAddresses(t *testing.T) {
	type seen struct {
		item    int
		name    string
		addr    string
		verdict measure.Verdict
	}
	const sup, drop, off = measure.Supported, measure.DataDropped, measure.Offline
	write := func(id string, probes map[string][]seen) string {
		dir := t.TempDir()
		w, err := dataset.Create(dir, &dataset.Survey{ID: id, Spec: dataset.Spec{ChunkSize: 100}})
		if err != nil {
			t.Fatal(err)
		}
		for probe, list := range probes {
			var ms []measure.Measurement
			for _, s := range list {
				m := measure.Measurement{Target: measure.Target{Item: uint64(s.item), Port: 443, Hostname: s.name}, Outcome: measure.OutcomeMeasured, Verdict: s.verdict}
				if s.addr != "" {
					m.Addr = netip.MustParseAddr(s.addr)
				}
				ms = append(ms, m)
			}
			if err := w.WriteChunk(dataset.ChunkKey{Survey: id, Probe: probe}, ms); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	old := write("old", map[string][]seen{
		"p": {{0, "two", "192.0.2.1", sup}, {1, "two", "2001:db8::1", drop}, {2, "moved", "192.0.2.7", sup}},
		"q": {{0, "two", "192.0.2.1", sup}, {1, "two", "", off}, {2, "moved", "192.0.2.9", sup}},
	})
	again := write("new", map[string][]seen{
		"p": {{0, "moved", "192.0.2.8", sup}, {1, "two", "2001:db8::1", drop}, {2, "two", "192.0.2.1", sup}},
	})
	got := map[string]int{}
	if err := Judge(context.Background(), Query{}, func(j *Judged) error {
		var words []string
		for _, s := range j.Seen {
			words = append(words, fmt.Sprint(s.Dataset, s.Vantage, s.Verdict))
		}
		got[j.Hostname+" "+strings.Join(words, " ")]++
		return nil
	}, old, again); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{
		"two 0psupported 0qsupported 1psupported": 1, "two 0pdata_dropped 0qoffline 1pdata_dropped": 1, "moved 0psupported 0qsupported 1psupported": 1,
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A survey that is given twice, under one name or as a copy, is counted by
// nobody; what is compared may well be one survey.
func TestSameSurvey(t *testing.T) {
	f := simulate.Fleet{Seed: 4, Targets: 10, Probes: 2}
	dir, elsewhere, other := written(t, &f), written(t, &f), f
	other.ID = "other"
	for _, dirs := range [][]string{{dir, dir}, {dir, written(t, &other), elsewhere}} {
		var same *SameSurvey
		want := SameSurvey{"simulated", [2]string{dir, dirs[len(dirs)-1]}}
		if _, err := Run(context.Background(), Query{}, dirs...); !errors.As(err, &same) || *same != want {
			t.Errorf("counted: %v", err)
		}
		if _, err := Datasets(dirs...); !errors.As(err, &same) || *same != want {
			t.Errorf("named: %v", err)
		}
		if err := Judge(context.Background(), Query{}, func(*Judged) error { return nil }, dirs...); err != nil {
			t.Errorf("compared: %v", err)
		}
	}
}

// Probes of one name on two hosts are two vantage points; of one dataset, one.
func TestVantageNames(t *testing.T) {
	probe := func(name, host string) dataset.Probe { return dataset.Probe{Name: name, Hostname: host} }
	s := &scene{surveys: []dataset.Survey{
		{Probes: []dataset.Probe{probe("local", "a.example"), probe("fra", "f.example"), probe("old", "")}},
		{Probes: []dataset.Probe{probe("local", "b.example"), probe("fra", "f.example"), probe("old", "o.example")}},
	}}
	for name, want := range map[string]string{"local": "local@a.example", "fra": "fra", "old": "old", "gone": "gone"} {
		if got := s.vantageName(0, name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestSuffix(t *testing.T) {
	for _, c := range []struct {
		name   string
		labels int
		want   string
	}{
		{"www.example.co.uk", 0, "co.uk"}, {"www.example.co.uk", 1, "uk"}, {"www.example.co.uk", 3, "example.co.uk"}, {"www.example.co.uk.", 9, "www.example.co.uk"},
		{"localhost", 2, "localhost"}, {"", 1, "address"}, {"", 0, "address"}, {"example.com", 0, "com"},
	} {
		if got := suffix(c.name, c.labels); got != c.want {
			t.Errorf("%d of %q: %q, want %q", c.labels, c.name, got, c.want)
		}
	}
}

func TestParseBy(t *testing.T) {
	for _, k := range Keys() {
		if by, err := ParseBy(string(k)); err != nil || by.String() != string(k) {
			t.Errorf("%s: %v %v", k, by, err)
		}
		q := Query{}
		if _, err := newDimension(k, &q, &scene{}); (err != nil) != (k == KeyAS || k == KeyCountry) || err != nil && !ErrNoOrigin(err) {
			t.Errorf("%s, of which nobody told: %v", k, err)
		}
	}
	if by, err := ParseBy("probe, port"); err != nil || by.String() != "probe,port" {
		t.Error(by, err)
	}
	for _, s := range []string{"", "verdict", "probe,", "probe,probe", "probe,port,family"} {
		if by, err := ParseBy(s); err == nil {
			t.Errorf("%q is %v", s, by)
		}
	}
}

// Every verdict has a slot of its own.
func TestSlots(t *testing.T) {
	var c Cell
	for i, v := range measure.Verdicts() {
		c.add(slotOf(measure.OutcomeMeasured, v))
		if c.Verdict(v) != 1 || c.Measured() != uint64(i+1) || c.Refused()+c.Interrupted()+c.Unknown() != 0 {
			t.Errorf("%v: %+v", v, c)
		}
	}
	c = Cell{}
	for _, o := range []measure.Outcome{measure.OutcomeRefused, measure.OutcomeInterrupted, 99} {
		c.add(slotOf(o, measure.Supported))
	}
	c.add(slotOf(measure.OutcomeMeasured, 200) | transientBit)
	if c.Measured() != 1 || c.Verdict(0) != 1 || c.Refused() != 1 || c.Interrupted() != 1 || c.Unknown() != 1 || c.Transient() != 1 || c.Measurements() != 4 || c.Faults() != 0 {
		t.Errorf("%+v", c)
	}
}
