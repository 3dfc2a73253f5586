package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/identity"
	pb "tfofleet/proto/tfofleet/v1"
)

// runMesh runs a mesh to its end and shows how far it is.
func (a *app) runMesh(ctx context.Context, c pb.ControlServiceClient, req *pb.RunMeshRequest, quiet bool, see func(*pb.RunMeshResponse)) error {
	stream, err := c.RunMesh(ctx, req)
	if err != nil {
		return err
	}
	said, phase := 0, pb.MeshPhase_MESH_PHASE_UNSPECIFIED
	var m *pb.RunMeshResponse
	for {
		next, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			if m.GetPhase() != pb.MeshPhase_MESH_PHASE_DONE {
				return fail(exitFailure, errors.New("the mesh came to no end"))
			}
			return nil
		case ctx.Err() != nil:
			return fail(exitInterrupted, errors.New("interrupted: the mesh is given up"))
		case m != nil && status.Code(err) == codes.Unavailable:
			return fail(exitFailure, fmt.Errorf("the controller is gone, and mesh %s with it: %s", m.GetMesh(), identity.Why(err)),
				"run the mesh again when the controller is back; meanwhile the probes close their listeners by themselves")
		case status.Code(err) == codes.FailedPrecondition:
			return fail(exitFailure, errors.New(identity.Why(err)), `"controller probes list" tells which probes there are, and which are connected`)
		case err != nil:
			return err
		}
		m = next
		see(m)
		for _, t := range m.GetTroubles()[min(said, len(m.GetTroubles())):] {
			a.warn(t)
		}
		said = len(m.GetTroubles())
		if quiet || m.GetPhase() == phase {
			continue
		}
		phase = m.GetPhase()
		switch phase {
		case pb.MeshPhase_MESH_PHASE_LISTENING:
			fmt.Fprintf(a.term, "controller: mesh %s of %s\n", m.GetMesh(), counted(uint64(m.GetProbes()), "probe"))
		case pb.MeshPhase_MESH_PHASE_MEASURING:
			fmt.Fprintf(a.term, "controller: %s to make\n", counted(uint64(m.GetPlanned()), "measurement"))
		case pb.MeshPhase_MESH_PHASE_DONE:
			fmt.Fprintf(a.term, "controller: %s made, %s joined, %s lost, %s refused\n", count(uint64(m.GetMeasured())), count(uint64(m.GetJoined())), count(uint64(m.GetLost())), count(uint64(m.GetRefused())))
		}
	}
}
