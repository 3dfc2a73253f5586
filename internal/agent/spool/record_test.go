package spool

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sampleRecords() []Record {
	at := time.Unix(1763000000, 123456789)
	return []Record{
		{},
		{Time: at, Kind: KindResult, Lease: leaseA, Items: []uint32{0, 1, 2, 8191, maxIndex - 1}, Data: []byte("data")},
		{Time: at, Kind: KindEvent, Data: Event{EventClockJump, "by 3 s"}.Data()},
		{Time: at, Kind: KindGap, Lease: Lease{"s", math.MaxUint32, math.MaxUint64}, Items: []uint32{5}, Lost: math.MaxUint64},
		{Time: time.Unix(0, math.MinInt64), Kind: 255, Lease: Lease{Survey: "\xff\x00"}},
	}
}

func TestRecordRoundTrip(t *testing.T) {
	for _, want := range sampleRecords() {
		var got Record
		if err := got.unmarshal(want.marshal()); err != nil {
			t.Errorf("%+v: %v", want, err)
			continue
		}
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b time.Time) bool { return a.UnixNano() == b.UnixNano() }), cmp.Transformer("empty", func(b []byte) string { return string(b) }), cmp.Transformer("none", func(b []uint32) []uint32 { return append([]uint32{}, b...) })); d != "" {
			t.Error(d)
		}
	}
}

// Every byte counts.
func TestRecordDamage(t *testing.T) {
	good := sampleRecords()[1].marshal()
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if err := new(Record).unmarshal(bad); err == nil {
			t.Errorf("byte %d was changed and nobody noticed", i)
		}
		if err := new(Record).unmarshal(good[:i]); err == nil {
			t.Errorf("%d bytes of %d, and nobody noticed", i, len(good))
		}
	}
}

// FuzzRecord decodes any bytes under a right checksum: what comes out, goes
// back in and comes out the same.
func FuzzRecord(f *testing.F) {
	for _, r := range sampleRecords() {
		b := r.marshal()
		f.Add(b[:len(b)-4])
	}
	f.Add([]byte{})
	f.Add([]byte{recordVersion + 1, 1, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x7f, 0})                                     // a long name
	f.Add([]byte{1, 1, 0, 0, 0, 0, 0, 3, 1, 0, 1})                                              // items out of order
	f.Add([]byte{1, 1, 0, 0, 0, 0, 0, 2, 0xff, 0xff, 0x03, 1})                                  // beyond the last index
	f.Add([]byte{1, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 0, 0, 0}) // a number of 11 bytes
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again Record
		if err := r.unmarshal(seal(bytes.Clone(b))); err != nil {
			return
		}
		for i, item := range r.Items {
			if item >= maxIndex || i > 0 && item <= r.Items[i-1] {
				t.Fatalf("items %v", r.Items)
			}
		}
		if err := again.unmarshal(r.marshal()); err != nil || !cmp.Equal(r, again) {
			t.Fatalf("%+v became %+v: %v", r, again, err)
		}
	})
}

// FuzzValues decodes the other values of the file.
func FuzzValues(f *testing.F) {
	f.Add([]byte{})
	f.Add(offerBytes(set{1, 2}, []byte("offer")))
	f.Add(rejectedBytes(time.Unix(1, 0), "reason", sampleRecords()[1].marshal()))
	f.Add([]byte{2, 0xff, 0xff})
	f.Add([]byte{0x80, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		leaseOf(b)
		for _, v := range [][]byte{b, seal(bytes.Clone(b))} {
			if targets, offer, err := parseOffer(v); err == nil {
				l := &lease{targets: targets, started: newSet(8 * len(targets)), settled: newSet(8 * len(targets))}
				again, same, err := parseOffer(offerBytes(targets, offer))
				if err != nil || !bytes.Equal(again, targets) || !bytes.Equal(same, offer) {
					t.Errorf("%x became %x %x: %v", v, again, same, err)
				}
				if err := l.setMarks(l.marks()); err != nil {
					t.Error(err)
				}
				l.setMarks(v)
			}
			rejectedOf([]byte("12345678"), v)
			rejectedOf(b, v)
			var r run
			unsealJSON(v, &r)
		}
	})
}

func TestEvent(t *testing.T) {
	seen := map[string]bool{}
	for k := EventStart; k <= EventSelfTest; k++ {
		e := Event{k, "détail"}
		if got, err := ParseEvent(e.Data()); err != nil || got != e {
			t.Errorf("%v became %v: %v", e, got, err)
		}
		seen[k.String()] = true
	}
	if len(seen) != int(EventSelfTest) {
		t.Errorf("names: %v", seen)
	}
	for _, bad := range [][]byte{nil, {0}, {0, 'x'}} {
		if _, err := ParseEvent(bad); err == nil {
			t.Errorf("%v is no event", bad)
		}
	}
	if e, err := ParseEvent([]byte{200}); err != nil || e.Kind.String() != "event 200" || Kind(9).String() != "kind 9" {
		t.Error("what a newer probe says passes")
	}
}

func TestSet(t *testing.T) {
	s := newSet(20)
	for _, i := range []uint32{0, 7, 8, 19, 19} {
		s.add(i)
	}
	if got := s.list(func(i uint32) bool { return i != 8 }); !cmp.Equal(got, []uint32{0, 7, 19}) {
		t.Error(got)
	}
	if s.has(1) || !s.has(19) || s.has(5000) {
		t.Error("has")
	}
	all := newSet(20)
	if s.covers(all) != true || all.covers(s) {
		t.Error("covers")
	}
}
