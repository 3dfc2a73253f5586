package dataset

import (
	"path"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Any survey and probe make a file name, and a different one each.
func TestKeyPath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := ChunkKey{
			Survey: rapid.StringN(1, -1, -1).Draw(t, "survey"), Probe: rapid.StringN(1, -1, -1).Draw(t, "probe"), Chunk: rapid.Uint32().Draw(t, "chunk"),
			Late: rapid.OneOf(rapid.Just(uint32(0)), rapid.Uint32()).Draw(t, "late"),
		}
		id := rapid.SampledFrom([]string{"", "0123abcd", "ffffffff"}).Draw(t, "id")
		for name, want := range map[string]string{k.measurements(): "", k.attempts(id): id} {
			if got, gotID, ok := parseKey(path.Base(name)); got != k || gotID != want || !ok {
				t.Fatalf("%q: %+v, %q, %v", name, got, gotID, ok)
			}
			if dir := path.Dir(name); dir != measurementsDir && dir != attemptsDir {
				t.Fatalf("%q leads out of the table", dir)
			}
		}
	})
}

func FuzzParseKey(f *testing.F) {
	for _, s := range []string{"s1.local.0000000000.parquet", "%2F.%25.4294967295.parquet", "a.b.c", "a.b.4294967296.parquet", ".tmp-1", "%2.%zz.0000000001.parquet", "%41.b.0000000001.parquet", "a.b.0000000001.0123abcd.parquet", "a.b.0000000001.0123ABCD.parquet", "a.b.0000000001..parquet", "..0000000000.parquet",
		"a.b.0000000001.late1.parquet", "a.b.0000000001.late12.0123abcd.parquet", "a.b.0000000001.late0.parquet", "a.b.0000000001.late01.parquet", "a.b.0000000001.late4294967296.parquet"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		// One name per chunk: what is read as a key is what the key is called.
		if k, id, ok := parseKey(name); ok && path.Base(k.attempts(id)) != name {
			t.Fatalf("%q is not the name of %+v", name, k)
		}
	})
}

// All probes of a chunk are together, the chunks in order.
func TestChunksOrder(t *testing.T) {
	w := newDataset(t)
	want := []ChunkKey{{"s1", "a.b", 0, 0}, {"s1", "c", 0, 0}, {"s1", "c", 0, 2}, {"s1", "c", 2, 0}, {"s1", "a.b", 10, 0}, {"s2", "a.b", 1, 0}}
	for _, i := range []int{3, 1, 4, 0, 5, 2} {
		if err := w.WriteChunk(want[i], nil); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Chunks(w.Dir())
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v, %v", got, err)
	}
	if err := w.WriteChunk(ChunkKey{Survey: "s1", Probe: strings.Repeat("p", 300)}, nil); err == nil {
		t.Error("a name longer than the file system takes is an error")
	}
}
