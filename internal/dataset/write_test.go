package dataset

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

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
	k := ChunkKey{"s1", "local", 7}
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
				if err := w.WriteChunk(ChunkKey{"s1", "local", chunk}, items(20*n)); err != nil {
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

// What a crash leaves is not seen by readers and removed by the next writer.
func TestCrashLeftovers(t *testing.T) {
	w := newDataset(t)
	whole := ChunkKey{"s1", "local", 0}
	if err := w.WriteChunk(whole, items(2)); err != nil {
		t.Fatal(err)
	}
	// A crash between the two tables of a chunk, and ones in the middle of a file.
	half := ChunkKey{"s1", "local", 1}
	if err := w.WriteChunk(half, items(2)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(half.path(w.Dir(), measurementsDir)); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"", measurementsDir, attemptsDir} {
		if err := os.WriteFile(filepath.Join(w.Dir(), table, tempPrefix+"1"), []byte("PAR1"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := readAll(t, w.Dir()); len(got) != 2 {
		t.Fatalf("%d measurements before the next writer", len(got))
	}

	w, err := Open(w.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files(t, w.Dir()) {
		if strings.Contains(name, tempPrefix) || strings.Contains(name, filepath.Base(half.path("", attemptsDir))) {
			t.Errorf("%s is still there", name)
		}
	}
	if err := w.WriteChunk(half, items(5)); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, w.Dir()); len(got) != 7 {
		t.Fatalf("%d measurements after the chunk was written again", len(got))
	}
}

// Attempts left by a write that failed halfway do not end up beside other
// measurements.
func TestHalfWrittenChunkIsReplaced(t *testing.T) {
	w := newDataset(t)
	k := ChunkKey{"s1", "local", 0}
	if err := w.WriteChunk(k, items(9)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(k.path(w.Dir(), measurementsDir)); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteChunk(k, items(2)); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, w.Dir()); len(got) != 2 {
		t.Fatalf("%d measurements", len(got))
	}
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

// A file that others read is readable for others.
func TestFilesAreReadable(t *testing.T) {
	w := newDataset(t)
	if err := w.WriteChunk(ChunkKey{"s1", "local", 0}, items(1)); err != nil {
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
