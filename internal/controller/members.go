package controller

import (
	"context"
	"errors"
	"maps"
	"math"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tfofleet/internal/identity"
	pb "tfofleet/proto/tfofleet/v1"
)

// errNoFleet: the controller of a single process has nobody to let in.
var errNoFleet = status.Error(codes.Unimplemented, "this controller serves its own process only")

// mayBe makes sure that a probe speaks for itself. Without an authority the
// wire is memory, and whoever is on it is this process.
func (s *Server) mayBe(ctx context.Context, probe string) error {
	if s.cfg.Authority == nil {
		return nil
	}
	if c := identity.CallerOf(ctx); c.Class != identity.Probes || c.Name != probe {
		return status.Errorf(codes.PermissionDenied, "the certificate is of %q, not of probe %q", c.Name, probe)
	}
	return nil
}

// Renew implements ProbeService.
func (s *Server) Renew(ctx context.Context, req *pb.RenewRequest) (*pb.RenewResponse, error) {
	if s.cfg.Authority == nil {
		return nil, errNoFleet
	}
	issued, err := s.cfg.Authority.Renew(ctx, identity.CallerOf(ctx), req.GetCsr())
	if err != nil {
		return nil, memberError(err)
	}
	return &pb.RenewResponse{Issued: issued}, nil
}

// CreateJoinToken implements ControlService.
func (s *Server) CreateJoinToken(ctx context.Context, req *pb.CreateJoinTokenRequest) (*pb.CreateJoinTokenResponse, error) {
	if s.cfg.Authority == nil {
		return nil, errNoFleet
	}
	if req.GetUses() > math.MaxInt32 {
		return nil, status.Errorf(codes.InvalidArgument, "%d uses", req.GetUses())
	}
	addresses := req.GetAddresses()
	if len(addresses) == 0 {
		addresses = s.cfg.Addresses
	}
	token, err := s.cfg.Authority.CreateToken(ctx, identity.TokenSpec{
		Addresses: addresses, Uses: int(req.GetUses()), TTL: req.GetTtl().AsDuration(),
		Labels: identity.Labels(maps.Clone(req.GetLabels())), Prefix: req.GetPrefix(),
	})
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	text, err := token.Encode()
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return &pb.CreateJoinTokenResponse{Id: token.ID, Token: text}, nil
}

// ListJoinTokens implements ControlService.
func (s *Server) ListJoinTokens(ctx context.Context, _ *pb.ListJoinTokensRequest) (*pb.ListJoinTokensResponse, error) {
	if s.cfg.Authority == nil {
		return nil, errNoFleet
	}
	tokens, err := s.cfg.Authority.Tokens(ctx)
	if err != nil {
		return nil, memberError(err)
	}
	resp := &pb.ListJoinTokensResponse{}
	for _, t := range tokens {
		resp.Tokens = append(resp.Tokens, &pb.JoinToken{
			Id: t.ID, Uses: uint32(t.Uses), Used: uint32(t.Used), Labels: t.Labels, Prefix: t.Prefix,
			Created: moment(t.Created), Expires: moment(t.Expires), Revoked: moment(t.Revoked),
		})
	}
	return resp, nil
}

// RevokeJoinToken implements ControlService.
func (s *Server) RevokeJoinToken(ctx context.Context, req *pb.RevokeJoinTokenRequest) (*pb.RevokeJoinTokenResponse, error) {
	if s.cfg.Authority == nil {
		return nil, errNoFleet
	}
	if err := s.cfg.Authority.RevokeToken(ctx, req.GetId()); err != nil {
		return nil, memberError(err)
	}
	return &pb.RevokeJoinTokenResponse{}, nil
}

// ListProbes implements ControlService.
func (s *Server) ListProbes(ctx context.Context, _ *pb.ListProbesRequest) (*pb.ListProbesResponse, error) {
	if s.cfg.Authority == nil {
		return nil, errNoFleet
	}
	members, err := s.cfg.Authority.Members(ctx, identity.KindProbe)
	if err != nil {
		return nil, memberError(err)
	}
	resp := &pb.ListProbesResponse{}
	for _, m := range members {
		resp.Probes = append(resp.Probes, s.info(m))
	}
	return resp, nil
}

// GetProbe implements ControlService.
func (s *Server) GetProbe(ctx context.Context, req *pb.GetProbeRequest) (*pb.GetProbeResponse, error) {
	all, err := s.ListProbes(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, p := range all.GetProbes() {
		if p.GetName() == req.GetProbe() {
			return &pb.GetProbeResponse{Probe: p}, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "no probe is called %q", req.GetProbe())
}

// BanProbe implements ControlService.
func (s *Server) BanProbe(ctx context.Context, req *pb.BanProbeRequest) (*pb.BanProbeResponse, error) {
	if s.cfg.Authority == nil {
		return nil, errNoFleet
	}
	if err := s.cfg.Authority.Ban(ctx, identity.KindProbe, req.GetProbe(), req.GetReason()); err != nil {
		return nil, memberError(err)
	}
	return &pb.BanProbeResponse{}, nil
}

// info joins the record of a probe with its session, if there is one here.
func (s *Server) info(m identity.Member) *pb.ProbeInfo {
	info := &pb.ProbeInfo{
		Name: m.Name, Labels: m.Labels, Token: m.Token, Joined: moment(m.Created), Recoveries: uint32(m.Recoveries),
		Banned: moment(m.Banned), BanReason: m.BanReason,
	}
	s.mu.Lock()
	p, ok := s.sessions[m.Name]
	s.mu.Unlock()
	if ok {
		info.ConnectedSince, info.Address, info.Version, info.Host = moment(p.since), p.address, p.version, p.host
		p.mu.Lock()
		info.LastHeard, info.Held = moment(p.heard), p.held
		p.mu.Unlock()
	}
	return info
}

// moment is absent for the zero time.
func moment(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// memberError is rpcError for what comes from the authority.
func memberError(err error) error {
	if errors.Is(err, identity.ErrNotFound) {
		return status.Error(codes.NotFound, err.Error())
	}
	if d, ok := identity.DenialOf(err); ok {
		return d
	}
	return rpcError(err)
}
