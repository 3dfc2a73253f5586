package agenttest

import (
	"context"
	"time"

	pb "tfofleet/proto/tfofleet/v1"
)

// outgoing is a batch on its way.
type outgoing struct {
	lease string
	req   *pb.ReportResultsRequest // nil once it is acknowledged
}

// take takes a lease into hand: all of it is measured at once.
func (p *FleetProbe) take(l *pb.Lease) {
	now := time.Now()
	batches := p.fleet.results(l)
	name := leaseName(l.GetRef())
	p.mu.Lock()
	defer p.mu.Unlock()
	var asked time.Time
	if len(p.asked) > 0 {
		asked, p.asked = p.asked[0], p.asked[1:]
	}
	p.fleet.leased(l, asked, p.idle, now)
	p.idle = time.Time{}
	if _, had := p.leases[name]; had {
		return
	}
	h := &held{ref: l.GetRef(), left: len(batches)}
	if n := len(l.GetTargets()); n > 0 {
		h.n = uint32(l.GetTargets()[n-1].GetItem()-l.GetFirstItem()) + 1
	}
	p.leases[name] = h
	for _, req := range batches {
		p.sequence++
		req.Probe, req.Lease, req.Spool, req.Sequence = p.name, l.GetRef(), p.instance, p.sequence
		o := &outgoing{name, req}
		p.pending = append(p.pending, o)
		p.flying[req.Sequence] = o
	}
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// drop lets go of a lease that is not the probe's any more. Its results are sent
// nevertheless, as those of a real probe are.
func (p *FleetProbe) drop(ref *pb.LeaseRef) {
	p.mu.Lock()
	_, had := p.leases[leaseName(ref)]
	delete(p.leases, leaseName(ref))
	p.mu.Unlock()
	if had {
		p.fleet.counted(func(c *FleetCounts) { c.Dropped++ })
		p.poked()
	}
}

// report is one stream of results: what was not acknowledged is sent, oldest
// first, and then what comes.
func (p *FleetProbe) report(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	stream, err := pb.NewProbeServiceClient(p.results).ReportResults(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.next = 0
	p.mu.Unlock()
	ended := make(chan error, 1)
	over := make(chan struct{})
	defer func() { stop(); <-over }() // no ack of this stream during the next
	go func() {
		defer close(over)
		for {
			r, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			p.landed(r)
		}
	}()
	for {
		select {
		case <-p.fleet.opened():
		case err := <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
		req := p.unsent()
		if req == nil {
			select {
			case <-p.more:
			case err := <-ended:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		if err := stream.Send(req); err != nil {
			stop()
			return <-ended // has the reason
		}
	}
}

// unsent is the next batch to send, nil without one.
func (p *FleetProbe) unsent() *pb.ReportResultsRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.next < len(p.pending) {
		req := p.pending[p.next].req
		p.next++
		if req != nil {
			return req
		}
	}
	if p.idle.IsZero() && len(p.asked) > 0 {
		p.idle = time.Now()
	}
	return nil
}

// landed lets go of a batch that the controller has.
func (p *FleetProbe) landed(r *pb.ReportResultsResponse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o, ok := p.flying[r.GetSequence()]
	if !ok {
		return
	}
	delete(p.flying, r.GetSequence())
	if r.GetRejected() != "" {
		p.fleet.counted(func(c *FleetCounts) { c.Rejected++ })
	} else {
		p.fleet.acked.Add(int64(len(o.req.GetIndexes())))
	}
	o.req = nil
	for len(p.pending) > 0 && p.pending[0].req == nil {
		p.pending = p.pending[1:]
		p.next = max(0, p.next-1)
	}
	if h, ok := p.leases[o.lease]; ok {
		if h.left--; h.left == 0 {
			delete(p.leases, o.lease)
			p.poked()
		}
	}
}
