package mesh

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"tfofleet/internal/measure"
	"tfofleet/internal/targets"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

const (
	// atATime is how many peers are measured at the same time.
	atATime = 256
	// timeout is the patience with an attempt, where nothing else was said.
	timeout = 5 * time.Second
)

// connector measures the peers of a task.
type connector struct {
	w      *Worker
	own    []netip.Addr // this host's
	peers  []*pb.Peer
	pace   *rate.Limiter            // of the connections that look for peers
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
	var err error
	if c.own, err = w.addresses(); err != nil {
		return nil, err
	}
	perSecond := work.GetRate()
	if w.cfg.RateFor != nil {
		perSecond = w.cfg.RateFor(perSecond)
	}
	c.pace = rate.NewLimiter(rate.Inf, 1)
	if perSecond > 0 {
		c.pace.SetLimit(rate.Limit(perSecond))
	}
	c.runner, err = measure.NewRunner(measure.Settings{
		Plan: measure.Plan(work.GetPlan()), Payload: measure.PayloadKind(work.GetPayload()), Timeout: cmp.Or(work.GetTimeout().AsDuration(), timeout),
		Nonce: func(t measure.Target) measure.Nonce { return c.nonces[t.Item] }, Permit: w.cfg.Permit,
	}, tfo.Config{Rate: perSecond, Concurrency: atATime, Shards: 1, NetNS: w.cfg.NetNS})
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
	// All are looked for before one is measured: both make connections, and have
	// one rate.
	found := c.find(ctx)
	var left sync.WaitGroup
	slots := make(chan struct{}, 2*atATime)
	for _, t := range found {
		if ctx.Err() != nil {
			break
		}
		slots <- struct{}{}
		left.Add(1)
		done := func(m measure.Measurement) {
			if m.Outcome != 0 {
				out.measured(m)
			}
			<-slots
			left.Done()
		}
		switch {
		case !t.Addr.IsValid() || t.Port == 0: // such as that of another probe on this host
			done(refused(t, targets.ReasonNotAnAddress))
		case !c.w.contacted(t):
			done(refused(t, noContact))
		default:
			c.runner.Submit(t, nil, done)
		}
	}
	left.Wait()
	c.runner.Stop()
}

// noContact is of a peer that could not be logged, as policies say it.
const noContact = "contact_log"

func refused(t measure.Target, why string) measure.Measurement {
	return measure.Measurement{Target: t, Outcome: measure.OutcomeRefused, Verdict: measure.Inconclusive, Conditions: []measure.Condition{measure.CondRefused(why)}}
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
