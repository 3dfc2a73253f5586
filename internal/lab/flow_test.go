package lab

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func key(i int) flowKey {
	return flowKey{client: addrKey{1}, server: addrKey{2, byte(i >> 16)}, clientPort: uint16(i), serverPort: 80}
}

func backKey(i int) flowKey {
	k := key(i)
	k.serverPort = 10001
	return k
}

// TestFlowTableForgets: flows that are over leave, live ones stay, and the
// table does not grow with the number of flows ever seen.
func TestFlowTableForgets(t *testing.T) {
	table := newFlowTable(func() { t.Error("evicted a flow with room left") })
	now := int64(0)
	live := table.open(key(0), now)
	table.bind(live, backKey(0))
	const perSecond = 10000
	most := 0
	for i := 1; i < 30*perSecond; i++ {
		now = int64(i) * int64(time.Second) / perSecond
		live.seen = now
		f := table.open(key(i), now)
		table.bind(f, backKey(i))
		f.sawFlags(Forward, flagFIN)
		if f.closed {
			t.Fatal("closed after one FIN")
		}
		f.sawFlags(Return, flagFIN|flagACK)
		most = max(most, len(table.clock))
	}
	if most > 3*perSecond {
		t.Errorf("held %d flows at %d a second that live for one", most, perSecond)
	}
	if table.forward[key(0)] != live || table.back[backKey(0)] != live {
		t.Error("forgot a live flow")
	}
	if len(table.forward) != len(table.clock) || len(table.back) != len(table.clock) {
		t.Errorf("%d flows, %d forward, %d back", len(table.clock), len(table.forward), len(table.back))
	}
}

// TestFlowTableIsBounded: with nothing over, the oldest go and are counted.
func TestFlowTableIsBounded(t *testing.T) {
	evicted := 0
	table := newFlowTable(func() { evicted++ })
	const extra = 1000
	for i := range maxFlows + extra {
		table.bind(table.open(key(i), 0), backKey(i))
	}
	if len(table.clock) > maxFlows || evicted < extra {
		t.Errorf("%d flows, %d evicted", len(table.clock), evicted)
	}
}

// TestFlowNamesAreNotStolen: when the ports are used again at once, removing
// the old flow leaves the new one's names.
func TestFlowNamesAreNotStolen(t *testing.T) {
	table := newFlowTable(func() {})
	old := table.open(key(1), 0)
	table.bind(old, backKey(1))
	old.closed = true
	table.remove(old)
	f := table.open(key(1), 1)
	table.bind(f, backKey(1))
	for range 10 { // the circle comes round to the old one
		table.open(key(2), 10*int64(time.Second))
		f.seen = 10 * int64(time.Second)
	}
	if table.forward[key(1)] != f || table.back[backKey(1)] != f {
		t.Error("the new flow lost its names")
	}
}

func TestHostMarksAreBounded(t *testing.T) {
	h := &host{marked: map[addrKey]int64{}}
	for i := range 10 * maxHostMarked {
		h.mark(addrKey{byte(i), byte(i >> 8)}, 1)
	}
	if len(h.marked) > maxHostMarked {
		t.Errorf("%d marked", len(h.marked))
	}
}

// TestDelayQueue compares the heap with a stable sort.
func TestDelayQueue(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	var q delayQueue
	type item struct {
		due int64
		n   byte
	}
	var want []item
	for n := range 200 {
		it := item{r.Int64N(50), byte(n)}
		want = append(want, it)
		if !q.push(it.due, nil, []byte{it.n}) {
			t.Fatal("no room")
		}
	}
	slices.SortStableFunc(want, func(a, b item) int { return int(a.due - b.due) })
	for now := int64(0); now < 50; now++ {
		for d := q.pop(now); d != nil; d = q.pop(now) {
			if d.b[0] != want[0].n || d.due != want[0].due {
				t.Fatalf("got %d at %d, want %+v (seed %d)", d.b[0], now, want[0], seed)
			}
			want = want[1:]
			q.recycle(d)
		}
		if len(want) > 0 && want[0].due <= now {
			t.Fatalf("%+v is late at %d (seed %d)", want[0], now, seed)
		}
	}
	for range maxDelayed {
		q.push(0, nil, nil)
	}
	if q.push(0, nil, nil) {
		t.Error("not bounded")
	}
}

// FuzzApps: no application of a server panics or keeps more than it was given.
func FuzzApps(f *testing.F) {
	for _, s := range []string{"H", "HEAD / HTTP/1.0\r\n\r\n", "\x16\x03\x01\x00\x05hello", "\x16", "\x00\x00", "\x00\x01a", "\xff\xff"} {
		f.Add([]byte(s))
	}
	names := newNames(nil, true)
	f.Fuzz(func(t *testing.T, req []byte) {
		if len(req) == 0 {
			return
		}
		for _, app := range []App{HTTP, TLS, DNS, Silent, Hangup} {
			if _, rest, over := reply(app, req, names); len(rest) > len(req) || over && len(rest) > 0 {
				t.Errorf("%s: %d of %d bytes kept, over %v", app, len(rest), len(req), over)
			}
		}
	})
}

// FuzzNames: whatever is asked, the resolver does not panic, and answers only
// queries.
func FuzzNames(f *testing.F) {
	f.Add([]byte("\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05clean\x03lab\x00\x00\x01\x00\x01"))
	f.Add([]byte("\x00\x07\x81\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05clean\x03lab\x00\x00\x1c\x00\x01"))
	f.Add([]byte{})
	paths, err := place([]Path{{Name: "clean", Servers: []Server{{App: HTTP}}}})
	if err != nil {
		f.Fatal(err)
	}
	names := newNames(paths, true)
	f.Fuzz(func(t *testing.T, q []byte) {
		a := names.answer(q)
		if a == nil {
			return
		}
		if len(a) < 12 || a[0] != q[0] || a[1] != q[1] || a[2]&0x80 == 0 || q[2]&0x80 != 0 {
			t.Errorf("answered %x with %x", q, a)
		}
	})
}
