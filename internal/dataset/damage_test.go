package dataset

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// drain reads all there is, in every way, and returns the first error.
func drain(dir string) error {
	for _, err := range Read(dir) {
		if err != nil {
			return err
		}
	}
	for _, err := range Rows(dir) {
		if err != nil {
			return err
		}
	}
	return nil
}

// damaged replaces a table's file by content and returns what a reader says.
func damaged(t *testing.T, dir, path string, content []byte) error {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	err := drain(dir)
	// Which of the two tables is wrong cannot always be told.
	if err != nil && !strings.Contains(err.Error(), filepath.Base(path)) {
		t.Fatalf("%v does not name %s", err, path)
	}
	return err
}

// A table that was cut off anywhere, or has one bit flipped anywhere, is an
// error that names the file.
func TestDamagedTables(t *testing.T) {
	for _, table := range []string{measurementsDir, attemptsDir} {
		dir := sampleDataset(t)
		path := pathOf(t, dir, ChunkKey{Survey: "s1", Probe: "local"}, table)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range whole {
			b := bytes.Clone(whole)
			b[i] ^= 1 << (i % 8)
			if checkSeal(bytes.NewReader(b), int64(len(b))) == nil {
				t.Errorf("%s with byte %d of %d damaged is no error", table, i, len(whole))
			}
			if checkSeal(bytes.NewReader(whole[:i]), int64(i)) == nil {
				t.Errorf("%s cut off at %d of %d is no error", table, i, len(whole))
			}
			if i%101 == 0 && (damaged(t, dir, path, b) == nil || damaged(t, dir, path, whole[:i]) == nil) {
				t.Errorf("%s damaged at %d of %d is read", table, i, len(whole))
			}
		}
		if err := damaged(t, dir, path, whole); err != nil {
			t.Error(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := drain(dir); table == attemptsDir && (!errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path)) {
			t.Errorf("without attempts: %v", err)
		}
	}
}

// A whole table in the place of another is an error too.
func TestTableOfAnotherKind(t *testing.T) {
	dir := sampleDataset(t)
	k := ChunkKey{Survey: "s1", Probe: "local"}
	content, err := os.ReadFile(pathOf(t, dir, k, attemptsDir))
	if err != nil {
		t.Fatal(err)
	}
	if err := damaged(t, dir, pathOf(t, dir, k, measurementsDir), content); err == nil || !strings.Contains(err.Error(), "another table") {
		t.Error(err)
	}
}

// The attempts of another chunk are not taken for the measurement's own.
func TestAttemptsOfAnotherChunk(t *testing.T) {
	w := newDataset(t)
	a, b := ChunkKey{Survey: "s1", Probe: "local"}, ChunkKey{Survey: "s1", Probe: "local", Chunk: 1}
	if err := w.WriteChunk(a, items(3)); err != nil {
		t.Fatal(err)
	}
	for other, want := range map[int]string{4: "more", 2: "is missing", 0: "is missing"} {
		b.Chunk++
		if err := w.WriteChunk(b, items(other)); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(pathOf(t, w.Dir(), b, attemptsDir))
		if err != nil {
			t.Fatal(err)
		}
		if err := damaged(t, w.Dir(), pathOf(t, w.Dir(), a, attemptsDir), content); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("attempts of %d measurements: %v", other, err)
		}
	}
	ms := items(3)
	ms[1].Item = 77
	b.Chunk++
	if err := w.WriteChunk(b, ms); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(pathOf(t, w.Dir(), b, attemptsDir))
	if err != nil {
		t.Fatal(err)
	}
	if err := damaged(t, w.Dir(), pathOf(t, w.Dir(), a, attemptsDir), content); err == nil || !strings.Contains(err.Error(), "belongs") {
		t.Error(err)
	}
}

func TestDamagedTargets(t *testing.T) {
	dir := t.TempDir()
	if _, err := WriteTargets(dir, 64, counted(100, func(uint64) {})); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, targetsFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		if err := os.WriteFile(path, whole[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		ts, err := OpenTargets(dir)
		if err == nil {
			_, err = ts.Chunk(1)
			ts.Close()
		}
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Fatalf("cut off at %d: %v", n, err)
		}
	}
	// A Parquet file that is not ours.
	content, err := os.ReadFile(pathOf(t, sampleDataset(t), ChunkKey{Survey: "s1", Probe: "local"}, measurementsDir))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenTargets(dir); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a table of measurements as targets: %v", err)
	}
}

// A table is bytes from outside once a dataset was copied around.
func FuzzReadChunk(f *testing.F) {
	dir := sampleDataset(f)
	path := pathOf(f, dir, ChunkKey{Survey: "s1", Probe: "local"}, measurementsDir)
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte("PAR1tfo1\x00\x00\x00\x00\x00\x00\x00\x00PAR1"))
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := damaged(t, dir, path, content); err == nil && !bytes.Equal(content, whole) {
			t.Fatal("a damaged table was read")
		}
	})
}
