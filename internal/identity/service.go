package identity

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "tfofleet/proto/tfofleet/v1"
)

// Register adds the EnrollmentService to a guarded server.
func (a *Authority) Register(s grpc.ServiceRegistrar) {
	pb.RegisterEnrollmentServiceServer(s, &enrollment{a: a})
}

type enrollment struct {
	pb.UnsafeEnrollmentServiceServer
	a *Authority
}

// Enroll implements EnrollmentService.
func (e *enrollment) Enroll(ctx context.Context, req *pb.EnrollRequest) (*pb.EnrollResponse, error) {
	issued, err := e.a.Enroll(ctx, req)
	if err != nil {
		return nil, e.fail(ctx, "enrolment", err)
	}
	return &pb.EnrollResponse{Issued: issued}, nil
}

// Recover implements EnrollmentService. The table bounds how long it may take.
func (e *enrollment) Recover(stream grpc.BidiStreamingServer[pb.RecoverRequest, pb.RecoverResponse]) error {
	ctx := stream.Context()
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return status.Error(codes.InvalidArgument, "the first message is hello")
	}
	challenge, err := e.a.Challenge(hello.IdentityKey)
	if err != nil {
		return e.fail(ctx, "recovery", err)
	}
	if err := stream.Send(&pb.RecoverResponse{Message: &pb.RecoverResponse_Challenge{Challenge: challenge.Message()}}); err != nil {
		return err
	}
	second, err := stream.Recv()
	if err != nil {
		return err
	}
	proof := second.GetProof()
	if proof == nil {
		return status.Error(codes.InvalidArgument, "the second message is proof")
	}
	issued, err := challenge.Answer(ctx, proof)
	if err != nil {
		return e.fail(ctx, "recovery", err)
	}
	return stream.Send(&pb.RecoverResponse{Message: &pb.RecoverResponse_Issued{Issued: issued}})
}

// fail is what the caller is told. A refusal is told as it is; what went wrong
// here is logged, and the caller may ask again.
func (e *enrollment) fail(ctx context.Context, what string, err error) error {
	address := CallerOf(ctx).Address
	var d *Denial
	if errors.As(err, &d) {
		e.a.log.Warn(what+" refused", "address", address, "reason", d)
		return d
	}
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	e.a.log.Error(what+" failed", "address", address, "error", err)
	return status.Error(codes.Unavailable, "the controller cannot record it at the moment")
}
