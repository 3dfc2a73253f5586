package dataset

import (
	"errors"
	"io/fs"
	"iter"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tfofleet/internal/measure"
)

// listed gives ts without errors.
func listed(ts []measure.Target) iter.Seq2[measure.Target, error] {
	return func(yield func(measure.Target, error) bool) {
		for _, t := range ts {
			if !yield(t, nil) {
				return
			}
		}
	}
}

// counted gives n targets made from their item.
func counted(n uint64, each func(uint64)) iter.Seq2[measure.Target, error] {
	return func(yield func(measure.Target, error) bool) {
		for i := range n {
			each(i)
			if !yield(countedTarget(i), nil) {
				return
			}
		}
	}
}

func countedTarget(i uint64) measure.Target {
	return measure.Target{Item: i, Addr: netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}), Port: 443}
}

func TestTargetsRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		n := rapid.IntRange(0, 100).Draw(rt, "targets")
		size := rapid.IntRange(1, 40).Draw(rt, "chunk size")
		want := make([]measure.Target, n)
		for i := range want {
			want[i] = measure.Target{Item: uint64(i), Addr: genAddr().Draw(rt, "addr"), Port: rapid.Uint16().Draw(rt, "port"), Hostname: genWord.Draw(rt, "host")}
		}
		if got, err := WriteTargets(dir, size, listed(want)); got != uint64(n) || err != nil {
			rt.Fatal(got, err)
		}
		ts, err := OpenTargets(dir)
		if err != nil {
			rt.Fatal(err)
		}
		defer ts.Close()
		if ts.Len() != uint64(n) || ts.ChunkSize() != size || ts.Chunks() != (n+size-1)/size {
			rt.Fatalf("%d targets in %d chunks of %d", ts.Len(), ts.Chunks(), ts.ChunkSize())
		}
		for i := range ts.Chunks() {
			got, err := ts.Chunk(i)
			if err != nil {
				rt.Fatal(err)
			}
			if diff := cmp.Diff(want[i*size:min(n, (i+1)*size)], got, exact...); diff != "" {
				rt.Fatal(diff)
			}
		}
		for _, i := range []int{-1, ts.Chunks()} {
			if _, err := ts.Chunk(i); err == nil {
				rt.Fatalf("chunk %d of %d", i, ts.Chunks())
			}
		}
	})
}

func TestTargetsErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenTargets(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	broken := errors.New("the list ends here")
	for name, seq := range map[string]iter.Seq2[measure.Target, error]{
		broken.Error(): func(yield func(measure.Target, error) bool) {
			_ = yield(countedTarget(0), nil) && yield(measure.Target{}, broken)
		},
		"item 0":                            listed([]measure.Target{countedTarget(0), countedTarget(0)}),
		"more than 10 chunks of 64 targets": counted(641, func(uint64) {}),
	} {
		if _, err := writeTargets(dir, 64, 10, seq); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if got := files(t, dir); len(got) != 0 {
			t.Errorf("%s left %v", name, got)
		}
	}
	if n, err := writeTargets(dir, 64, 10, counted(640, func(uint64) {})); n != 640 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := WriteTargets(dir, 1, listed(nil)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("frozen twice: %v", err)
	}
}

// Chunks are read by several goroutines from one open file.
func TestTargetsConcurrently(t *testing.T) {
	dir := t.TempDir()
	if _, err := WriteTargets(dir, 64, counted(1000, func(uint64) {})); err != nil {
		t.Fatal(err)
	}
	ts, err := OpenTargets(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ts.Close()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range ts.Chunks() {
				got, err := ts.Chunk(i)
				if err != nil || got[0] != countedTarget(uint64(i)*64) {
					t.Errorf("chunk %d: %v, %v", i, got, err)
				}
			}
		})
	}
	wg.Wait()
}

func live() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Neither writing nor reading a list holds it: what is in memory is one chunk
// and, for every chunk, the footer's 4 KiB.
func TestTargetsMemoryIsFlat(t *testing.T) {
	const n, chunk = 1 << 19, 8192
	dir := t.TempDir()
	var first, last uint64
	_, err := WriteTargets(dir, chunk, counted(n, func(i uint64) {
		switch i {
		case 2 * chunk:
			first = live()
		case n - 1:
			last = live()
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	ts, err := OpenTargets(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ts.Close()
	for i := range ts.Chunks() {
		if _, err := ts.Chunk(i); err != nil {
			t.Fatal(err)
		}
	}
	// A held list would be 40 MB or more; the slack is for the compressor's
	// windows of 8 MB, of which there may be more at one moment than another.
	if opened := live(); last > first+20<<20 || opened > first+20<<20 {
		t.Errorf("live heap %d after 2 chunks, %d after %d, %d after reading them", first, last, n/chunk, opened)
	}
}
