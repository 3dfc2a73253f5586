package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// inFlight is how many batches of one stream may be on their way to the disk.
// They share a transaction, so that a stream is not bound to one batch per
// fsync.
const inFlight = 16

// roomForBatches is how many bytes of batches, of all streams together, may be on
// their way to the disk: a thousand probes that come back at once bring more
// than fits into memory.
const roomForBatches = 32 << 20

// ReportResults implements ProbeService.
func (s *Server) ReportResults(stream grpc.BidiStreamingServer[pb.ReportResultsRequest, pb.ReportResultsResponse]) error {
	ctx, stop := context.WithCancelCause(stream.Context())
	in := &intake{server: s, stream: stream, ctx: ctx, stop: stop, slots: make(chan struct{}, inFlight)}
	if from, ok := peer.FromContext(ctx); ok {
		if at, err := netip.ParseAddrPort(from.Addr.String()); err == nil {
			in.address = at.Addr().Unmap().WithZone("").String()
		}
	}
	// Nothing but the end of this function ends a Recv, so it waits elsewhere.
	go func() { stop(in.receive()) }()
	select {
	case <-ctx.Done():
	case <-s.drained:
	}
	in.close()
	if ctx.Err() == nil {
		return errStopping
	}
	if err := context.Cause(ctx); err != errAllTaken {
		return err
	}
	return nil
}

// errAllTaken is the good end of a stream of results.
var errAllTaken = errors.New("all taken")

// intake is a stream of results.
type intake struct {
	server *Server
	stream grpc.BidiStreamingServer[pb.ReportResultsRequest, pb.ReportResultsResponse]
	ctx    context.Context
	stop   context.CancelCauseFunc
	slots  chan struct{}
	// address is the probe's, as seen from here; empty where the wire is memory.
	address string

	mu     sync.Mutex
	closed bool
	taking sync.WaitGroup

	sending sync.Mutex // a stream is for one sender at a time; it may wait for the probe
}

// receive takes batches until the stream ends, and returns why it did.
func (in *intake) receive() error {
	for {
		req, err := in.stream.Recv()
		if errors.Is(err, io.EOF) {
			in.close()
			return errAllTaken
		}
		if err != nil {
			return err
		}
		if err := in.server.mayBe(in.ctx, req.GetProbe()); err != nil {
			return err
		}
		select {
		case in.slots <- struct{}{}:
		case <-in.ctx.Done():
			return in.ctx.Err()
		}
		weight := min(int64(len(req.GetMeasurements()))+1, roomForBatches)
		if err := in.server.room.Acquire(in.ctx, weight); err != nil {
			return err
		}
		in.mu.Lock()
		if in.closed {
			in.mu.Unlock()
			in.server.room.Release(weight)
			return errStopping
		}
		in.taking.Go(func() { in.take(req, weight) })
		in.mu.Unlock()
	}
}

// close waits until what was received is stored, or not; nothing more is taken.
func (in *intake) close() {
	in.mu.Lock()
	in.closed = true
	in.mu.Unlock()
	in.taking.Wait()
}

// take stores a batch and acknowledges it.
func (in *intake) take(req *pb.ReportResultsRequest, weight int64) {
	defer func() { <-in.slots }()
	rejected, err := in.server.take(req, in.address)
	ack := &pb.ReportResultsResponse{Lease: req.GetLease(), Sequence: req.GetSequence(), Rejected: rejected}
	in.server.room.Release(weight) // whoever takes no acks holds up nobody else
	if err != nil {
		// No ack, and no further batches: the probe has to wait before it
		// tries again.
		in.stop(rpcError(err))
		return
	}
	in.sending.Lock()
	defer in.sending.Unlock()
	if err := in.stream.Send(ack); err != nil {
		in.stop(err)
	}
}

// take stores a batch, or says why it is rejected. An error means that it could
// not be stored.
func (s *Server) take(req *pb.ReportResultsRequest, address string) (rejected string, err error) {
	if !isName(req.GetSpool()) {
		return "this is no spool's id", nil
	}
	if req.GetEvent() != nil {
		return s.takeEvent(req)
	}
	e, rejected := results(req)
	if rejected != "" {
		return rejected, nil
	}
	begun := time.Now()
	b := &store.Batch{Epoch: e.Epoch, Spool: req.GetSpool(), Sequence: req.GetSequence(), Probe: e.Probe, Address: address, Body: req.GetMeasurements()}
	// Not the stream's context: what is stored has effects, also when nobody
	// is there any more to take the ack.
	c, effects, err := s.cfg.Store.Apply(s.ctx, keyOf(req.GetLease()), e, b)
	if errors.Is(err, store.ErrNotFound) {
		return err.Error(), nil
	}
	s.trouble.set(writeResults, err)
	if err != nil {
		return "", err
	}
	for _, f := range effects {
		if f == lease.Reject {
			return fmt.Sprintf("chunk %d of survey %s was never leased to probe %q with epoch %d, or has no such targets", c.Chunk, c.Survey, e.Probe, e.Epoch), nil
		}
	}
	s.metrics.took(e, time.Since(begun), len(req.GetMeasurements()))
	s.carryOut(c, effects)
	return "", nil
}

// takeEvent stores what happened to a probe itself.
func (s *Server) takeEvent(req *pb.ReportResultsRequest) (rejected string, err error) {
	if req.GetSpool() == "" || req.GetLease() != nil || len(req.GetIndexes())+len(req.GetReturned())+len(req.GetMeasurements()) > 0 {
		return "an event has a spool, and no lease", nil
	}
	err = s.cfg.Store.PutEvent(s.ctx, store.ProbeEvent{Probe: req.GetProbe(), Spool: req.GetSpool(), Sequence: req.GetSequence(), Event: req.GetEvent()})
	s.trouble.set(writeResults, err)
	if err == nil {
		s.log.Info("probe says", "probe", req.GetProbe(), "event", eventName(req.GetEvent().GetKind()), "detail", req.GetEvent().GetDetail())
	}
	return "", err
}

// eventName is the word for people, such as "self_test".
func eventName(k pb.ProbeEventKind) string {
	return strings.ToLower(strings.TrimPrefix(k.String(), "PROBE_EVENT_KIND_"))
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
