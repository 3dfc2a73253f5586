package tfo_test

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tfofleet/internal/tfo"
)

// door accepts connections on all loopback addresses, and counts them.
type door struct {
	port  uint16
	count atomic.Int64
}

func newDoor(t *testing.T) *door {
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	d := &door{port: l.Addr().(*net.TCPAddr).AddrPort().Port()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.count.Add(1)
			c.Write([]byte("hello"))
			c.Close()
		}
	}()
	return d
}

func (d *door) at(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, byte(i >> 8), byte(i)}), d.port)
}

// visit is a sequence of plain attempts.
type visit struct {
	remote   netip.AddrPort
	attempts int
	delay    time.Duration // before all but the first
	made     int
	over     func(cut bool)
}

func (v *visit) Remote() netip.AddrPort { return v.remote }
func (v *visit) Over(cut bool)          { v.over(cut) }
func (v *visit) Next(last *tfo.Evidence) (tfo.Attempt, bool) {
	a := tfo.Attempt{Kind: tfo.KindPlain, Payload: request, Timeout: 10 * time.Second}
	if last != nil {
		v.made++
		a.Delay = v.delay
	}
	return a, v.made < v.attempts
}

func slowEngine(t *testing.T, rate float64) *tfo.Engine {
	e, err := tfo.NewEngine(tfo.Config{Rate: rate, Concurrency: 64, Shards: 2, Capture: tfo.CaptureOff})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	return e
}

// TestSetRateRaises: who waits for a slot of the old rate takes one of the new,
// whether it has begun or not.
func TestSetRateRaises(t *testing.T) {
	d := newDoor(t)
	e := slowEngine(t, 0)
	var wg, begun sync.WaitGroup
	start := func(i, attempts int) {
		wg.Add(1)
		e.Start(&visit{remote: d.at(i), attempts: attempts, delay: 50 * time.Millisecond, over: func(bool) { wg.Done() }})
	}
	begun.Add(10)
	for i := range 10 {
		wg.Add(1)
		first := true
		e.Start(&watched{visit{remote: d.at(1 + i), attempts: 2, delay: 50 * time.Millisecond, over: func(bool) { wg.Done() }}, func() {
			if !first {
				begun.Done()
			}
			first = false
		}})
	}
	begun.Wait()     // all of them rest before their second attempt
	e.SetRate(0.001) // one in a quarter of an hour
	for i := range 50 {
		start(100+i, 1)
	}
	time.Sleep(100 * time.Millisecond) // so that they wait for their slots; without, less is tested
	if n := d.count.Load(); n > 15 {
		t.Errorf("%d connections, though the rate is next to nothing", n)
	}
	e.SetRate(0)
	wg.Wait()
	if n := d.count.Load(); n != 70 {
		t.Errorf("%d connections, want 70", n)
	}
}

// watched tells when Next is asked.
type watched struct {
	visit
	asked func()
}

func (w *watched) Next(last *tfo.Evidence) (tfo.Attempt, bool) {
	a, more := w.visit.Next(last)
	if more {
		w.asked()
	}
	return a, more
}

// TestSetRateLowers: from the moment it returns, no more than the new rate.
func TestSetRateLowers(t *testing.T) {
	d := newDoor(t)
	e := slowEngine(t, 1e6)
	e.SetRate(50)
	e.SetRate(50) // the same again gives nobody a new burst
	begun := time.Now()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Add(1)
		e.Start(&visit{remote: d.at(1 + i), attempts: 1, over: func(bool) { wg.Done() }})
	}
	wg.Wait()
	// 16 slots of 20 ms, the first at once, with 10 ms caught up.
	if took := time.Since(begun); took < 290*time.Millisecond {
		t.Errorf("16 connections at 50 per second took %v", took)
	}
	e.Stop()
	e.SetRate(1)
}

// gated asks before every SYN.
type gated struct {
	visit
	permit func() bool
}

func (g *gated) Permit() bool { return g.permit() }

// TestGate: a SYN that is not permitted does not leave, in the middle of a
// sequence as well as at its beginning, and its sequence is cut.
func TestGate(t *testing.T) {
	d := newDoor(t)
	e := slowEngine(t, 0)
	cut := make(chan bool, 1)
	var asked int
	g := &gated{visit{remote: d.at(1), attempts: 5, delay: time.Millisecond, over: func(c bool) { cut <- c }}, func() bool { asked++; return asked <= 2 }}
	e.Start(g)
	if !<-cut || g.made != 2 || asked != 3 || d.count.Load() != 2 {
		t.Errorf("%d attempts, %d connections, asked %d times", g.made, d.count.Load(), asked)
	}
	// So many that a call for each, one within the other, would not end well.
	const many = 200_000
	var wg sync.WaitGroup
	wg.Add(many)
	var wasCut atomic.Int64
	for i := range many {
		e.Start(&gated{visit{remote: d.at(2 + i%1000), attempts: 1, over: func(c bool) {
			if c {
				wasCut.Add(1)
			}
			wg.Done()
		}}, func() bool { return false }})
	}
	wg.Wait()
	if wasCut.Load() != many || d.count.Load() != 2 {
		t.Errorf("%d of %d cut, %d connections", wasCut.Load(), many, d.count.Load())
	}
	// The address is free again.
	e.Start(&visit{remote: d.at(1), attempts: 1, over: func(c bool) { cut <- c }})
	if <-cut || d.count.Load() != 3 {
		t.Error("nothing goes any more")
	}
}
