package mesh

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

const (
	// atATime is how many peers are measured at the same time.
	atATime = 256
	// reachTime is the patience with one of several addresses of a peer.
	reachTime = 2 * time.Second
	// timeout is the patience with an attempt, where nothing else was said.
	timeout = 5 * time.Second
)

// connect measures the peers of a task, until all have their result or the task
// ends.
func (w *Worker) connect(t *task, work *pb.ConnectTask, out *outbox) {
	nonces := make(map[uint64]measure.Nonce, len(work.GetPeers()))
	for _, p := range work.GetPeers() {
		if len(p.GetNonce()) == len(measure.Nonce{}) {
			nonces[uint64(p.GetIndex())] = measure.Nonce(p.GetNonce())
		}
	}
	patience := timeout
	if d := work.GetTimeout().AsDuration(); d > 0 {
		patience = d
	}
	rate := work.GetRate()
	if w.cfg.RateFor != nil {
		rate = w.cfg.RateFor(rate)
	}
	r, err := measure.NewRunner(measure.Settings{
		Plan: measure.Plan(work.GetPlan()), Payload: measure.PayloadKind(work.GetPayload()), Timeout: patience,
		Nonce: func(t measure.Target) measure.Nonce { return nonces[t.Item] }, Permit: w.cfg.Permit,
	}, tfo.Config{Rate: rate, Concurrency: atATime, Shards: 1, NetNS: w.cfg.NetNS})
	if err != nil {
		w.log.Error("peers cannot be measured", "task", out.id, "reason", err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var left sync.WaitGroup
	slots := make(chan struct{}, 2*atATime)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-t.end:
			cancel()
			r.Stop()
		case <-ctx.Done():
		}
	}()
	for _, p := range work.GetPeers() {
		if ctx.Err() != nil {
			break
		}
		slots <- struct{}{}
		left.Add(1)
		go func() {
			target := measure.Target{Item: uint64(p.GetIndex()), Addr: w.reach(ctx, p), Port: uint16(p.GetPort())}
			done := func(m measure.Measurement) {
				if m.Outcome != 0 {
					out.measured(m)
				}
				<-slots
				left.Done()
			}
			if _, ok := nonces[target.Item]; !ok || !target.Addr.IsValid() {
				done(measure.Measurement{Target: target, Outcome: measure.OutcomeInterrupted})
				return
			}
			r.Submit(target, done)
		}()
	}
	left.Wait()
	cancel()
	<-stopped
	r.Stop()
}

// reach is the first address of a peer that answers, or the first of all: then
// the measurement says that none does. With one address there is nothing to
// choose.
func (w *Worker) reach(ctx context.Context, p *pb.Peer) netip.Addr {
	var all []netip.Addr
	for _, b := range p.GetAddresses() {
		if a, ok := netip.AddrFromSlice(b); ok {
			all = append(all, a.Unmap())
		}
	}
	if len(all) == 0 {
		return netip.Addr{}
	}
	for _, a := range all {
		if len(all) == 1 || w.answers(ctx, netip.AddrPortFrom(a, uint16(p.GetPort()))) {
			return a
		}
	}
	return all[0]
}

func (w *Worker) answers(ctx context.Context, at netip.AddrPort) bool {
	if w.cfg.Permit != nil {
		if _, ok := w.cfg.Permit(measure.Target{Addr: at.Addr(), Port: at.Port()}); !ok {
			return false
		}
	}
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	err := w.cfg.NetNS.Do(func() error {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", at.String())
		if err != nil {
			return err
		}
		return c.Close()
	})
	return err == nil
}
