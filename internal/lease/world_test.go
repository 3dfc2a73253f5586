package lease

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
	"tfofleet/internal/measure"
)

// world is a chunk, its controller and some probes that keep to the rules,
// over a network that loses, repeats and reorders what they say.
type world struct {
	t      *rapid.T
	r      Rules
	now    time.Time
	frozen time.Time
	s      State
	probes map[string]*worldProbe
	wires  []Event // on their way to the controller
	acks   []ack   // and to the probes

	starts map[uint32]int // how often an item was started, in all
	marked map[uint32]int // how often as one that may have been
}

// ack: the controller has heard what a probe said it may start.
type ack struct {
	probe string
	life  int
	Renew
}

// worldProbe holds at most one lease.
type worldProbe struct {
	life    int // counts its processes
	epoch   uint64
	said    int      // items before this index it said it may start
	may     int      // and it knows that it was heard
	items   []uint32 // not begun
	running []uint32
	unacked []Results
	sent    State // as it was when the lease was sent
}

func (w *world) step(e Event) {
	next, effects := w.r.Step(w.s, w.now, e)
	w.s = next
	for _, f := range effects {
		switch f {
		case Send:
			if w.coin("lose lease") {
				continue
			}
			p := w.probes[next.Probe]
			*p = worldProbe{life: p.life, epoch: next.Epoch, sent: next, unacked: p.unacked}
			for i, item := range next.Items {
				if item.Out() {
					p.items = append(p.items, uint32(i))
				}
			}
			w.say(Accept{next.Probe, next.Epoch, 0})
		case Drop:
			epoch, probe, _ := sender(e)
			if p := w.probes[probe]; p.epoch == epoch {
				p.epoch, p.items, p.running = 0, nil, nil
			}
		case Stop:
			if !w.coin("lose stop") {
				p := w.probes[next.Probe]
				if p.epoch == next.Epoch {
					w.report(next.Probe, p, nil, p.items)
					p.items = nil
				}
			}
		case Reject:
			w.t.Fatalf("%T%+v was rejected", e, e)
		}
	}
	if r, ok := e.(Renew); ok && !slices.Contains(effects, Drop) {
		w.acks = append(w.acks, ack{r.Probe, w.probes[r.Probe].life, r})
	}
	if r, ok := e.(Results); ok {
		// The ack.
		p := w.probes[r.Probe]
		if !w.coin("lose ack") {
			p.unacked = slices.DeleteFunc(p.unacked, func(u Results) bool {
				return u.Epoch == r.Epoch && slices.Equal(u.Items, r.Items) && slices.Equal(u.Returned, r.Returned)
			})
		}
	}
}

func (w *world) coin(what string) bool { return rapid.IntRange(0, 3).Draw(w.t, what) == 0 }

func (w *world) say(e Event) { w.wires = append(w.wires, e) }

func (w *world) report(name string, p *worldProbe, items []ItemResult, back []uint32) {
	r := Results{Probe: name, Epoch: p.epoch, Items: items, Returned: back}
	p.unacked = append(p.unacked, r)
	w.say(r)
}

// hello is the full state that a probe sends on every connect.
func (w *world) hello(name string) {
	p := w.probes[name]
	w.step(StreamLost{name})
	w.renew(name, w.step)
	if w.s.holder(w.s.Epoch) == name && (p.epoch == 0 || p.epoch != w.s.Epoch) {
		w.step(Forgotten{name})
	}
	for _, u := range slices.Clone(p.unacked) {
		w.say(u)
	}
}

// renew says what is held and what may be started of it.
func (w *world) renew(name string, say func(Event)) {
	p := w.probes[name]
	if p.epoch == 0 {
		return
	}
	p.said = max(p.said, rapid.IntRange(0, len(w.s.Items)).Draw(w.t, "may start"))
	say(Renew{name, p.epoch, p.said, 0})
}

