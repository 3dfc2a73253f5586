package dataset

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"tfofleet/internal/measure"
)

// lateDataset has a chunk of two probes, with targets that were interrupted or
// lost, and results that came late for some of them.
func lateDataset(t *testing.T, dir string) *Writer {
	t.Helper()
	w := create(t, dir)
	cut := func(item uint64) measure.Measurement {
		return measure.Measurement{Target: measure.Target{Item: item}, Outcome: measure.OutcomeInterrupted}
	}
	at := func(item uint64) measure.Measurement {
		m := supportedTarget()
		m.Item = item
		return m
	}
	write := func(probe string, chunk, late uint32, ms ...measure.Measurement) {
		t.Helper()
		if err := w.WriteChunk(ChunkKey{Survey: "s1", Probe: probe, Chunk: chunk, Late: late}, ms); err != nil {
			t.Fatal(err)
		}
	}
	write("p", 1, 0, at(10), cut(11), at(12), cut(13), cut(14)) // 15 and 16 are lost
	write("q", 1, 0, at(17), cut(18))
	write("p", 1, 1, at(11), at(15))
	write("q", 1, 2, at(13)) // p was interrupted, q had it before
	write("p", 1, 2, at(18))
	write("p", 2, 0, cut(20), at(21)) // another chunk
	write("p", 3, 1, at(30))          // nothing was written but late
	return w
}

// seen names what counts of it.
var seen = []string{
	"p 1 10 measured", "p 1 11 measured", "p 1 12 measured", "p 1 14 interrupted", "p 1 15 measured", "p 1 18 measured",
	"p 2 20 interrupted", "p 2 21 measured", "p 3 30 measured", "q 1 13 measured", "q 1 17 measured",
}

// A target that has a result in a late file counts once, by whatever it is read.
func TestSuperseded(t *testing.T) {
	eachPlace(t, func(t *testing.T, dir string) {
		lateDataset(t, dir)
		check := func(t *testing.T, how string, got []string) {
			t.Helper()
			slices.Sort(got)
			if !slices.Equal(got, seen) {
				t.Errorf("%s gives\n%s\nwant\n%s", how, strings.Join(got, "\n"), strings.Join(seen, "\n"))
			}
		}
		name := func(k ChunkKey, item uint64, o measure.Outcome) string {
			return fmt.Sprintf("%s %d %d %v", k.Probe, k.Chunk, item, o)
		}
		var read, rows, exported []string
		for r, err := range Read(dir) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Outcome == measure.OutcomeMeasured && len(r.Attempts) != len(supportedTarget().Attempts) {
				t.Errorf("%d attempts of item %d", len(r.Attempts), r.Item)
			}
			read = append(read, name(r.ChunkKey, r.Item, r.Outcome))
		}
		check(t, "Read", read)
		for r, err := range Rows(dir) {
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, name(r.ChunkKey, r.Item, r.Outcome))
		}
		check(t, "Rows", rows)
		var out bytes.Buffer
		if err := Export(dir, CSV, &out); err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(&out); lines.Scan(); {
			if f := strings.Split(lines.Text(), ","); f[0] == "s1" {
				exported = append(exported, strings.Join([]string{f[1], f[2], f[3], f[8]}, " "))
			}
		}
		check(t, "Export", exported)

		scanned, err := rowsOfScan(NewScan(AllColumns, dir), 2)
		if err != nil {
			t.Fatal(err)
		}
		var scan []string
		for k, rows := range scanned {
			for _, r := range rows {
				scan = append(scan, name(k, r.Item, r.Outcome))
				if want := uint16(443); r.Outcome == measure.OutcomeMeasured && (r.Port != want || len(r.Conditions) == 0) {
					t.Errorf("item %d at port %d with conditions %v", r.Item, r.Port, r.Conditions)
				}
			}
		}
		check(t, "Scan", scan)
		n := 0
		err = NewScan(ColOutcome|ColHostname, dir).Run(t.Context(), func(b *Batch) error {
			if len(b.Item) != 0 || len(b.Outcome) != b.Len || b.Port != nil {
				t.Errorf("columns that were not asked for, or not those that were: %+v", b)
			}
			n += b.Len
			return nil
		})
		if err != nil || n != len(seen) {
			t.Errorf("a scan without items gives %d rows, %v", n, err)
		}

		// What is in a file stays in it, and FindSuperseded tells what counts.
		keys, err := Chunks(dir)
		if err != nil {
			t.Fatal(err)
		}
		late, err := FindSuperseded(dir, keys)
		if err != nil {
			t.Fatal(err)
		}
		var counted []string
		all := 0
		for _, k := range keys {
			for r, err := range ReadChunk(dir, k) {
				if err != nil {
					t.Fatal(err)
				}
				if r.ChunkKey != k {
					t.Errorf("a record of %v in %v", r.ChunkKey, k)
				}
				if all++; !late.Row(k, r.Item) {
					counted = append(counted, name(k, r.Item, r.Outcome))
				}
			}
		}
		check(t, "ReadChunk", counted)
		if want := len(seen) + 3; all != want {
			t.Errorf("%d rows in all files, want %d", all, want)
		}
	})
}

// A copy has the late files, and the sweep at the end of a survey, which may
// come while one is written, leaves what goes with it.
func TestLateFiles(t *testing.T) {
	eachPlace(t, func(t *testing.T, root string) {
		from, to := Join(root, "from"), Join(root, "to")
		w := lateDataset(t, from)
		young := ChunkKey{Survey: "s1", Probe: "p", Chunk: 2, Late: 1}
		if err := putAttempts(w, young, items(1)); err != nil {
			t.Fatal(err)
		}
		done := testSurvey()
		done.State = StateDone
		if err := w.PutSurvey(done); err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(filesIn(t, w), func(name string) bool { return strings.HasPrefix(name, attemptsDir+"/"+young.stem()) }) {
			t.Error("attempts of a late file went from under its writer")
		}
		if created, err := w.CreateChunk(young, items(1)); !created || err != nil {
			t.Errorf("created %v, %v", created, err)
		}
		if created, err := w.CreateChunk(young, items(2)); created || err != nil {
			t.Errorf("created again %v, %v", created, err)
		}
		received, err := mirror(from, to, -1)
		if err != nil {
			t.Fatal(err)
		}
		late := 0
		for _, name := range received {
			if strings.HasPrefix(name, measurementsDir) && strings.Contains(name, ".late") {
				late++
			}
		}
		if late != 5 {
			t.Errorf("%d late files came: %q", late, received)
		}
		if a, b := readAll(t, from), readAll(t, to); len(a) != len(b) {
			t.Errorf("%d measurements here, %d in the copy", len(a), len(b))
		}
	})
}
