package storetest

import (
	"context"
	"slices"
	"sync"
	"testing"

	"tfofleet/internal/lease"
	"tfofleet/internal/store"
)

// late checks which chunks have results to be written late.
func (f *fixture) late(want ...store.Key) {
	f.t.Helper()
	keys, err := f.Late(ctx)
	must(f.t, err)
	if !slices.Equal(keys, want) {
		f.t.Errorf("late %v, want %v", keys, want)
	}
}

// lateBodies checks what a chunk's n-th late file is to be made of.
func (f *fixture) lateBodies(k store.Key, n uint32, want ...string) {
	f.t.Helper()
	_, number, bs, err := f.LateBatches(ctx, k)
	must(f.t, err)
	var got []string
	for _, b := range bs {
		got = append(got, string(b.Body))
		if !b.Late {
			f.t.Errorf("batch %s is not late", b.Body)
		}
	}
	if number != n || !slices.Equal(got, want) {
		f.t.Errorf("late file %d of %v, want %d of %v", number, got, n, want)
	}
}

// testLate: what comes for a chunk that is written is kept in sets that do not
// change while one is being written.
func testLate(t *testing.T, f *fixture) {
	f.survey("a", 3, 3, nil)
	k := f.claim("p").Key
	f.apply(k, lease.Accept{Probe: "p", Epoch: 1})
	f.apply(k, lease.Renew{Probe: "p", Epoch: 1, Taken: 3})
	one := func(i uint32, sequence uint64, body string, want ...lease.Effect) {
		t.Helper()
		f.report(k, of("p", 1, lease.ItemResult{Index: i, Result: good}), sequence, body, want...)
	}
	f.apply(k, lease.GiveUp{}, lease.Finish) // all three are interrupted
	one(0, 0, "before", lease.KeepAside)
	f.late() // it is not written yet
	f.lateBodies(k, 1)
	if _, err := f.Written(ctx, k, []lease.Item{cut, cut, cut}); err != nil {
		t.Fatal(err)
	}
	f.late(k)
	f.lateBodies(k, 1, "before")
	one(1, 1, "after", lease.KeepAside)
	one(0, 0, "before") // sent again
	one(1, 1, "after")
	f.reopen()
	f.late(k)
	f.lateBodies(k, 1, "before")
	must(t, f.LateWritten(ctx, k, 1, []lease.Item{good, cut, cut}))
	f.tally("a", map[lease.Item]int64{good: 1, cut: 2})
	one(0, 0, "before") // while it is being written
	f.reopen()
	f.lateBodies(k, 1, "before") // survey.json may still say otherwise
	must(t, f.LateWritten(ctx, k, 1, []lease.Item{good, cut, cut}))
	must(t, f.LateDone(ctx, k, 1))
	one(0, 0, "before") // when its batch is gone

	f.late(k)
	f.lateBodies(k, 2, "after")
	// Somebody else wrote the first one, and was asleep since.
	must(t, f.LateWritten(ctx, k, 1, []lease.Item{cut, cut, cut}))
	must(t, f.LateDone(ctx, k, 1))
	f.lateBodies(k, 2, "after")
	f.tally("a", map[lease.Item]int64{good: 1, cut: 2})
	if err := f.LateWritten(ctx, k, 3, []lease.Item{good, good, cut}); err == nil {
		t.Error("the third late file was written before the second")
	}
	if err := f.LateWritten(ctx, k, 2, []lease.Item{good}); err == nil {
		t.Error("written with one item of three")
	}
	must(t, f.LateWritten(ctx, k, 2, []lease.Item{good, good, cut}))
	must(t, f.LateDone(ctx, k, 2))
	f.late()
	f.lateBodies(k, 3)
	f.tally("a", map[lease.Item]int64{good: 2, cut: 1})
	f.bodies(k)
}

// testLateWriters: results come while two write what came before. Each is in one
// late file.
func testLateWriters(t *testing.T, f *fixture) {
	const n = 40
	f.survey("a", n, n, nil)
	k := f.claim("p").Key
	f.apply(k, lease.Accept{Probe: "p", Epoch: 1})
	f.apply(k, lease.Renew{Probe: "p", Epoch: 1, Taken: n})
	f.apply(k, lease.GiveUp{}, lease.Finish)
	if _, err := f.Written(ctx, k, slices.Repeat([]lease.Item{cut}, n)); err != nil {
		t.Fatal(err)
	}
	var (
		mu    sync.Mutex
		files = make(map[uint32]string) // what is in them
		wg    sync.WaitGroup
	)
	write := func() (more bool, err error) {
		c, number, bs, err := f.LateBatches(ctx, k)
		if err != nil || len(bs) == 0 {
			return false, err
		}
		content := ""
		items := slices.Clone(c.Items)
		for _, b := range bs {
			content += string(b.Body)
			items[b.Body[0]] = good
		}
		mu.Lock()
		if had, ok := files[number]; ok && had != content {
			t.Errorf("late file %d is of %q and of %q", number, had, content)
		}
		files[number] = content
		mu.Unlock()
		if err := f.LateWritten(ctx, k, number, items); err != nil {
			return false, err
		}
		return true, f.LateDone(ctx, k, number)
	}
	come, gone := context.WithCancel(ctx)
	for range 2 {
		wg.Go(func() {
			for more := true; more || come.Err() == nil; {
				var err error
				if more, err = write(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range uint32(n) {
		b := &store.Batch{Epoch: 1, Spool: "s", Sequence: uint64(i), Probe: "p", Body: []byte{byte(i)}}
		if _, _, err := f.Apply(ctx, k, of("p", 1, lease.ItemResult{Index: i, Result: good}), b); err != nil {
			t.Error(err)
		}
	}
	gone()
	wg.Wait()
	for more := true; more; { // what came after both had looked
		var err error
		more, err = write()
		must(t, err)
	}
	seen := make(map[byte]int)
	for _, content := range files {
		for i := range len(content) {
			seen[content[i]]++
		}
	}
	for i := range byte(n) {
		if seen[i] != 1 {
			t.Errorf("result %d is in %d late files", i, seen[i])
		}
	}
	f.tally("a", map[lease.Item]int64{good: n})
	f.late()
}
