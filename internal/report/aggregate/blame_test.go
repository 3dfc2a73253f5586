package aggregate

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/blame"
	"tfofleet/internal/report/simulate"
)

// truth is who is to blame for a target, by what was done to it: not by what the
// probes say of it.
func truth(f *simulate.Fleet, item int) blame.Side {
	var sound, atTarget, onPath, atVantage int // vantage points
	faults := map[measure.Verdict]int{}
	for p := range f.Probes {
		v, cause := f.See(p, item)
		if v == measure.Inconclusive || v == measure.Offline {
			continue
		}
		switch cause {
		case simulate.AtVantage:
			atVantage++
		case simulate.OnPath:
			onPath++
			faults[v]++
		case simulate.AtTarget:
			atTarget++
			faults[v]++
		default:
			// What a box near the probe may have made is no word on the target.
			if f.Broken[p] == 0 || f.Broken[p] == simulate.DropsData {
				sound++
			}
		}
	}
	seen := atTarget + onPath
	switch {
	case seen == 0 && atVantage > 0:
		return blame.Vantage
	case seen == 0:
		return blame.Nobody
	case sound > 0:
		return blame.Path
	}
	for _, n := range faults {
		if n >= 2 && 2*n > seen {
			return blame.Target
		}
	}
	return blame.Unknown
}

func written(t testing.TB, f *simulate.Fleet) string {
	t.Helper()
	dir := t.TempDir()
	if err := f.Write(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Every target of a fleet with broken vantage points, targets and paths is
// charged to who broke it, and the counts are those of the rows.
func TestBlameIsTrue(t *testing.T) {
	for name, f := range map[string]*simulate.Fleet{
		"many":  {Seed: 11, Targets: 3000, Probes: 7, ChunkSize: 512, Broken: map[int]simulate.Box{1: simulate.DropsData, 3: simulate.StripsOption, 6: simulate.SaidToStrip}, BadTargets: 15_000, BadPaths: 10_000, Inconclusive: 20_000, Transient: 3000},
		"three": {Seed: 12, Targets: 3000, Probes: 3, ChunkSize: 700, Broken: map[int]simulate.Box{2: simulate.DropsData}, BadTargets: 15_000, BadPaths: 10_000, Inconclusive: 20_000},
		"two":   {Seed: 13, Targets: 2000, Probes: 2, ChunkSize: 700, BadTargets: 15_000, BadPaths: 10_000, Inconclusive: 20_000},
		"sound": {Seed: 14, Targets: 1000, Probes: 4, ChunkSize: 300},
		"one":   {Seed: 15, Targets: 1000, Probes: 1, ChunkSize: 300, BadTargets: 15_000, BadPaths: 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			dir := written(t, f)
			var counted blame.Tally
			found := map[blame.Side]int{}
			items := map[uint64]bool{}
			err := Judge(context.Background(), Query{}, func(j *Judged) error {
				items[j.Item] = true
				counted.Add(j.Judgement)
				found[j.Blame]++
				want := truth(f, int(j.Item))
				// Who alone was dropping data can be known by what it drops only.
				if j.Blame != want {
					t.Errorf("item %d: %v, in truth %v: %+v", j.Item, j.Blame, want, j.Seen)
				}
				if host := f.Target(int(j.Item)); j.Port != host.Port || j.Hostname != host.Hostname || j.Addr != host.Addr {
					t.Errorf("item %d is %v:%d %s", j.Item, j.Addr, j.Port, j.Hostname)
				}
				if len(j.Seen) != f.Probes {
					t.Errorf("item %d was seen %d times", j.Item, len(j.Seen))
				}
				for _, o := range j.Seen {
					if o.Wrong && (o.Verdict == measure.Supported || o.Verdict == measure.Offline) {
						t.Errorf("item %d: blame stands on %v", j.Item, o.Verdict)
					}
				}
				return nil
			}, dir)
			if err != nil {
				t.Fatal(err)
			}
			if len(items) != f.Targets {
				t.Errorf("%d targets of %d", len(items), f.Targets)
			}
			r, err := Run(context.Background(), Query{Workers: 2}, dir)
			if err != nil {
				t.Fatal(err)
			}
			if r.Targets.Tally != counted {
				t.Errorf("counted %+v, judged %+v", r.Targets.Tally, counted)
			}
			broken := map[int]bool{}
			for _, b := range r.Targets.Broken {
				broken[int(b.Vantage)] = true
			}
			for p := range f.Probes {
				if box := f.Broken[p]; broken[p] != (box != 0) {
					t.Errorf("probe %d with box %d: %v", p, box, r.Targets.Broken)
				}
			}
			if len(f.Broken) > 0 && f.Probes > 2 && (found[blame.Target] < 5 || found[blame.Vantage] < 5 || found[blame.Path] < 5) {
				t.Errorf("not much to find: %v", found)
			}
			for _, e := range r.Targets.Examples {
				if e.Port == 0 {
					t.Errorf("an example without a name: %+v", e)
				}
			}
		})
	}
}

// Many names of one address are one measurement of each probe: that a probe saw
// there what another did not makes no broken vantage point, in one dataset or in
// several.
func TestSharedAddressIsOne(t *testing.T) {
	var dirs []string
	for n := range 2 {
		s := &dataset.Survey{ID: fmt.Sprint("s", n), State: dataset.StateDone, Created: time.Now(), Probes: []dataset.Probe{{Name: "a"}, {Name: "b"}}}
		w, err := dataset.Create(t.TempDir(), s)
		if err != nil {
			t.Fatal(err)
		}
		for probe, v := range map[string]measure.Verdict{"a": measure.Supported, "b": measure.CookieUnstable} {
			var ms []measure.Measurement
			for i := range 50 {
				m := measure.Measurement{
					Target: measure.Target{Item: uint64(i), Addr: netip.MustParseAddr("192.0.2.1"), Port: 443, Hostname: fmt.Sprintf("h%d.example", i)}, Outcome: measure.OutcomeMeasured, Verdict: v,
				}
				if i > 0 {
					m.Conditions = []measure.Condition{measure.CondSharedAddress}
				}
				ms = append(ms, m)
			}
			if err := w.WriteChunk(dataset.ChunkKey{Survey: s.ID, Probe: probe}, ms); err != nil {
				t.Fatal(err)
			}
		}
		dirs = append(dirs, w.Dir())
	}
	for _, of := range [][]string{dirs[:1], dirs} {
		r, err := Run(context.Background(), Query{}, of...)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Targets.Broken) > 0 || r.Targets.Blame(blame.Path) != 50 {
			t.Errorf("%d datasets: broken %+v, %+v", len(of), r.Targets.Broken, r.Targets.Tally)
		}
	}
}