// move lets something happen.
func (w *world) move() {
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(w.t, "who")
	p := w.probes[name]
	switch rapid.IntRange(0, 13).Draw(w.t, "move") {
	case 0, 1, 2: // a message arrives, or is lost, or arrives twice
		if len(w.wires) == 0 {
			return
		}
		i := rapid.IntRange(0, len(w.wires)-1).Draw(w.t, "message")
		e := w.wires[i]
		if !w.coin("twice") {
			w.wires = slices.Delete(w.wires, i, i+1)
		}
		if !w.coin("lose") {
			w.step(e)
		}
	case 3, 4: // the probe begins one
		if len(p.items) > 0 && int(p.items[0]) < p.may {
			w.starts[p.items[0]]++
			if p.sent.Items[p.items[0]].Again() {
				w.marked[p.items[0]]++
			}
			p.running = append(p.running, p.items[0])
			p.items = p.items[1:]
		}
	case 5, 6: // and finishes one
		if len(p.running) > 0 {
			w.report(name, p, []ItemResult{{p.running[0], Result(Measured, measure.Verdict(p.epoch%MaxVerdict))}}, nil)
			p.running = p.running[1:]
		}
		if p.epoch != 0 && len(p.running)+len(p.items)+len(p.unacked) == 0 {
			p.epoch = 0
		}
	case 7:
		w.hello(name)
	case 8: // its process dies; it has no journal
		*p = worldProbe{life: p.life + 1}
		w.wires = slices.DeleteFunc(w.wires, func(e Event) bool { _, who, _ := sender(e); return who == name })
		w.hello(name)
	case 9:
		w.now = w.now.Add(w.r.TTL)
		w.step(Expire{w.frozen})
	case 10:
		w.step(Offer{name, fmt.Sprint(w.probes[name].life)})
	case 11: // a heartbeat
		w.renew(name, w.say)
	case 12, 13: // its answer arrives, or is lost, however late
		if len(w.acks) == 0 {
			return
		}
		i := rapid.IntRange(0, len(w.acks)-1).Draw(w.t, "ack")
		a := w.acks[i]
		w.acks = slices.Delete(w.acks, i, i+1)
		if p := w.probes[a.probe]; !w.coin("lose") && p.life == a.life && p.epoch == a.Epoch {
			p.may = max(p.may, a.Taken)
		}
	}
}

// TestWorldEnds: whatever was lost on the way, a chunk comes to its end once
// the network works, and nothing that was started is started again, unless the
// survey asks for it, and then not without the mark.
func TestWorldEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{
			t: t, r: rules, now: start, s: New(rapid.IntRange(1, 5).Draw(t, "items")),
			probes: map[string]*worldProbe{"a": {}, "b": {}},
			starts: map[uint32]int{}, marked: map[uint32]int{},
		}
		w.r.Repeat = rapid.Bool().Draw(t, "repeat")
		w.r.MaxOffers = 1000
		for range rapid.IntRange(0, 80).Draw(t, "moves") {
			w.move()
		}
		for i, n := range w.starts {
			if n > 1 && (!w.r.Repeat || n > 1+w.marked[i]) {
				t.Fatalf("item %d was started %d times, %d of them marked", i, n, w.marked[i])
			}
		}
		for range 100 {
			w.calm()
			if w.s.Phase.Over() {
				break
			}
		}
		if w.s.Phase != Done {
			t.Fatalf("never ended: %+v, probes %+v %+v", w.s, *w.probes["a"], *w.probes["b"])
		}
		for i, item := range w.s.Items {
			if w.r.Repeat && item.Outcome() != Measured {
				t.Errorf("item %d is %v, want measured", i, item.Outcome())
			}
			if o := item.Outcome(); o != Measured && o != Interrupted {
				t.Errorf("item %d is %v, nobody said so", i, o)
			}
		}
	})
}

// calm is a round in which everything works.
func (w *world) calm() {
	for _, name := range []string{"a", "b"} {
		p := w.probes[name]
		for _, i := range slices.Concat(p.running, p.items) {
			w.report(name, p, []ItemResult{{i, Result(Measured, 1)}}, nil)
		}
		p.running, p.items = nil, nil
		for len(w.wires) > 0 {
			e := w.wires[0]
			w.wires = w.wires[1:]
			w.step(e)
		}
		if len(p.unacked) == 0 {
			p.epoch = 0
		}
		w.hello(name)
		w.step(Offer{name, fmt.Sprint(w.probes[name].life)})
	}
	w.now = w.now.Add(w.r.TTL)
	w.step(Expire{w.frozen})
}
