package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tfofleet/internal/agent/spool"
	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// What the agent does differently where it has a spool: a lease is durable
// before it is accepted, a target is marked before its first SYN, and a batch
// is durable before it is sent, under a sequence number for good.

// lease is what the spool knows the work by.
func (w *work) lease() spool.Lease {
	return spool.Lease{Survey: w.ref.GetSurvey(), Chunk: w.ref.GetChunk(), Epoch: w.ref.GetEpoch()}
}

// record makes a lease durable.
func (a *Agent) record(w *work, l *pb.Lease) error {
	if a.cfg.Spool == nil {
		return nil
	}
	offer, err := proto.Marshal(l)
	if err != nil {
		return err
	}
	indexes := make([]uint32, len(w.targets))
	for i, t := range w.targets {
		indexes[i] = w.index(t.Item)
	}
	return a.cfg.Spool.Accept(w.lease(), indexes, offer)
}

// forget removes a lease that is not this probe's any more.
func (a *Agent) forget(w *work) {
	if a.cfg.Spool == nil {
		return
	}
	if err := a.cfg.Spool.Forget(w.lease()); err != nil {
		a.log.Error("a lease could not be forgotten", "lease", w.name, "reason", err)
	}
}

// recover takes up the leases that an earlier process left.
func (a *Agent) recover() {
	for _, h := range a.cfg.Leases {
		if err := a.recoverLease(h); err != nil {
			a.log.Error("a lease of the last process cannot be continued", "lease", h.Lease, "reason", err)
			if err := a.cfg.Spool.Forget(h.Lease); err != nil {
				a.log.Error("a lease could not be forgotten", "lease", h.Lease, "reason", err)
			}
		}
	}
}

func (a *Agent) recoverLease(h spool.Held) error {
	l := &pb.Lease{}
	if err := proto.Unmarshal(h.Offer, l); err != nil {
		return err
	}
	all, err := newWork(a, l)
	if err != nil {
		return err
	}
	w := &work{agent: a, name: all.name, ref: all.ref, first: all.first, again: all.again, change: make(chan struct{})}
	var interrupted []measure.Measurement
	for _, t := range all.targets {
		switch i := w.index(t.Item); {
		case slices.Contains(h.Fresh, i):
			w.targets = append(w.targets, t)
		case slices.Contains(h.Interrupted, i):
			w.floor = i + 1
			interrupted = append(interrupted, measure.Measurement{
				Target: t, Outcome: measure.OutcomeInterrupted, Started: time.Now().Round(0),
			})
		}
	}
	w.open = len(w.targets)
	a.log.Info("lease of the last process", "lease", w.name, "interrupted", len(interrupted), "left", w.open, "unsent", h.Queued)
	if len(interrupted) > 0 {
		w.send(interrupted, nil)
	}
	if w.open == 0 {
		a.mu.Lock()
		a.works[w.name] = w
		a.mu.Unlock()
		return nil
	}
	_, err = a.begin(w, l)
	return err
}

// keep puts a batch into the spool.
func (u *uplink) keep(req *pb.ReportResultsRequest) {
	data, err := proto.Marshal(req)
	if err == nil {
		ref := req.GetLease()
		err = u.agent.cfg.Spool.Append(spool.Record{
			Kind: spool.KindResult, Lease: spool.Lease{Survey: ref.GetSurvey(), Chunk: ref.GetChunk(), Epoch: ref.GetEpoch()},
			Items: slices.Concat(req.GetIndexes(), req.GetReturned()), Data: data,
		})
	}
	if err != nil {
		u.agent.log.Error("results could not be kept", "lease", refName(req.GetLease()), "targets", len(req.GetIndexes()), "reason", err)
	}
}

// readAhead is how many bytes of records are read from the spool at a time.
const readAhead = 1 << 20

