package simulate

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
)

// The same seed makes the same measurements, another one others; and what is
// read back is what the fleet says.
func TestFleet(t *testing.T) {
	f := &Fleet{Seed: 1, Targets: 500, Probes: 3, ChunkSize: 128, BadTargets: 20_000, BadPaths: 20_000, Inconclusive: 10_000, Transient: 10_000, Attempts: true, Broken: map[int]Box{1: DropsData}}
	dir := t.TempDir()
	if err := f.Write(dir); err != nil {
		t.Fatal(err)
	}
	n := 0
	for r, err := range dataset.Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		p := slices.IndexFunc([]int{0, 1, 2}, func(p int) bool { return f.Probe(p) == r.Probe })
		want := f.Measure(p, int(r.Item))
		if diff := cmp.Diff(want, r.Measurement, cmpopts.EquateComparable(want.Addr), cmpopts.EquateEmpty(), cmpopts.IgnoreFields(measure.Measurement{}, "Duration", "Attempts")); diff != "" {
			t.Fatal(diff)
		}
	}
	if n != 1500 {
		t.Errorf("%d measurements", n)
	}
	list, err := dataset.OpenTargets(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	if list.Len() != 500 || list.ChunkSize() != 128 {
		t.Errorf("%d targets in chunks of %d", list.Len(), list.ChunkSize())
	}
	g := *f
	g.Seed = 2
	same := 0
	for i := range 500 {
		if f.Target(i) == g.Target(i) {
			same++
		}
	}
	if same > 0 {
		t.Errorf("%d targets of another seed are the same", same)
	}
}
