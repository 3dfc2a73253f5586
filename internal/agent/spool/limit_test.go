package spool

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestKeepAtTheLimit(t *testing.T) {
	cfg := config(path(t))
	cfg.Limit = 100_000
	s, _ := open(t, cfg)
	must(t, s.Accept(leaseA, []uint32{0, 1, 2}, nil))
	must(t, s.Start(leaseA, 0))
	if !s.Credit() {
		t.Error("no credit in an empty spool")
	}
	data := strings.Repeat("x", 1000)
	for s.Status().Bytes < 80_000 {
		if !s.Credit() {
			t.Fatalf("no credit at %d bytes", s.Status().Bytes)
		}
		must(t, s.Append(Record{Kind: KindEvent, Data: []byte(data)}))
		before := s.Status().Bytes
		must(t, s.Sync())
		if after := s.Status().Bytes; after != before {
			t.Fatalf("%d bytes in memory count for %d in the file", before, after)
		}
	}
	if s.Credit() {
		t.Errorf("credit at %d bytes", s.Status().Bytes)
	}
	must(t, s.Accept(leaseB, []uint32{0}, nil))
	must(t, s.Start(leaseA, 1))
	for s.Status().Bytes < 100_000 {
		must(t, s.Append(Record{Kind: KindEvent, Data: []byte(data)}))
	}
	must(t, s.Sync())
	full := Lease{"survey", 3, 1}
	for range 2 {
		if err := s.Accept(full, []uint32{0}, nil); !errors.Is(err, ErrFull) {
			t.Errorf("a lease at %d bytes: %v", s.Status().Bytes, err)
		}
	}
	must(t, s.Accept(leaseB, []uint32{0}, nil)) // is already there
	if err := s.Start(leaseA, 2); !errors.Is(err, ErrFull) {
		t.Errorf("a start at %d bytes: %v", s.Status().Bytes, err)
	}
	must(t, s.Append(result(leaseA, data, 0))) // was started
	must(t, s.Sync())
	st := s.Status()
	if st.Refused != 2 || st.Dropped != 0 || st.Leases != 2 || st.Limit != cfg.Limit {
		t.Errorf("%+v", st)
	}
	for _, r := range queued(t, s) {
		s.Ack(r.Key)
	}
	must(t, s.Sync())
	if !s.Credit() {
		t.Errorf("no credit at %d bytes", s.Status().Bytes)
	}
	must(t, s.Start(leaseA, 2))
	must(t, s.Close())
	if st, _, err := Inspect(cfg.Path); err != nil || st.Refused != 2 {
		t.Errorf("after a restart: %+v %v", st, err)
	}
}

// What is dropped is the oldest, and every target of it is in a gap.
func TestDropOldest(t *testing.T) {
	cfg := config(path(t))
	cfg.Limit, cfg.OnFull = 50_000, DropOldest
	s, _ := open(t, cfg)
	s.db.NoSync = true
	leases := []Lease{leaseA, leaseB}
	const n = 400
	all := make([]uint32, n)
	for i := range all {
		all[i] = uint32(i)
	}
	for _, l := range leases {
		must(t, s.Accept(l, all, nil))
	}
	data := strings.Repeat("x", 1000)
	for i := range n {
		for _, l := range leases {
			must(t, s.Start(l, uint32(i)))
			must(t, s.Append(result(l, fmt.Sprint(i, data), uint32(i))))
		}
		if b := s.durable.bytes; b > cfg.Limit {
			t.Fatalf("%d bytes are kept", b)
		}
	}
	rs := queued(t, s)
	kept, dropped := map[Lease][]uint32{}, map[Lease][]uint32{}
	lost := uint64(0)
	for i, r := range rs {
		if i > 0 && r.Key.Sequence <= rs[i-1].Key.Sequence {
			t.Error("out of order")
		}
		switch r.Kind {
		case KindResult:
			kept[r.Lease] = append(kept[r.Lease], r.Items...)
		case KindGap:
			dropped[r.Lease] = append(dropped[r.Lease], r.Items...)
			lost += r.Lost
		}
	}
	for _, l := range leases {
		got := append(kept[l], dropped[l]...)
		slices.Sort(got)
		if !slices.Equal(got, all) {
			t.Errorf("%v: %d kept, %d in gaps, %d in all", l, len(kept[l]), len(dropped[l]), n)
		}
		if len(kept[l]) < 10 || slices.Max(kept[l]) != n-1 || slices.Max(dropped[l]) > slices.Min(kept[l]) {
			t.Errorf("%v: not the oldest were dropped: %v", l, kept[l])
		}
	}
	st := s.Status()
	if want := uint64(2*n-len(kept[leaseA])-len(kept[leaseB])) + 1; lost != want || st.Dropped != want { // 1: the event of the start
		t.Errorf("gaps stand for %d records, the status says %d, missing are %d", lost, st.Dropped, want)
	}
	over := 0
	for _, r := range rs {
		s.Ack(r.Key)
	}
	must(t, s.Sync())
	if s.Status().Leases != 0 {
		t.Errorf("leases are not over: %+v, %d", s.Status(), over)
	}
	must(t, s.Close())
	if st, _, err := Inspect(cfg.Path); err != nil || st.Dropped != lost {
		t.Errorf("after a restart: %+v %v", st, err)
	}
}

// The file is allowed to be larger than what is in it, but not to grow for
// ever.
func TestFileSize(t *testing.T) {
	cfg := config(path(t))
	s, _ := open(t, cfg)
	defer s.Close()
	for round := range 5 {
		for i := range 2000 {
			must(t, s.Append(result(leaseA, strings.Repeat("x", 300+i%700), uint32(i))))
		}
		rs := queued(t, s)
		stored := s.Status().Bytes
		info, err := os.Stat(cfg.Path)
		must(t, err)
		t.Logf("%d bytes stored, the file has %d", stored, info.Size())
		if info.Size() > 2*stored+1<<20 {
			t.Errorf("round %d: %d bytes stored, the file has %d", round, stored, info.Size())
		}
		for _, r := range rs {
			s.Ack(r.Key)
		}
		must(t, s.Sync())
		if st := s.Status(); st.Depth != 0 || st.Bytes != 0 || st.Acked != st.Spooled {
			t.Errorf("%+v", st)
		}
	}
}
