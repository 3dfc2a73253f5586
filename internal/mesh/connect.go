package mesh

import (
	"cmp"
	"context"
	"fmt"
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

// connector measures the peers of a task.
type connector struct {
	w      *Worker
	peers  []*pb.Peer
	nonces map[uint64]measure.Nonce // by index
	runner *measure.Runner
}

func (w *Worker) connector(work *pb.ConnectTask) (*connector, error) {
	c := &connector{w: w, peers: work.GetPeers(), nonces: make(map[uint64]measure.Nonce, len(work.GetPeers()))}
	for _, p := range c.peers {
		if len(p.GetNonce()) != len(measure.Nonce{}) {
			return nil, fmt.Errorf("peer %d has a nonce of %d bytes", p.GetIndex(), len(p.GetNonce()))
		}
		c.nonces[uint64(p.GetIndex())] = measure.Nonce(p.GetNonce())
	}
	rate := work.GetRate()
	if w.cfg.RateFor != nil {
		rate = w.cfg.RateFor(rate)
	}
	var err error
	c.runner, err = measure.NewRunner(measure.Settings{
		Plan: measure.Plan(work.GetPlan()), Payload: measure.PayloadKind(work.GetPayload()), Timeout: cmp.Or(work.GetTimeout().AsDuration(), timeout),
		Nonce: func(t measure.Target) measure.Nonce { return c.nonces[t.Item] }, Permit: w.cfg.Permit,
	}, tfo.Config{Rate: rate, Concurrency: atATime, Shards: 1, NetNS: w.cfg.NetNS})
	return c, err
}

// run ends when every peer has its result, or the task does.
func (c *connector) run(t *task, out *outbox) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-t.end:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer context.AfterFunc(ctx, c.runner.Stop)()
	var left sync.WaitGroup
	slots := make(chan struct{}, 2*atATime)
	for _, p := range c.peers {
		if ctx.Err() != nil {
			break
		}
		slots <- struct{}{}
		left.Add(1)
		go c.measure(ctx, p, func(m measure.Measurement) {
			if m.Outcome != 0 {
				out.measured(m)
			}
			<-slots
			left.Done()
		})
	}
	left.Wait()
	c.runner.Stop()
}

func (c *connector) measure(ctx context.Context, p *pb.Peer, done func(measure.Measurement)) {
	t := measure.Target{Item: uint64(p.GetIndex()), Addr: c.w.reach(ctx, p), Port: uint16(p.GetPort())}
	if !t.Addr.IsValid() || t.Port == 0 || !c.w.contacted(t) {
		done(measure.Measurement{Target: t, Outcome: measure.OutcomeInterrupted})
		return
	}
	c.runner.Submit(t, done)
}

// contacted notes that a peer is.
func (w *Worker) contacted(t measure.Target) bool {
	if w.cfg.Contacted == nil {
		return true
	}
	if err := w.cfg.Contacted(netip.AddrPortFrom(t.Addr, t.Port)); err != nil {
		w.log.Error("a contact could not be logged, its peer is passed over", "reason", err)
		return false
	}
	return true
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
