package controller

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/measure"
	"tfofleet/internal/mesh"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// meshMember is a probe's part in it.
type meshMember struct {
	probe, instance string
	session         string // its newest
	host            *pb.Host
	version         string
	observed        netip.Addr // its address as seen from here
	near            measure.NearPath
	awaySince       time.Time
	lost            bool

	listen, connect *task
	listening       []*pb.Listening
	listenOver      bool
	deaf            bool // it missed arrivals, or they cannot be read
	connectOver     bool
	peers, reported int // pairs of which it is the client, and its results
	arrivals        []*tfo.Arrival
	strangers       int // of these, those that do not say that they are of the mesh
	alarms          []tfo.Alarm
}

// gather finds out who takes part: probes that are connected, here or to another
// controller. Those of another one are asked to come here, for a task is its
// controller's alone.
func (m *meshRun) gather(ctx context.Context, tell func(*pb.RunMeshResponse) error) error {
	all, err := m.s.candidates(ctx)
	if err != nil {
		return err
	}
	at, err := m.s.whereabouts(ctx)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(c candidate) bool { return at[c.name] == "" })
	names, err := choose(all, m.req.GetProbes(), m.req.GetSeed())
	if err != nil {
		return status.Errorf(codes.FailedPrecondition, "%v; probes of a mesh are connected", err)
	}
	if n := len(names) * (len(names) - 1) * len(m.req.GetPorts()) * len(m.families()); n > maxPairs {
		return status.Errorf(codes.InvalidArgument, "a mesh of %d measurements is more than the %d that fit: select fewer probes or ports", n, maxPairs)
	}
	here, err := m.summon(ctx, tell, names, at)
	if err != nil {
		return err
	}
	if len(here) < 2 {
		why := append([]string{fmt.Sprintf("a mesh takes two probes or more that are connected, not %d", len(here))}, m.state.GetTroubles()...)
		return status.Error(codes.FailedPrecondition, strings.Join(why, "; "))
	}
	m.members = make(map[string]*meshMember)
	for name, p := range here {
		member := &meshMember{probe: name, instance: p.instance, session: p.id, host: p.host, version: p.version}
		if host, _, err := net.SplitHostPort(p.address); err == nil {
			if a, err := netip.ParseAddr(host); err == nil {
				member.observed = a.Unmap()
			}
		}
		m.members[name] = member
	}
	return nil
}

// whereabouts is the controller that each connected probe is connected to.
func (s *Server) whereabouts(ctx context.Context) (map[string]string, error) {
	at := make(map[string]string)
	if s.cfg.Shared {
		sessions, err := s.cfg.Store.Sessions(ctx, s.stale())
		if err != nil {
			return nil, err
		}
		for _, session := range sessions {
			if session.Controller != s.cfg.Name {
				at[session.Probe] = session.Controller
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.sessions {
		at[name] = s.cfg.Name
	}
	return at, nil
}

// summon has probes come here from the controllers where they are, and returns
// the sessions of those that are here. The others are troubles; the user hears of
// them before anything starts.
func (m *meshRun) summon(ctx context.Context, tell func(*pb.RunMeshResponse) error, names []string, at map[string]string) (here map[string]*session, err error) {
	here = make(map[string]*session)
	look := func() (away []string) {
		m.s.mu.Lock()
		defer m.s.mu.Unlock()
		for _, name := range names {
			if p, ok := m.s.sessions[name]; ok {
				here[name] = p
			} else {
				delete(here, name)
				away = append(away, name)
			}
		}
		return away
	}
	away := look()
	if len(away) == 0 {
		return here, nil
	}
	for _, name := range away {
		m.say(name, fmt.Sprintf("is connected to controller %s, and asked to come to %s", at[name], m.s.cfg.Name))
	}
	if err := tell(&m.state); err != nil {
		return nil, err
	}
	if err := m.s.cfg.Store.Summon(ctx, away, m.s.cfg.Addresses); err != nil {
		return nil, err
	}
	late := time.NewTimer(m.s.meshTimes.come)
	defer late.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if away = look(); len(away) == 0 {
			return here, nil
		}
		select {
		case <-tick.C:
		case <-late.C:
			for _, name := range away {
				m.say(name, fmt.Sprintf("did not come from controller %s within %v, and takes no part", at[name], m.s.meshTimes.come))
			}
			return here, nil
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		case <-m.s.drained:
			return nil, errStopping
		}
	}
}

// families are those that are measured: whether each is IPv6.
func (m *meshRun) families() []bool {
	switch m.req.GetFamily() {
	case pb.Family_FAMILY_IPV4:
		return []bool{false}
	case pb.Family_FAMILY_IPV6:
		return []bool{true}
	}
	return []bool{false, true}
}

// reachable is where others may reach a probe: its own addresses, and the one
// that is seen from here, which may be its NAT's.
func (p *meshMember) reachable() mesh.Member {
	l := mesh.Member{Probe: p.probe}
	add := func(a netip.Addr) {
		to := &l.V6
		if a.Is4() {
			to = &l.V4
		}
		if a.IsValid() && !slices.Contains(*to, a) {
			*to = append(*to, a)
		}
	}
	for _, open := range p.listening {
		if open.GetFailed() == "" {
			l.Ports = append(l.Ports, uint16(open.GetPort()))
		}
		for _, b := range open.GetAddresses() {
			if a, ok := netip.AddrFromSlice(b); ok {
				add(a.Unmap())
			}
		}
	}
	if !p.observed.IsLoopback() {
		add(p.observed)
	}
	return l
}
