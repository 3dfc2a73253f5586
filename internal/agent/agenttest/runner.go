// Package agenttest has a Runner that opens no connection: it shows what its
// script says, keeps to the contract of a real one, and counts.
package agenttest

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// Runner is a scripted agent.Runner. Set the fields before its first use.
type Runner struct {
	// Concurrency is how many targets are under way at a time; 0 means 1.
	Concurrency int
	// Script is what comes out; nil means Healthy. The outcome is measured.
	Script func(measure.Target) measure.Measurement
	// Took is how long it takes; nil means no time.
	Took func(measure.Target) time.Duration
	// Permit, if set, is asked before every attempt that comes out, as by
	// measure.Runner.
	Permit func(measure.Target) (measure.Condition, bool)

	once sync.Once
	wg   sync.WaitGroup
	stop chan struct{}
	wake *sync.Cond

	mu    sync.Mutex
	queue []job
	ended bool
	count Counts
}

// Counts is what happened to a Runner.
type Counts struct {
	Submitted   int
	Started     map[netip.AddrPort]int
	Running     int
	MostRunning int
	Interrupted int
	NeverBegun  int // came back with Outcome 0
	Rates       []float64
}

type job struct {
	t     measure.Target
	begun func()
	done  func(measure.Measurement)
}

func (r *Runner) start() {
	r.once.Do(func() {
		r.stop = make(chan struct{})
		r.wake = sync.NewCond(&r.mu)
		r.count.Started = make(map[netip.AddrPort]int)
		for range max(1, r.Concurrency) {
			r.wg.Go(r.work)
		}
	})
}

// Submit implements agent.Runner.
func (r *Runner) Submit(t measure.Target, begun func(), done func(measure.Measurement)) {
	r.start()
	r.mu.Lock()
	r.count.Submitted++
	if r.ended {
		r.count.NeverBegun++
		r.mu.Unlock()
		done(measure.Measurement{Target: t})
		return
	}
	r.queue = append(r.queue, job{t, begun, done})
	r.mu.Unlock()
	r.wake.Signal()
}

// SetRate implements agent.Runner. The rate is noted and not kept.
func (r *Runner) SetRate(rate float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count.Rates = append(r.count.Rates, rate)
}

// Stop implements agent.Runner.
func (r *Runner) Stop() {
	r.start()
	r.mu.Lock()
	if r.ended {
		r.mu.Unlock()
		return
	}
	r.ended = true
	left := r.queue
	r.queue = nil
	r.count.NeverBegun += len(left)
	r.mu.Unlock()
	close(r.stop)
	r.wake.Broadcast()
	for _, j := range left {
		j.done(measure.Measurement{Target: j.t})
	}
	r.wg.Wait()
}

// Counts is what happened so far.
func (r *Runner) Counts() Counts {
	r.start()
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.count
	c.Rates = slices.Clone(r.count.Rates)
	c.Started = make(map[netip.AddrPort]int, len(r.count.Started))
	for k, v := range r.count.Started {
		c.Started[k] = v
	}
	return c
}

func (r *Runner) work() {
	for {
		r.mu.Lock()
		for len(r.queue) == 0 && !r.ended {
			r.wake.Wait()
		}
		if r.ended {
			r.mu.Unlock()
			return
		}
		j := r.queue[0]
		r.queue = r.queue[1:]
		r.count.Started[netip.AddrPortFrom(j.t.Addr, j.t.Port)]++
		r.count.Running++
		r.count.MostRunning = max(r.count.MostRunning, r.count.Running)
		r.mu.Unlock()

		j.begun()
		m := r.one(j.t)

		r.mu.Lock()
		r.count.Running--
		if m.Outcome == measure.OutcomeInterrupted {
			r.count.Interrupted++
		}
		r.mu.Unlock()
		j.done(m)
	}
}

