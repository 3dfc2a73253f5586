package dataset

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"tfofleet/internal/dataset/place"
	"tfofleet/internal/measure"
)

func items(n int) []measure.Measurement {
	ms := make([]measure.Measurement, n)
	for i := range ms {
		ms[i] = supportedTarget()
		ms[i].Item = uint64(i)
	}
	return ms
}

// pathOf is where the chunk's rows of a table are; there is one such file.
func pathOf(t testing.TB, dir string, k ChunkKey, table string) string {
	t.Helper()
	if table == measurementsDir {
		return filepath.Join(dir, k.measurements())
	}
	paths, err := filepath.Glob(filepath.Join(dir, attemptsDir, k.stem()+".*"))
	if err != nil || len(paths) != 1 {
		t.Fatalf("attempts of %v: %q, %v", k, paths, err)
	}
	return paths[0]
}

// files lists everything below dir that is no directory.
func files(t testing.TB, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// A chunk is created once: what comes later changes nothing.
func TestChunkIsCreatedOnce(t *testing.T) {
	w := newDataset(t)
	k := ChunkKey{Survey: "s1", Probe: "local", Chunk: 7}
	if have, err := w.Has(k); have || err != nil {
		t.Fatal(have, err)
	}
	for _, n := range []int{3, 2, 0} {
		if err := w.WriteChunk(k, items(n)); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := w.Has(k); !have || err != nil {
		t.Fatal(have, err)
	}
	if got := readAll(t, w.Dir()); len(got) != 3 {
		t.Fatalf("%d measurements, want those of the first write", len(got))
	}
	if got := files(t, w.Dir()); len(got) != 3 {
		t.Fatalf("left behind: %v", got)
	}
}

// Writers of one chunk at the same time: one of them wins with both tables.
func TestChunkIsCreatedOnceConcurrently(t *testing.T) {
	w := newDataset(t)
	var wg sync.WaitGroup
	for chunk := range uint32(4) {
		for n := range 4 {
			wg.Go(func() {
				if err := w.WriteChunk(ChunkKey{Survey: "s1", Probe: "local", Chunk: chunk}, items(20*n)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	readAll(t, w.Dir()) // would miss attempts, or find too many, were the tables of two writers
	if got := files(t, w.Dir()); len(got) != 1+2*4 {
		t.Fatalf("left behind: %v", got)
	}
}

// orphan leaves attempts without measurements, as a crash between the two does.
func orphan(t testing.TB, w *Writer, k ChunkKey, ms []measure.Measurement) (path string) {
	t.Helper()
	if err := w.WriteChunk(k, ms); err != nil {
		t.Fatal(err)
	}
	path = pathOf(t, w.Dir(), k, attemptsDir)
	if err := os.Remove(pathOf(t, w.Dir(), k, measurementsDir)); err != nil {
		t.Fatal(err)
	}
	return path
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// What a crash leaves is not seen by readers. The next writer removes it, but
// not what another one may be about to finish.
func TestCrashLeftovers(t *testing.T) {
	w := newDataset(t)
	if err := w.WriteChunk(ChunkKey{Survey: "s1", Probe: "local"}, items(2)); err != nil {
		t.Fatal(err)
	}
	old := orphan(t, w, ChunkKey{Survey: "s1", Probe: "local", Chunk: 1}, items(2))
	young := orphan(t, w, ChunkKey{Survey: "s1", Probe: "local", Chunk: 2}, items(2))
	then := time.Now().Add(-forsaken - time.Hour)
	if err := os.Chtimes(old, then, then); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, w.Dir()); len(got) != 2 {
		t.Fatalf("%d measurements before the next writer", len(got))
	}
	w, err := Open(w.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if exists(old) || !exists(young) {
		t.Errorf("of attempts without measurements, the old ones are there: %v, the young ones: %v", exists(old), exists(young))
	}
	if err := w.WriteChunk(ChunkKey{Survey: "s1", Probe: "local", Chunk: 1}, items(5)); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, w.Dir()); len(got) != 7 {
		t.Fatalf("%d measurements after the chunk was written again", len(got))
	}
	// The survey has ended: nobody is about to finish anything.
	done := testSurvey()
	done.State = StateDone
	if err := w.PutSurvey(done); err != nil {
		t.Fatal(err)
	}
	if exists(young) {
		t.Error("attempts without measurements are there at the end")
	}
	if got := readAll(t, w.Dir()); len(got) != 7 {
		t.Fatalf("%d measurements at the end", len(got))
	}
}

// Attempts of a chunk that was written otherwise go, whatever their age.
func TestAttemptsOfTheLoserGo(t *testing.T) {
	w := newDataset(t)
	k := ChunkKey{Survey: "s1", Probe: "local"}
	left := orphan(t, w, k, items(9))
	again := orphan(t, w, k, items(9))
	if left != again {
		t.Fatalf("the same attempts are %s and %s", left, again)
	}
	if created, err := w.CreateChunk(k, items(2)); !created || err != nil {
		t.Fatal(created, err)
	}
	if !exists(left) {
		t.Fatal("somebody may be about to lose with them")
	}
	if got := readAll(t, w.Dir()); len(got) != 2 {
		t.Fatalf("%d measurements", len(got))
	}
	if _, err := Open(w.Dir()); err != nil {
		t.Fatal(err)
	}
	if exists(left) {
		t.Error("they are still there")
	}
	if got := readAll(t, w.Dir()); len(got) != 2 {
		t.Fatalf("%d measurements", len(got))
	}
}

// A writer that slept between the two tables for so long that its attempts were
// removed writes them again.
func TestAttemptsRemovedUnderTheWriter(t *testing.T) {
	w := newDataset(t)
	k := ChunkKey{Survey: "s1", Probe: "local"}
	w.p = sweptPlace{w.p}
	if created, err := w.CreateChunk(k, items(3)); !created || err != nil {
		t.Fatal(created, err)
	}
	if got := readAll(t, w.Dir()); len(got) != 3 {
		t.Fatalf("%d measurements", len(got))
	}
}

// sweptPlace removes all attempts at the first question for some.
type sweptPlace struct{ place.Place }

func (p sweptPlace) Has(name string) (bool, error) {
	if strings.HasPrefix(name, attemptsDir) {
		if err := p.Remove(name); err != nil {
			return false, err
		}
	}
	return p.Place.Has(name)
}

func TestCreateAndOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "dir")
	if _, err := Open(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open nothing: %v", err)
	}
	if _, err := Create(dir, testSurvey()); err != nil {
		t.Fatal(err)
	}
	other := testSurvey()
	other.ID = "s2"
	if _, err := Create(dir, other); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create over a survey: %v", err)
	}
	w, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := ReadSurvey(dir); err != nil || s.ID != "s1" {
		t.Fatal(s, err)
	}
	if err := w.PutSurvey(other); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadSurvey(dir); err != nil || s.ID != "s2" {
		t.Fatal(s, err)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Fatalf("left behind: %v", got)
	}
}

// Every file of a writer says whose columns its columns are, the first as the
// hundredth, and the same measurements make the same bytes.
func TestReusedEncoder(t *testing.T) {
	w := newDataset(t)
	for table, columns := range map[string]int{measurementsDir: len(columnNames(measurementRow{})), attemptsDir: len(columnNames(attemptRow{}))} {
		var first []byte
		for range 3 {
			k := ChunkKey{Survey: "s1", Probe: table, Chunk: 0}
			if err := w.WriteChunk(k, items(100)); err != nil {
				t.Fatal(err)
			}
			path := pathOf(t, w.Dir(), k, table)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			pf, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			for i, c := range pf.Metadata().RowGroups[0].Columns {
				if want := pf.Schema().Columns()[i]; !slices.Equal(c.MetaData.PathInSchema, want) {
					t.Errorf("%s: column %d is %q, want %q", table, i, c.MetaData.PathInSchema, want)
				}
			}
			if n := len(pf.Root().Columns()); n != columns {
				t.Errorf("%d columns, want %d", n, columns)
			}
			if first == nil {
				first = b
			}
			if !bytes.Equal(b, first) {
				t.Errorf("%s: the same measurements, other bytes", table)
			}
			os.Remove(pathOf(t, w.Dir(), k, attemptsDir))
			os.Remove(pathOf(t, w.Dir(), k, measurementsDir))
		}
	}
}

// A file that others read is readable for others.
func TestFilesAreReadable(t *testing.T) {
	w := newDataset(t)
	if err := w.WriteChunk(ChunkKey{Survey: "s1", Probe: "local"}, items(1)); err != nil {
		t.Fatal(err)
	}
	for _, name := range files(t, w.Dir()) {
		info, err := os.Stat(filepath.Join(w.Dir(), name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v", name, info.Mode())
		}
	}
}
