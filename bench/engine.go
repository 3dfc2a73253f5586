package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// ladderRounds are the connections the standard plan makes to a healthy
// target: plain, request, data, data, plain.
var ladderRounds = []bool{true, false, false, false, true}

// engine compares the attempt engine, evidence complete, with the bare loop
// over the same connections. The bare loop runs once on one thread and once on
// as many as the engine has; the ratio is against the faster.
func (b *bench) engine(context.Context) error {
	targets := b.targets()
	payload := b.payload(targets[0]).Bytes
	bare := func(loops int) func() (time.Duration, error) {
		return func() (time.Duration, error) { return bareRun(b.lab.ClientNetNS(), targets, payload, loops, b.width) }
	}
	t, err := b.inTurn(bare(1), bare(2), func() (time.Duration, error) {
		d, _, err := b.attempts(targets, tfo.Config{})
		return d, err
	})
	if err != nil {
		return err
	}
	conns := float64(len(targets) * len(ladderRounds))
	best := min(t[0], t[1])
	fmt.Printf("engine: %.0f conn/s with complete evidence; bare loop %.0f conn/s on one thread, %.0f on two; ratio %.2f\n",
		conns/t[2], conns/t[0], conns/t[1], best/t[2])
	return nil
}

func (b *bench) payload(t netip.AddrPort) measure.Payload {
	return measure.PayloadFor(measure.PayloadHTTP, nil, measure.Target{Addr: t.Addr(), Port: t.Port()})
}

// attempts makes the ladder's connections through the attempt engine and
// checks that every one has its evidence, that of the wire included unless it
// is switched off.
func (b *bench) attempts(targets []netip.AddrPort, cfg tfo.Config) (time.Duration, tfo.CaptureStats, error) {
	cfg.Concurrency, cfg.NetNS = b.width, tfo.NetNS(b.lab.ClientNetNS())
	e, err := tfo.NewEngine(cfg)
	if err != nil {
		return 0, tfo.CaptureStats{}, err
	}
	defer e.Stop()
	payload := b.payload(targets[0])
	var left, bad atomic.Int64
	left.Store(int64(len(targets)))
	done := make(chan struct{})
	begin := time.Now()
	for _, t := range targets {
		e.Start(&rounds{remote: t, payload: payload, wire: cfg.Capture != tfo.CaptureOff, over: func(complete bool) {
			if !complete {
				bad.Add(1)
			}
			if left.Add(-1) == 0 {
				close(done)
			}
		}})
	}
	<-done
	d := time.Since(begin)
	if bad.Load() > 0 {
		return d, e.Capture(), fmt.Errorf("%d of %d targets without complete evidence", bad.Load(), len(targets))
	}
	return d, e.Capture(), nil
}

// rounds is the sequence of ladderRounds.
type rounds struct {
	remote   netip.AddrPort
	payload  measure.Payload
	wire     bool // facts from the wire are part of the evidence
	over     func(complete bool)
	n        int
	bad      bool
	evidence []tfo.Evidence // kept until the end, as a measurement keeps it
}

func (r *rounds) Remote() netip.AddrPort { return r.remote }

func (r *rounds) Next(last *tfo.Evidence) (tfo.Attempt, bool) {
	if last != nil {
		r.bad = r.bad || !complete(last) || r.wire && !seen(last)
		r.evidence = append(r.evidence, *last)
		r.n++
	}
	if r.n == len(ladderRounds) {
		return tfo.Attempt{}, false
	}
	a := tfo.Attempt{Kind: tfo.KindData, Payload: r.payload.Bytes, Complete: r.payload.Complete, Timeout: 5 * time.Second}
	if ladderRounds[r.n] {
		a.Kind = tfo.KindPlain
	} else if r.n == 1 {
		a.Kind, a.ClearCookie = tfo.KindRequest, true
	}
	return a, true
}

func (r *rounds) Over(bool) { r.over(!r.bad) }

// seen reports whether the wire showed SYN and SYN-ACK, and nothing was lost.
func seen(ev *tfo.Evidence) bool {
	w := ev.Wire
	return w != nil && w.Syns > 0 && w.SynAcks > 0 && !w.Incomplete && w.Acked == ev.SynAcked
}

// complete reports whether nothing is missing that the kernel had to show.
func complete(ev *tfo.Evidence) bool {
	ok := ev.End == tfo.EndResponse && len(ev.InfoHandshake) > 200 && len(ev.InfoFinal) > 200 && ev.ConnectNS > 0 && ev.FirstByteNS > 0 &&
		ev.Local.IsValid() && ev.CookieBefore.State != tfo.CookieNotRead && ev.CookieAfter.State != tfo.CookieNotRead && ev.ResponseBytes > 0
	if ev.SynRetransmits > 0 || ev.Kind == tfo.KindData && ev.CookieBefore.State == tfo.CookieNone {
		// The machine stood still for a second and the SYN timed out; so it was
		// sent bare, and brought no cookie. The evidence says so.
		return ok
	}
	switch ev.Kind {
	case tfo.KindRequest:
		return ok && ev.CookieCleared == tfo.Yes && ev.CookieBefore.State == tfo.CookieNone && ev.CookieAfter.State == tfo.CookiePresent
	case tfo.KindData:
		return ok && ev.SynBytes == ev.Offered && ev.SynAcked == ev.SynBytes
	}
	return ok
}
