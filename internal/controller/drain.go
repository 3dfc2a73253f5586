package controller

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "tfofleet/proto/tfofleet/v1"
)

// errStopping ends the streams of a controller that stops; a probe comes back.
var errStopping = status.Error(codes.Unavailable, "the controller stops")

// Drain ends every stream and takes no new one, so that a gRPC server that is
// asked to stop in good order can: it waits for streams, and tells them nothing.
// Batches that were received are stored and acknowledged first.
//
// Probes are told first to try again soon, and where else.
func (s *Server) Drain() {
	s.draining.Do(func() {
		m := &pb.SessionResponse{Message: &pb.SessionResponse_Drain{Drain: &pb.Drain{
			ReconnectAfter: durationpb.New(reconnectAfter), Alternates: s.cfg.Addresses,
		}}}
		s.mu.Lock()
		sessions := slices.Collect(maps.Values(s.sessions))
		s.mu.Unlock()
		// A stream whose peer takes nothing must not hold up the end.
		told := make(chan struct{})
		go func() {
			_ = together(sessions, func(p *session) error { return p.send(m) }) // who is gone is told nothing
			close(told)
		}()
		select {
		case <-told:
		case <-time.After(time.Second):
		}
		close(s.drained)
	})
}

// reconnectAfter spreads the probes of a controller that stops.
const reconnectAfter = 5 * time.Second
