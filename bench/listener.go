package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// listenerPort is where the listener under test is, in the lab.
const listenerPort = 7414

// listener has the attempt engine make connections with data in the SYN to the
// listener of a probe, both in this process, which is to have complete evidence
// of every one. One without ends the run with an error.
func (b *bench) listener(context.Context) error {
	ns := tfo.NetNS(b.lab.ServersNetNS())
	var all, complete, alarms atomic.Int64
	l, err := tfo.Listen(tfo.ListenConfig{
		Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), listenerPort), NetNS: ns, Keys: []tfo.Key{{1}},
		Arrived: func(a *tfo.Arrival) {
			if a.Claim == tfo.ClaimValid && a.Child == tfo.Yes && a.SynBytes > 0 && a.SynTaken == a.SynBytes && a.SYN.Raw != nil &&
				len(a.InfoAccept) > 200 && len(a.InfoFinal) > 200 && a.End == tfo.ArrivalServed {
				complete.Add(1)
			}
			all.Add(1)
		},
		Alarm: func(tfo.Alarm) { alarms.Add(1) },
	})
	if err != nil {
		return err
	}
	defer l.Close()
	targets := b.targets()
	for i := range targets {
		targets[i] = netip.AddrPortFrom(targets[i].Addr(), listenerPort)
	}
	before, err := tfo.ReadMIB(ns)
	if err != nil {
		return err
	}
	var bare atomic.Int64
	run := func(kind tfo.Kind) (time.Duration, error) {
		all.Store(0)
		complete.Store(0)
		bare.Store(0)
		d, err := b.connections(targets, kind, &bare)
		for late := time.Now().Add(10 * time.Second); all.Load() < int64(len(targets)) && time.Now().Before(late); {
			time.Sleep(time.Millisecond) // an arrival is told after its client has the response
		}
		return d, err
	}
	if _, err := run(tfo.KindRequest); err != nil {
		return err
	}
	t, err := b.inTurn(func() (time.Duration, error) {
		d, err := run(tfo.KindData)
		if n, want := complete.Load(), int64(len(targets))-bare.Load(); err == nil && n != want {
			err = fmt.Errorf("%d of %d connections have complete evidence", n, want)
		}
		return d, err
	})
	if err != nil {
		return err
	}
	after, err := tfo.ReadMIB(ns)
	if err != nil {
		return err
	}
	moved := after.Since(before)
	fmt.Printf("listener: %.0f conn/s accepted by Fast Open with complete evidence, their clients in the same process; %d Fast Open overflows, %d of the accept queue, %d alarms\n",
		float64(len(targets))/t[0], moved[tfo.CountListenOverflow], moved[tfo.CountAcceptOverflow], alarms.Load())
	return nil
}

// connections makes one connection of a kind to every target, and counts those
// whose SYN was sent again, without its data: the machine stood still for a
// second.
func (b *bench) connections(targets []netip.AddrPort, kind tfo.Kind, bare *atomic.Int64) (time.Duration, error) {
	e, err := tfo.NewEngine(tfo.Config{Concurrency: b.width, NetNS: tfo.NetNS(b.lab.ClientNetNS())})
	if err != nil {
		return 0, err
	}
	defer e.Stop()
	payload := b.payload(targets[0])
	var left sync.WaitGroup
	begin := time.Now()
	for _, t := range targets {
		left.Add(1)
		e.Start(&one{remote: t, kind: kind, payload: payload, bare: bare, over: left.Done})
	}
	left.Wait()
	return time.Since(begin), nil
}

// one is the sequence of one connection.
type one struct {
	remote  netip.AddrPort
	kind    tfo.Kind
	payload measure.Payload
	bare    *atomic.Int64
	over    func()
}

func (o *one) Remote() netip.AddrPort { return o.remote }

func (o *one) Next(last *tfo.Evidence) (tfo.Attempt, bool) {
	if last != nil && last.SynRetransmits > 0 {
		o.bare.Add(1)
	}
	return tfo.Attempt{Kind: o.kind, Payload: o.payload.Bytes, Complete: o.payload.Complete, Timeout: 5 * time.Second}, last == nil
}

func (o *one) Over(bool) { o.over() }
