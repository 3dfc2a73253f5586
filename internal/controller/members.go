package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tfofleet/internal/identity"
	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
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

// Reflect implements ProbeService.
func (s *Server) Reflect(_ context.Context, req *pb.ReflectRequest) (*pb.ReflectResponse, error) {
	if s.cfg.Mirror == nil {
		return nil, status.Error(codes.FailedPrecondition, "this controller has no TFO listener")
	}
	if len(req.GetNonce()) != len(measure.Nonce{}) {
		return nil, status.Errorf(codes.InvalidArgument, "a nonce of %d bytes", len(req.GetNonce()))
	}
	return &pb.ReflectResponse{Seen: s.cfg.Mirror.Seen(measure.Nonce(req.GetNonce()))}, nil
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
		return nil, memberError(err)
	}
	text, err := token.Encode()
	if err != nil {
		return nil, memberError(err)
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
	known, err := s.cfg.Store.AllProbes(ctx)
	if err != nil {
		return nil, rpcError(err)
	}
	open, err := s.cfg.Store.Sessions(ctx, s.stale())
	if err != nil {
		return nil, rpcError(err)
	}
	probes, sessions := make(map[string]store.Probe), make(map[string]store.Session)
	for _, p := range known {
		probes[p.Name] = p
	}
	for _, session := range open {
		sessions[session.Probe] = session
	}
	resp := &pb.ListProbesResponse{}
	for _, m := range members {
		info, err := s.info(m, probes[m.Name], sessions[m.Name])
		if err != nil {
			return nil, rpcError(err)
		}
		resp.Probes = append(resp.Probes, info)
	}
	return resp, nil
}

// maxEvents is how many events of a probe an operator is shown.
const maxEvents = 50

// GetProbe implements ControlService.
func (s *Server) GetProbe(ctx context.Context, req *pb.GetProbeRequest) (*pb.GetProbeResponse, error) {
	all, err := s.ListProbes(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, p := range all.GetProbes() {
		if p.GetName() == req.GetProbe() {
			p.Events, err = s.cfg.Store.Events(ctx, p.GetName(), maxEvents)
			if err != nil {
				return nil, rpcError(err)
			}
			return &pb.GetProbeResponse{Probe: p}, nil
		}
	}
	return nil, errNoProbe(req.GetProbe())
}

func errNoProbe(name string) error {
	return status.Errorf(codes.NotFound, "no probe is called %q", name)
}

// BanProbe implements ControlService.
func (s *Server) BanProbe(ctx context.Context, req *pb.BanProbeRequest) (*pb.BanProbeResponse, error) {
	if s.cfg.Authority == nil {
		return nil, errNoFleet
	}
	if err := s.cfg.Authority.Ban(ctx, identity.KindProbe, req.GetProbe(), req.GetReason()); err != nil {
		return nil, memberError(err)
	}
	if err := s.disown(ctx, req.GetProbe()); err != nil {
		return nil, rpcError(err)
	}
	return &pb.BanProbeResponse{}, nil
}

// disown takes from a banned probe what it holds, for others, and gives up what
// nobody else may measure. When it fails it may be called again.
func (s *Server) disown(ctx context.Context, probe string) error {
	held, err := s.cfg.Store.HeldBy(ctx, probe)
	if err != nil {
		return err
	}
	var keys []store.Key
	for _, c := range held {
		keys = append(keys, c.Key)
	}
	if err := s.applyAll(keys, lease.Forgotten{Probe: probe}); err != nil {
		return err
	}
	pinned, err := s.cfg.Store.Pinned(ctx, probe)
	if err != nil {
		return err
	}
	return s.applyAll(pinned, lease.GiveUp{})
}

// DrainProbe implements ControlService.
func (s *Server) DrainProbe(ctx context.Context, req *pb.DrainProbeRequest) (*pb.DrainProbeResponse, error) {
	if s.cfg.Authority == nil {
		return nil, errNoFleet
	}
	if err := s.isMember(ctx, req.GetProbe()); err != nil {
		return nil, err
	}
	if err := s.cfg.Store.DrainProbe(ctx, req.GetProbe(), !req.GetUndo()); err != nil {
		return nil, rpcError(err)
	}
	s.work.notify()
	return &pb.DrainProbeResponse{}, nil
}

// LimitProbe implements ControlService. A probe that is connected to another
// controller hears of it when that one looks at the store.
func (s *Server) LimitProbe(ctx context.Context, req *pb.LimitProbeRequest) (*pb.LimitProbeResponse, error) {
	if s.cfg.Authority == nil {
		return nil, errNoFleet
	}
	rate := req.GetLimits().GetRate()
	if !(rate >= 0) {
		return nil, status.Errorf(codes.InvalidArgument, "rate %v: want 0 (no limit) or more", rate)
	}
	if err := s.isMember(ctx, req.GetProbe()); err != nil {
		return nil, err
	}
	if err := s.cfg.Store.LimitProbe(ctx, req.GetProbe(), rate); err != nil {
		return nil, rpcError(err)
	}
	s.mu.Lock()
	p, ok := s.sessions[req.GetProbe()]
	s.mu.Unlock()
	if ok {
		p.limit(rate)
	}
	return &pb.LimitProbeResponse{}, nil
}

// isMember refuses the name of nobody.
func (s *Server) isMember(ctx context.Context, probe string) error {
	members, err := s.cfg.Authority.Members(ctx, identity.KindProbe)
	if err != nil {
		return memberError(err)
	}
	if !slices.ContainsFunc(members, func(m identity.Member) bool { return m.Name == probe }) {
		return errNoProbe(probe)
	}
	return nil
}

// info joins what is known of a probe: its membership, what it said of itself,
// and its open session, if there is one.
func (s *Server) info(m identity.Member, p store.Probe, open store.Session) (*pb.ProbeInfo, error) {
	info := &pb.ProbeInfo{}
	if err := proto.Unmarshal(open.State, info); err != nil {
		return nil, fmt.Errorf("session of probe %s: %w", m.Name, err)
	}
	info.Name, info.Labels, info.Token, info.Joined, info.Recoveries = m.Name, m.Labels, m.Token, moment(m.Created), uint32(m.Recoveries)
	info.Banned, info.BanReason = moment(m.Banned), m.BanReason
	info.Drained = p.Drained
	if p.Rate > 0 {
		info.Limits = &pb.Limits{Rate: p.Rate}
	}
	if open.Probe == "" {
		info.Version, info.Host = p.Version, p.Host
		return info, nil
	}
	info.ConnectedSince, info.LastHeard, info.Controller = moment(open.Since), moment(open.Heard), open.Controller
	if since := info.GetStatus().GetSinceResult(); since != nil {
		info.LastResult = moment(open.Heard.Add(-since.AsDuration()))
	}
	return info, nil
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
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, identity.ErrInvalid):
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if d, ok := identity.DenialOf(err); ok {
		return d
	}
	return rpcError(err)
}