// streamSpool sends what is in the spool, oldest first, and then what comes.
func (u *uplink) streamSpool(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	stream, err := pb.NewProbeServiceClient(u.agent.cfg.Results).ReportResults(ctx)
	if err != nil {
		return err
	}
	u.mu.Lock()
	u.flying, u.stop = make(map[uint64]spool.Key), stop
	u.mu.Unlock()
	ended := make(chan error, 1)
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer stop() // whoever waits for records
		for {
			r, err := stream.Recv()
			if err == nil {
				err = u.landed(r)
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	defer func() { stop(); <-over }() // no ack of this stream during the next
	for after := uint64(0); ; {
		records, err := u.agent.cfg.Spool.Next(ctx, after, readAhead)
		if err != nil {
			if ctx.Err() == nil {
				return fmt.Errorf("spool: %w", err)
			}
			return <-ended
		}
		for _, r := range records {
			after = r.Key.Sequence
			req, err := u.request(r)
			if err != nil {
				if err := u.agent.cfg.Spool.Reject(r.Key, err.Error()); err != nil {
					return fmt.Errorf("spool: %w", err)
				}
				continue
			}
			u.mu.Lock()
			u.flying[req.Sequence] = r.Key
			u.mu.Unlock()
			if err := stream.Send(req); err != nil {
				stop()
				return <-ended // has the reason
			}
		}
	}
}

// landed lets go of a batch that is safe with the controller, or puts aside one
// that it will never take.
func (u *uplink) landed(r *pb.ReportResultsResponse) error {
	u.mu.Lock()
	key, ok := u.flying[r.GetSequence()]
	delete(u.flying, r.GetSequence())
	u.mu.Unlock()
	if !ok {
		return nil
	}
	if why := r.GetRejected(); why != "" {
		u.agent.log.Error("results rejected, and put aside", "lease", refName(r.GetLease()), "sequence", r.GetSequence(), "reason", why)
		if err := u.agent.cfg.Spool.Reject(key, why); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
	} else {
		u.agent.cfg.Spool.Ack(key)
	}
	if r.GetLease() != nil { // not of an event
		u.agent.health.acked()
	}
	return nil
}

// request is a record as it is sent.
func (u *uplink) request(r spool.Record) (*pb.ReportResultsRequest, error) {
	req := &pb.ReportResultsRequest{}
	switch {
	case r.Kind == spool.KindResult:
		if err := proto.Unmarshal(r.Data, req); err != nil {
			return nil, err
		}
	case r.Kind == spool.KindEvent:
		e, err := spool.ParseEvent(r.Data)
		if err != nil {
			return nil, err
		}
		req.Event = eventToWire(pb.ProbeEventKind(e.Kind), r, e.Detail)
	case r.Kind == spool.KindGap && r.Lease == spool.Lease{}:
		req.Event = eventToWire(pb.ProbeEventKind_PROBE_EVENT_KIND_DROPPED, r, fmt.Sprintf("%d records, for want of room", r.Lost))
	case r.Kind == spool.KindGap:
		// Their results are gone for good: the lease comes to its end all the same.
		req.Lease = &pb.LeaseRef{Survey: r.Lease.Survey, Chunk: r.Lease.Chunk, Epoch: r.Lease.Epoch}
		req.Indexes = r.Items
		req.Outcomes, req.Verdicts = make([]pb.Outcome, len(r.Items)), make([]pb.Verdict, len(r.Items))
		for i := range req.Outcomes {
			req.Outcomes[i] = pb.Outcome_OUTCOME_INTERRUPTED
		}
	default:
		return nil, fmt.Errorf("a record of %v", r.Kind)
	}
	req.Probe, req.Spool, req.Sequence = u.agent.cfg.Name, r.Key.Spool.String(), r.Key.Sequence
	return req, nil
}

func eventToWire(kind pb.ProbeEventKind, r spool.Record, detail string) *pb.ProbeEvent {
	return &pb.ProbeEvent{Kind: kind, At: timestamppb.New(r.Time), Detail: detail}
}
