package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// bodies are results in the form that a probe sends them: measurements of six
// attempts with raw TCP_INFO, encoded and compressed by the probe's own code.
type bodies struct {
	scripts  []measure.Measurement
	outcomes []pb.Outcome
	verdicts []pb.Verdict
	indexes  []uint32

	mu    sync.Mutex
	ready map[span][]byte
	bytes atomic.Int64
	late  atomic.Int64 // batches that were encoded when they were asked for
}

// span is targets of the frozen list that follow each other.
type span struct {
	first uint64
	n     int
}

// maxChunk is more targets than a chunk has.
const maxChunk = 1 << 16

func newBodies() (*bodies, error) {
	s := &bodies{
		scripts: make([]measure.Measurement, 512), ready: make(map[span][]byte), indexes: make([]uint32, maxChunk),
		outcomes: slices.Repeat([]pb.Outcome{pb.Outcome_OUTCOME_MEASURED}, agenttest.FleetBatch),
		verdicts: slices.Repeat([]pb.Verdict{pb.Verdict_VERDICT_SUPPORTED}, agenttest.FleetBatch),
	}
	for i := range s.indexes {
		s.indexes[i] = uint32(i)
	}
	for i := range s.scripts {
		s.scripts[i] = agenttest.Thorough(measure.Target{Item: uint64(i), Addr: netip.AddrFrom4([4]byte{198, 18, 0, 1}), Port: 443})
	}
	return s, nil
}

// prepare encodes all results of a frozen list.
func (s *bodies) prepare(ctx context.Context, list *dataset.Targets) error {
	defer debug.SetGCPercent(debug.SetGCPercent(20)) // they are gigabytes that stay
	return atOnce(list.Chunks(), runtime.NumCPU(), func(i int) error {
		ts, err := list.Chunk(i)
		if err = cmp.Or(err, ctx.Err()); err != nil {
			return err
		}
		for part := range slices.Chunk(ts, agenttest.FleetBatch) {
			body, err := s.encode(part)
			if err != nil {
				return err
			}
			s.mu.Lock()
			s.ready[span{part[0].Item, len(part)}] = body
			s.mu.Unlock()
		}
		return nil
	})
}

// drop forgets what prepare encoded.
func (s *bodies) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = nil
}

// encode makes measurements of some targets.
func (s *bodies) encode(ts []measure.Target) ([]byte, error) {
	ms := make([]measure.Measurement, len(ts))
	attempts := make([]tfo.Evidence, 0, 6*len(ts))
	for i, t := range ts {
		ms[i] = s.scripts[rand.IntN(len(s.scripts))]
		from := len(attempts)
		attempts = append(attempts, ms[i].Attempts...)
		ms[i].Target, ms[i].Attempts = t, attempts[from:len(attempts):len(attempts)]
		for j := range ms[i].Attempts {
			ms[i].Attempts[j].Remote = netip.AddrPortFrom(t.Addr, t.Port)
		}
	}
	body, err := measure.EncodeBatch(ms)
	s.bytes.Add(int64(len(body)))
	return bytes.Clone(body), err // it has much more room than it needs
}

// batches are the results of a lease.
func (s *bodies) batches(l *pb.Lease) []*pb.ReportResultsRequest {
	var all []*pb.ReportResultsRequest
	for part := range slices.Chunk(l.GetTargets(), agenttest.FleetBatch) {
		req := &pb.ReportResultsRequest{Outcomes: s.outcomes[:len(part)], Verdicts: s.verdicts[:len(part)]}
		first := part[0].GetItem()
		whole := part[len(part)-1].GetItem()-first == uint64(len(part)-1)
		if whole {
			from := first - l.GetFirstItem()
			req.Indexes = s.indexes[from : from+uint64(len(part))]
			s.mu.Lock()
			req.Measurements = s.ready[span{first, len(part)}]
			s.mu.Unlock()
		}
		if req.Measurements == nil {
			s.late.Add(1)
			ts := make([]measure.Target, len(part))
			req.Indexes = make([]uint32, len(part))
			for i, w := range part {
				var err error
				if ts[i], err = measure.TargetFromWire(w); err != nil {
					panic(fmt.Sprintf("the controller leased %v: %v", w, err))
				}
				req.Indexes[i] = uint32(w.GetItem() - l.GetFirstItem())
			}
			body, err := s.encode(ts)
			if err != nil {
				panic(err) // the same as that of prepare
			}
			req.Measurements = body
		}
		all = append(all, req)
	}
	return all
}
