package controller

import (
	"context"

	"tfofleet/internal/identity"
	pb "tfofleet/proto/tfofleet/v1"
)

// CreateOperator implements ControlService.
func (s *Server) CreateOperator(ctx context.Context, req *pb.CreateOperatorRequest) (*pb.CreateOperatorResponse, error) {
	if s.cfg.Authority == nil {
		return nil, errNoFleet
	}
	issued, err := s.cfg.Authority.IssueOperator(ctx, req.GetName(), req.GetCsr())
	if err != nil {
		return nil, memberError(err)
	}
	return &pb.CreateOperatorResponse{Issued: issued, Addresses: s.cfg.Addresses}, nil
}

// ListOperators implements ControlService.
func (s *Server) ListOperators(ctx context.Context, _ *pb.ListOperatorsRequest) (*pb.ListOperatorsResponse, error) {
	if s.cfg.Authority == nil {
		return nil, errNoFleet
	}
	all, err := s.cfg.Authority.Operators(ctx)
	if err != nil {
		return nil, memberError(err)
	}
	resp := &pb.ListOperatorsResponse{}
	for _, o := range all {
		resp.Operators = append(resp.Operators, &pb.OperatorInfo{
			Name: o.Name, Created: moment(o.Created), Expires: moment(o.Expires), Banned: moment(o.Banned), BanReason: o.BanReason,
		})
	}
	return resp, nil
}

// BanOperator implements ControlService.
func (s *Server) BanOperator(ctx context.Context, req *pb.BanOperatorRequest) (*pb.BanOperatorResponse, error) {
	if s.cfg.Authority == nil {
		return nil, errNoFleet
	}
	if err := s.cfg.Authority.Ban(ctx, identity.KindOperator, req.GetName(), req.GetReason()); err != nil {
		return nil, memberError(err)
	}
	return &pb.BanOperatorResponse{}, nil
}
