package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"

	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// inFlight is how many batches of one stream may be on their way to the disk.
// They share a transaction, so that a stream is not bound to one batch per
// fsync.
const inFlight = 16

// ReportResults implements ProbeService.
func (s *Server) ReportResults(stream grpc.BidiStreamingServer[pb.ReportResultsRequest, pb.ReportResultsResponse]) error {
	ctx, stop := context.WithCancelCause(stream.Context())
	defer stop(nil)
	var (
		wg    sync.WaitGroup
		acks  sync.Mutex
		slots = make(chan struct{}, inFlight)
	)
	defer wg.Wait() // no ack after the return
	for {
		req, err := stream.Recv()
		if err == io.EOF {
			wg.Wait()
			return context.Cause(ctx)
		}
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		wg.Go(func() {
			defer func() { <-slots }()
			rejected, err := s.take(req)
			if err != nil {
				// No ack, and no further batches: the probe has to wait
				// before it tries again.
				stop(rpcError(err))
				return
			}
			acks.Lock()
			defer acks.Unlock()
			if err := stream.Send(&pb.ReportResultsResponse{Lease: req.GetLease(), Sequence: req.GetSequence(), Rejected: rejected}); err != nil {
				stop(err)
			}
		})
	}
}

// take stores a batch, or says why it is rejected. An error means that it could
// not be stored.
func (s *Server) take(req *pb.ReportResultsRequest) (rejected string, err error) {
	e, rejected := results(req)
	if rejected != "" {
		return rejected, nil
	}
	b := &store.Batch{Epoch: e.Epoch, Sequence: req.GetSequence(), Probe: e.Probe, Body: req.GetMeasurements()}
	// Not the stream's context: what is stored has effects, also when nobody
	// is there any more to take the ack.
	c, effects, err := s.cfg.Store.Apply(s.ctx, keyOf(req.GetLease()), e, b)
	if errors.Is(err, store.ErrNotFound) {
		return err.Error(), nil
	}
	s.trouble.set("results", err)
	if err != nil {
		return "", err
	}
	for _, f := range effects {
		if f == lease.Reject {
			return fmt.Sprintf("chunk %d of survey %s was never leased to probe %q with epoch %d, or has no such targets", c.Chunk, c.Survey, e.Probe, e.Epoch), nil
		}
	}
	s.carryOut(c, effects)
	return "", nil
}

// results is what a batch says of itself.
func results(req *pb.ReportResultsRequest) (e lease.Results, rejected string) {
	n := len(req.GetIndexes())
	if len(req.GetOutcomes()) != n || len(req.GetVerdicts()) != n {
		return e, fmt.Sprintf("%d targets with %d outcomes and %d verdicts", n, len(req.GetOutcomes()), len(req.GetVerdicts()))
	}
	e = lease.Results{Probe: req.GetProbe(), Epoch: req.GetLease().GetEpoch(), Returned: req.GetReturned()}
	if n == 0 {
		return e, ""
	}
	e.Items = make([]lease.ItemResult, n)
	for i, index := range req.GetIndexes() {
		o, v := req.GetOutcomes()[i], req.GetVerdicts()[i]
		if o < pb.Outcome(lease.Measured) || o > pb.Outcome(lease.Interrupted) || v < 0 || v > lease.MaxVerdict {
			return e, fmt.Sprintf("outcome %d with verdict %d is not known here", o, v)
		}
		e.Items[i] = lease.ItemResult{Index: index, Result: lease.Result(lease.Outcome(o), measure.Verdict(v))}
	}
	return e, ""
}
