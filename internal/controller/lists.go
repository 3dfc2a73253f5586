package controller

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	"tfofleet/internal/targets"
	pb "tfofleet/proto/tfofleet/v1"
)

func (s *Server) listDir(id string) string { return dataset.Join(s.cfg.Lists, id) }

// sortingDir is for what is being sorted. Nothing in it outlives its call.
func (s *Server) sortingDir() string { return filepath.Join(s.cfg.Dir, "sorting") }

// AddTargets implements ControlService. The list goes through the sorter to the
// disk: its length does not matter to the memory.
func (s *Server) AddTargets(stream grpc.ClientStreamingServer[pb.AddTargetsRequest, pb.AddTargetsResponse]) error {
	id := newID()
	list, duplicates, err := s.freezeList(id, stream)
	if err != nil {
		_ = dataset.RemoveTargets(s.listDir(id)) // an orphan is removed at the next start
		return rpcError(err)
	}
	if err := s.cfg.Store.PutList(stream.Context(), list); err != nil {
		_ = dataset.RemoveTargets(s.listDir(id)) // an orphan is removed at the next start
		return rpcError(err)
	}
	return stream.SendAndClose(&pb.AddTargetsResponse{TargetsId: id, Targets: list.Targets, Duplicates: duplicates})
}

func (s *Server) freezeList(id string, stream grpc.ClientStreamingServer[pb.AddTargetsRequest, pb.AddTargetsResponse]) (l store.List, duplicates uint64, err error) {
	if err := os.MkdirAll(s.sortingDir(), 0o700); err != nil {
		return l, 0, err
	}
	scratch, err := os.MkdirTemp(s.sortingDir(), "")
	if err != nil {
		return l, 0, err
	}
	defer os.RemoveAll(scratch)
	var sorter *targets.Sorter
	n := 0
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return l, 0, err
		}
		if sorter == nil {
			sorter = targets.NewSorter(scratch, req.GetSeed(), 0)
			defer sorter.Close()
		}
		for _, w := range req.GetTargets() {
			t, err := listed(w)
			if err != nil {
				return l, 0, status.Error(codes.InvalidArgument, err.Error())
			}
			if err := sorter.Add(t); err != nil {
				return l, 0, err
			}
			n++
		}
	}
	if n == 0 {
		return l, 0, status.Error(codes.InvalidArgument, "the list holds no target")
	}
	l = store.List{ID: id, ChunkSize: chunkSize(n)}
	var stats targets.SortStats
	var sortErr error
	l.Targets, err = dataset.WriteTargets(s.listDir(id), l.ChunkSize, func(yield func(measure.Target, error) bool) {
		stats, sortErr = sorter.Finish(func(t measure.Target) error {
			if !yield(t, nil) {
				return errStopped
			}
			return nil
		})
		if sortErr != nil && !errors.Is(sortErr, errStopped) {
			yield(measure.Target{}, sortErr)
		}
	})
	return l, uint64(stats.Duplicates), err
}

var errStopped = errors.New("stopped")

// listed is a target as a list may hold it.
func listed(w *pb.Target) (measure.Target, error) {
	t, err := measure.TargetFromWire(w)
	switch {
	case err != nil:
		return t, err
	case t.Port == 0:
		return t, errors.New("a target without a port")
	case !t.Addr.IsValid() && t.Hostname == "":
		return t, errors.New("a target with neither an address nor a name")
	case len(t.Hostname) > 253: // RFC 1035, section 2.3.4
		return t, errors.New("a name of more than 253 bytes")
	}
	return t, nil
}

// chunkSize is the number of targets per chunk of a list of n. A chunk is what
// is leased, lost and written at a time, and held in memory while it is
// written: there are to be many, so that the last one does not hold up the end
// and probes can share, but no thousand files of a handful of rows. So there are
// about as many chunks as a chunk has targets.
func chunkSize(n int) int { return min(max(int(math.Sqrt(float64(n))), 64), 8192) }

// removeOrphanLists drops what a crash left of lists that nobody knows.
func (s *Server) removeOrphanLists(ctx context.Context) error {
	ids, err := dataset.Dirs(s.cfg.Lists)
	if err != nil {
		return err
	}
	for _, id := range ids {
		_, err := s.cfg.Store.List(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			err = dataset.RemoveTargets(s.listDir(id))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
