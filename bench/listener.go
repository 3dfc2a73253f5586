package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/measure"
	"tfofleet/internal/mesh"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// listenerPort is where the listener under test is, in the lab.
const listenerPort = 7414

// listener has the attempt engine make connections with data in the SYN to a
// listener that is opened, and reports, as a probe's does in a mesh. A run ends
// when what was reported of all of them has been read. Of each that was made by
// its SYN the evidence has to be complete: one without ends the scenario with an
// error. The clients, and who reads the reports, are in this process as well.
func (b *bench) listener(context.Context) error {
	ns := tfo.NetNS(b.lab.ServersNetNS())
	w := mesh.NewWorker(mesh.Config{NetNS: ns, Keys: []tfo.Key{{1}}, Logger: hclog.NewNullLogger()})
	defer w.Close()
	in := &reports{}
	state := w.Start(&pb.Task{Id: "listen", Work: &pb.Task_Listen{Listen: &pb.ListenTask{Listeners: []*pb.ListenSpec{
		{Port: listenerPort, Lifetime: durationpb.New(time.Hour)},
	}}}}, in.take)
	if why := state.GetRefused(); why != "" {
		return errors.New(why)
	}
	targets := b.targets()
	for i := range targets {
		targets[i] = netip.AddrPortFrom(targets[i].Addr(), listenerPort)
	}
	before, err := tfo.ReadMIB(ns)
	if err != nil {
		return err
	}
	var repeated, runs int64
	run := func(kind tfo.Kind) (time.Duration, error) {
		in.all.Store(0)
		in.complete.Store(0)
		begin := time.Now()
		again, err := b.connections(targets, kind)
		for late := time.Now().Add(10 * time.Second); err == nil && in.all.Load() < int64(len(targets)); {
			if time.Now().After(late) {
				return 0, fmt.Errorf("%d of %d connections were reported", in.all.Load(), len(targets))
			}
			time.Sleep(time.Millisecond)
		}
		d := time.Since(begin)
		runs++
		repeated += again
		if n, want := in.complete.Load(), int64(len(targets))-again; err == nil && kind == tfo.KindData && n != want {
			err = fmt.Errorf("%d of %d connections have complete evidence", n, want)
		}
		return d, err
	}
	if _, err := run(tfo.KindRequest); err != nil { // now the clients have cookies
		return err
	}
	t, err := b.inTurn(func() (time.Duration, error) { return run(tfo.KindData) })
	if err != nil {
		return err
	}
	after, err := tfo.ReadMIB(ns)
	if err != nil {
		return err
	}
	moved := after.Since(before)
	// One that was made by its SYN, and whose SYN-ACK was late, is among both.
	if made := (runs - 1) * int64(len(targets)); moved[tfo.CountPassive] < made-repeated || moved[tfo.CountPassive] > made {
		return fmt.Errorf("the kernel counts %d Fast Open connections, %d were made", moved[tfo.CountPassive], made)
	}
	fmt.Printf("listener: %.0f conn/s accepted by Fast Open and reported with complete evidence; of %d in all runs %d had their SYN repeated; %d Fast Open overflows, %d of the accept queue, %d SYNs dropped, %d alarms\n",
		float64(len(targets))/t[0], runs*int64(len(targets)), repeated, moved[tfo.CountListenOverflow], moved[tfo.CountAcceptOverflow], moved[tfo.CountListenDrops], in.alarms.Load())
	return nil
}

// reports reads what a listener reports.
type reports struct{ all, complete, alarms atomic.Int64 }

func (r *reports) take(_ context.Context, part *pb.ReportTaskRequest) (bool, error) {
	if len(part.GetArrivals()) == 0 {
		return false, nil
	}
	arrivals, alarms, err := measure.DecodeArrivals(part.GetArrivals())
	if err != nil {
		return true, err
	}
	r.alarms.Add(int64(len(alarms)))
	for _, a := range arrivals {
		if whole(a) {
			r.complete.Add(1)
		}
	}
	r.all.Add(int64(len(arrivals)))
	return false, nil
}

// whole reports whether a connection was made by its SYN, and everything is
// known of it.
func whole(a *tfo.Arrival) bool {
	return a.SYN.Raw != nil && a.Claim == tfo.ClaimValid && a.Child == tfo.Yes && a.Options()&tfo.OptTFOChild != 0 && a.Options()&tfo.OptSynData != 0 &&
		a.SynBytes > 0 && a.SynTaken == a.SynBytes && a.RequestBytes >= a.SynBytes && len(a.Request) > 0 && a.Peer.IsValid() && a.Local.IsValid() &&
		a.ResponseBytes > 0 && a.ResponseAcked == a.ResponseBytes && a.HandshakeNS != tfo.NotKnown && a.RequestNS != tfo.NotKnown &&
		len(a.InfoAccept) > 200 && len(a.InfoFinal) > 200 && a.End == tfo.ArrivalServed
}

// connections makes one connection of a kind to every target, and counts those
// whose SYN was sent again, without its data: the machine stood still for a
// second, or a SYN was lost.
func (b *bench) connections(targets []netip.AddrPort, kind tfo.Kind) (repeated int64, err error) {
	e, err := tfo.NewEngine(tfo.Config{Concurrency: b.width, NetNS: tfo.NetNS(b.lab.ClientNetNS())})
	if err != nil {
		return 0, err
	}
	defer e.Stop()
	payload := b.payload(targets[0])
	var left sync.WaitGroup
	var again atomic.Int64
	for _, t := range targets {
		left.Add(1)
		e.Start(&one{remote: t, kind: kind, payload: payload, again: &again, over: left.Done})
	}
	left.Wait()
	return again.Load(), nil
}

// one is the sequence of one connection.
type one struct {
	remote  netip.AddrPort
	kind    tfo.Kind
	payload measure.Payload
	again   *atomic.Int64
	over    func()
}

func (o *one) Remote() netip.AddrPort { return o.remote }

func (o *one) Next(last *tfo.Evidence) (tfo.Attempt, bool) {
	if last != nil && last.SynRetransmits > 0 {
		o.again.Add(1)
	}
	return tfo.Attempt{Kind: o.kind, Payload: o.payload.Bytes, Complete: o.payload.Complete, Timeout: 5 * time.Second}, last == nil
}

func (o *one) Over(bool) { o.over() }