func (r *Runner) one(t measure.Target) measure.Measurement {
	if r.Took != nil {
		if d := r.Took(t); d > 0 {
			timer := time.NewTimer(d)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.stop:
				return measure.Measurement{Target: t, Outcome: measure.OutcomeInterrupted}
			}
		}
	}
	script := r.Script
	if script == nil {
		script = Healthy
	}
	m := script(t)
	m.Target, m.Outcome = t, measure.OutcomeMeasured
	for i := range m.Attempts {
		if r.Permit == nil {
			break
		}
		why, ok := r.Permit(t)
		switch {
		case ok:
		case i == 0:
			return measure.Measurement{Target: t, Outcome: measure.OutcomeRefused, Verdict: measure.Inconclusive, Conditions: []measure.Condition{why}}
		default:
			return measure.Measurement{Target: t, Outcome: measure.OutcomeInterrupted, Conditions: []measure.Condition{why}, Attempts: m.Attempts[:i]}
		}
	}
	return m
}

// Healthy is a measurement as a target that supports Fast Open gives it: five
// attempts, each with two raw struct tcp_info of Linux 6.18.
func Healthy(t measure.Target) measure.Measurement {
	now := time.Now()
	cookie := binary.BigEndian.AppendUint64(nil, t.Item*0x9e3779b97f4a7c15)
	m := measure.Measurement{
		Target: t, Outcome: measure.OutcomeMeasured, Verdict: measure.Supported, Cookie: cookie,
		Conditions: []measure.Condition{measure.CondWorks, measure.CondCookieReceived, measure.CondSynDataAcked},
		Started:    now.Round(0), Duration: 70 * time.Millisecond,
		Attempts: make([]tfo.Evidence, 0, 5),
	}
	local := netip.MustParseAddr("192.0.2.1")
	for i, kind := range []tfo.Kind{tfo.KindPlain, tfo.KindRequest, tfo.KindData, tfo.KindData, tfo.KindPlain} {
		rtt := 12e6 + rand.Int64N(5e6)
		e := tfo.Evidence{
			Kind: kind, Start: now.Add(time.Duration(i) * 14 * time.Millisecond).Round(0),
			Local: netip.AddrPortFrom(local, uint16(32768+rand.IntN(28000))), Remote: netip.AddrPortFrom(t.Addr, t.Port),
			Offered: 220, SynAcked: tfo.NotKnown, End: tfo.EndResponse,
			ConnectNS: rtt, FirstByteNS: 2 * rtt, TotalNS: 2*rtt + 40e3,
			TCPIOptions: 7, ResponseBytes: 1448, ResponseHash: rand.Uint64(),
			InfoHandshake: info(rtt, 1), InfoFinal: info(rtt, 1448), CookieCleared: tfo.Yes,
			CookieBefore: tfo.Cookie{State: tfo.CookieNone}, CookieAfter: tfo.Cookie{State: tfo.CookieNone},
			WireAbsent: "capture is off",
		}
		if kind != tfo.KindPlain {
			e.OptionKind = tfo.OptionKindTFO
			e.CookieAfter = tfo.Cookie{State: tfo.CookiePresent, Bytes: cookie}
		}
		if kind == tfo.KindData {
			e.SynBytes, e.SynAcked, e.CookieBefore, e.TCPIOptions, e.CookieCleared = 220, 220, e.CookieAfter, 39, tfo.NotTried
		}
		m.Attempts = append(m.Attempts, e)
	}
	return m
}

// infoSize is sizeof(struct tcp_info) in Linux 6.18.
const infoSize = 280

// info is a struct tcp_info in which what differs between connections differs.
func info(rtt int64, received uint64) []byte {
	b := make([]byte, infoSize)
	copy(b, []byte{1, 0, 0, 0, 0, 7, 0x77, 0})
	put := func(at int, v uint32) { binary.NativeEndian.PutUint32(b[at:], v) }
	put(8, 204000)                               // rto
	put(16, 1448)                                // snd_mss
	put(20, 536)                                 // rcv_mss
	put(60, 1500)                                // pmtu
	put(68, uint32(rtt/1000))                    // rtt
	put(72, uint32(rtt/2000))                    // rttvar
	put(80, 10)                                  // snd_cwnd
	put(84, 1448)                                // advmss
	put(100, 64076)                              // rcv_space
	put(148, uint32(rtt/1000)+rand.Uint32N(900)) // min_rtt
	binary.NativeEndian.PutUint64(b[104:], rand.Uint64N(1<<24))
	binary.NativeEndian.PutUint64(b[128:], received)
	put(136, rand.Uint32N(8))
	return b
}
