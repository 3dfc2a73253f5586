package controller

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errStopping ends the streams of a controller that stops; a probe comes back.
var errStopping = status.Error(codes.Unavailable, "the controller stops")

// Drain ends every stream and takes no new one, so that a gRPC server that is
// asked to stop in good order can: it waits for streams, and tells them nothing.
// Batches that were received are stored and acknowledged first.
func (s *Server) Drain() { s.draining.Do(func() { close(s.drained) }) }
