package agent

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"tfofleet/internal/agent/spool"
	pb "tfofleet/proto/tfofleet/v1"
)

// batch is a batch on its way.
type batch struct {
	work *work
	req  *pb.ReportResultsRequest
}

// uplink brings batches to the controller. A batch is sent, over every new
// stream again, until it is acknowledged.
type uplink struct {
	agent *Agent

	mu      sync.Mutex
	batches []*batch             // not acknowledged, oldest first
	sent    int                  // of these, over the stream that is open
	last    uint64               // sequence given
	flying  map[uint64]spool.Key // those of the spool that were sent over it, by sequence
	stop    context.CancelFunc   // ends the stream that is open
	more    chan struct{}        // closed by the next put
}

func newUplink(a *Agent) *uplink {
	return &uplink{agent: a, more: make(chan struct{}), stop: func() {}}
}

func (u *uplink) put(b *batch) {
	if u.agent.cfg.Spool != nil {
		u.keep(b.req)
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.last++
	b.req.Spool, b.req.Sequence = u.agent.instance, u.last
	u.batches = append(u.batches, b)
	close(u.more)
	u.more = make(chan struct{})
}

// next is the next batch to send; nil, and what to wait for, when there is none.
func (u *uplink) next() (*batch, <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.sent == len(u.batches) {
		return nil, u.more
	}
	u.sent++
	return u.batches[u.sent-1], nil
}

// acked drops a batch that is safe with the controller.
func (u *uplink) acked(r *pb.ReportResultsResponse) {
	u.mu.Lock()
	i := slices.IndexFunc(u.batches, func(b *batch) bool { return b.req.GetSequence() == r.GetSequence() })
	if i < 0 {
		u.mu.Unlock()
		return
	}
	b := u.batches[i]
	u.batches = slices.Delete(u.batches, i, i+1)
	if i < u.sent {
		u.sent--
	}
	u.mu.Unlock()
	if r.GetRejected() != "" {
		u.agent.log.Error("results rejected", "survey", r.GetLease().GetSurvey(), "chunk", r.GetLease().GetChunk(),
			"targets", len(b.req.GetIndexes()), "reason", r.GetRejected())
	}
	u.agent.health.acked()
	b.work.acked()
}

// restart has everything sent again, over another stream.
func (u *uplink) restart() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stop()
}

// run sends until ctx is over.
func (u *uplink) run(ctx context.Context) {
	// A controller whose disk is full is asked again soon, for the work here
	// stands still until there is room.
	first := cmp.Or(u.agent.cfg.Backoff, leastPause)
	b := backoff{first: first, longest: 10 * first}
	for {
		b.first = max(b.first, time.Duration(u.agent.rest.Load()))
		begun := time.Now()
		err := u.stream(ctx)
		if ctx.Err() != nil {
			return
		}
		u.agent.log.Debug("results stream ended", "reason", err)
		u.agent.cfg.OnEnd(err)
		if !u.agent.pause(ctx, b.pause(time.Since(begun) >= healthy)) {
			return
		}
	}
}

func (u *uplink) stream(ctx context.Context) error {
	if u.agent.cfg.Spool != nil {
		return u.streamSpool(ctx)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	stream, err := pb.NewProbeServiceClient(u.agent.cfg.Results).ReportResults(ctx)
	if err != nil {
		return err
	}
	u.mu.Lock()
	u.sent, u.stop = 0, stop
	u.mu.Unlock()
	ended := make(chan error, 1)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			r, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			u.acked(r)
		}
	}()
	defer func() { stop(); <-over }() // no ack of this stream during the next
	for {
		b, more := u.next()
		if b == nil {
			select {
			case <-more:
			case err := <-ended:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		if err := stream.Send(b.req); err != nil {
			// The reason is the receiver's to know, but it may wait for
			// another connection, to which gRPC has moved the stream.
			stop()
			return <-ended
		}
	}
}
