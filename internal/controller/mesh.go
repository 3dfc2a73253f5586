package controller

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/mesh"
	"tfofleet/internal/targets"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

const (
	// meshLifetime is that of a mesh, where nothing else was asked for.
	meshLifetime = 5 * time.Minute
	// meshPatience is with a connection, at its listener, and with an attempt.
	meshPatience = 5 * time.Second
	// maxPairs bounds what a mesh has in memory: a pair takes about 12 kB.
	maxPairs = 50_000
)

// meshTimes is the patience with the probes of a mesh.
type meshTimes struct {
	come     time.Duration // for a probe that is connected elsewhere
	answer   time.Duration // until a probe says whether it listens
	away     time.Duration // without a session, until its side is lost
	lastPart time.Duration // for the last report of a task that was ended
}

var usualMeshTimes = meshTimes{come: 20 * time.Second, answer: 15 * time.Second, away: 10 * time.Second, lastPart: 20 * time.Second}

// meshRun is a mesh under way.
type meshRun struct {
	s   *Server
	id  string
	req *pb.RunMeshRequest
	// What is not measured after lifetime is given up.
	lifetime time.Duration
	until    time.Time
	begun    time.Time
	changed  signal
	members  map[string]*meshMember // by probe
	pairs    []mesh.Pair
	nonces   []measure.Nonce // by pair
	results  []*measure.Measurement
	state    pb.RunMeshResponse
	writer   *dataset.Writer
}

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
	alarms          []tfo.Alarm
}

// RunMesh implements ControlService.
func (s *Server) RunMesh(req *pb.RunMeshRequest, stream grpc.ServerStreamingServer[pb.RunMeshResponse]) error {
	slices.Sort(req.GetPorts())
	req.Ports = slices.Compact(req.GetPorts())
	if n := len(req.GetPorts()); n == 0 || req.GetPorts()[0] == 0 || req.GetPorts()[n-1] > 65535 {
		return status.Error(codes.InvalidArgument, "a mesh needs ports from 1 to 65535")
	}
	lifetime := cmp.Or(req.GetLifetime().AsDuration(), meshLifetime)
	if lifetime < 0 || req.GetTimeout().AsDuration() < 0 || req.GetRate() < 0 {
		return status.Error(codes.InvalidArgument, "a lifetime, a timeout or a rate below 0")
	}
	if _, ok := pb.Plan_name[int32(req.GetPlan())]; !ok || req.GetPlan() == 0 {
		return status.Error(codes.InvalidArgument, "a mesh needs a plan")
	}
	if _, ok := familyNames[req.GetFamily()]; !ok {
		return status.Error(codes.InvalidArgument, "a mesh needs an address family: any, 4 or 6")
	}
	m := &meshRun{s: s, id: newID(), req: req, lifetime: lifetime}
	if err := m.gather(stream.Context(), stream.Send); err != nil {
		return rpcError(err)
	}
	m.begun, m.until = s.cfg.Now().UTC(), time.Now().Add(lifetime)
	if err := m.create(); err != nil {
		return rpcError(err)
	}
	defer m.forget()
	if err := m.run(stream.Context(), stream.Send); err != nil {
		m.abandon()
		return err
	}
	return nil
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

// run takes a mesh through its phases, and tells how far it is.
func (m *meshRun) run(ctx context.Context, tell func(*pb.RunMeshResponse) error) error {
	m.state.Mesh, m.state.Probes = m.id, uint32(len(m.members))
	m.askToListen()
	if err := m.phase(ctx, tell, pb.MeshPhase_MESH_PHASE_LISTENING, min(m.s.meshTimes.answer, time.Until(m.until)), func(p *meshMember) bool { return p.listening != nil }); err != nil {
		return err
	}
	m.askToConnect()
	if err := m.phase(ctx, tell, pb.MeshPhase_MESH_PHASE_MEASURING, time.Until(m.until), func(p *meshMember) bool { return p.connectOver }); err != nil {
		return err
	}
	for _, p := range m.sorted() {
		if !p.lost && p.listenOver && len(p.reachable().Ports) > 0 {
			p.deaf = true
			m.trouble(p, "closed its listeners before all were done: what came later is not known")
		}
		m.s.endTask(p.listen)
	}
	if err := m.phase(ctx, tell, pb.MeshPhase_MESH_PHASE_JOINING, m.s.meshTimes.lastPart, func(p *meshMember) bool { return p.listenOver && p.connectOver }); err != nil {
		return err
	}
	if err := m.write(); err != nil {
		return rpcError(err)
	}
	m.state.Phase = pb.MeshPhase_MESH_PHASE_DONE
	return tell(&m.state)
}

// askToListen gives every probe its ports, for as long as the mesh may take: its
// policy may allow not a second more.
func (m *meshRun) askToListen() {
	lifetime := durationpb.New(max(0, time.Until(m.until)))
	for _, p := range m.sorted() {
		work := &pb.ListenTask{}
		for _, port := range m.req.GetPorts() {
			work.Listeners = append(work.Listeners, &pb.ListenSpec{Port: port, Lifetime: lifetime, Patience: durationpb.New(meshPatience)})
		}
		p.listen = m.s.giveTask(p.probe, &pb.Task{Work: &pb.Task_Listen{Listen: work}}, m.changed.notify)
	}
}

// askToConnect plans the pairs and gives every probe its own.
func (m *meshRun) askToConnect() {
	var probes []mesh.Member
	for _, p := range m.sorted() {
		if p.lost {
			continue
		}
		where := p.reachable()
		probes = append(probes, where)
		if len(where.Ports) > 0 {
			m.state.Listening++
		}
	}
	m.pairs = mesh.Plan(probes, m.families(), m.req.GetSeed())
	m.nonces = make([]measure.Nonce, len(m.pairs))
	m.results = make([]*measure.Measurement, len(m.pairs))
	m.state.Planned = uint32(len(m.pairs))
	for i := range probes {
		name := probes[i].Probe
		p := m.members[name]
		work := &pb.ConnectTask{Plan: m.req.GetPlan(), Payload: pb.Payload_PAYLOAD_AUTO, Timeout: m.req.GetTimeout(), Rate: m.req.GetRate()}
		for _, pair := range mesh.Of(m.pairs, name) {
			m.nonces[pair.Index] = measure.NewNonce()
			peer := &pb.Peer{Index: uint32(pair.Index), Nonce: m.nonces[pair.Index][:], Port: uint32(pair.Port)}
			for _, a := range pair.Address {
				peer.Addresses = append(peer.Addresses, a.AsSlice())
			}
			work.Peers = append(work.Peers, peer)
		}
		p.peers = len(work.Peers)
		if p.connectOver = p.peers == 0; !p.connectOver {
			p.connect = m.s.giveTask(name, &pb.Task{Work: &pb.Task_Connect{Connect: work}}, m.changed.notify)
		}
	}
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

// phase waits until all that are not lost have done their part, or too long, and
// tells how far it is meanwhile.
func (m *meshRun) phase(ctx context.Context, tell func(*pb.RunMeshResponse) error, phase pb.MeshPhase, patience time.Duration, done func(*meshMember) bool) error {
	m.state.Phase = phase
	late := time.NewTimer(patience)
	defer late.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	told := time.Time{}
	for {
		changed := m.changed.next()
		m.look()
		waits := slices.ContainsFunc(m.sorted(), func(p *meshMember) bool { return !p.lost && !done(p) })
		if !waits || time.Since(told) > watchInterval {
			if err := tell(&m.state); err != nil {
				return err
			}
			told = time.Now()
		}
		if !waits {
			return nil
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-late.C:
			m.giveUp(phase, done)
			return nil
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-m.s.drained:
			return errStopping
		}
	}
}

// giveUp says who has not done his part in time.
func (m *meshRun) giveUp(phase pb.MeshPhase, done func(*meshMember) bool) {
	for _, p := range m.sorted() {
		if p.lost || done(p) {
			continue
		}
		switch phase {
		case pb.MeshPhase_MESH_PHASE_LISTENING:
			m.trouble(p, "did not say whether it listens")
			p.listening, p.listenOver = []*pb.Listening{}, true
			m.s.endTask(p.listen)
		case pb.MeshPhase_MESH_PHASE_MEASURING:
			m.trouble(p, fmt.Sprintf("is not done within the %v that the mesh may take: it made %d of %d measurements", m.lifetime, p.reported, p.peers))
			m.s.endTask(p.connect)
		case pb.MeshPhase_MESH_PHASE_JOINING:
			if !p.listenOver {
				p.deaf = true
				m.trouble(p, "did not report all that its listeners saw")
			}
		}
	}
}

// look takes what came since the last look, and notes who is away.
func (m *meshRun) look() {
	now := time.Now()
	for _, p := range m.sorted() {
		m.s.mu.Lock()
		session := m.s.sessions[p.probe]
		m.s.mu.Unlock()
		switch {
		case session == nil && p.awaySince.IsZero():
			p.awaySince = now
		case session == nil:
			if now.Sub(p.awaySince) > m.s.meshTimes.away {
				m.lose(p, "is gone")
			}
		case session.instance != p.instance:
			m.lose(p, "was started again, and knows nothing of the mesh")
		default:
			p.awaySince = time.Time{}
			p.near = session.near()
			if session.id != p.session {
				p.session = session.id
				m.s.remind(p.listen)
				m.s.remind(p.connect)
			}
		}
		taken, parts, over := p.listen.take()
		if taken != nil && p.listening == nil {
			m.listens(p, taken)
		}
		m.heard(p, parts)
		p.listenOver = p.listenOver || over
		if p.connect == nil {
			continue
		}
		taken, parts, over = p.connect.take()
		m.heard(p, parts)
		if taken.GetRefused() != "" && !p.connectOver {
			m.trouble(p, "does not connect: "+taken.GetRefused())
		}
		p.connectOver = p.connectOver || over
	}
}

func (m *meshRun) lose(p *meshMember, how string) {
	if !p.lost {
		p.lost = true
		m.trouble(p, how)
	}
}

func (m *meshRun) listens(p *meshMember, taken *pb.TaskState) {
	p.listening = taken.GetListening()
	if p.listening == nil {
		p.listening = []*pb.Listening{}
	}
	if why := taken.GetRefused(); why != "" {
		m.trouble(p, "does not listen: "+why)
		return
	}
	for _, l := range p.listening {
		if l.GetFailed() != "" {
			m.trouble(p, fmt.Sprintf("does not listen on port %d: %s", l.GetPort(), l.GetFailed()))
		}
	}
}

// heard takes parts of what came of a probe's tasks.
func (m *meshRun) heard(p *meshMember, parts []*pb.ReportTaskRequest) {
	for _, part := range parts {
		if why := part.GetFailed(); why != "" {
			p.deaf = true
			m.trouble(p, "did not do all that it was asked: "+why)
		}
		if len(part.GetArrivals()) > 0 {
			arrivals, alarms, err := measure.DecodeArrivals(part.GetArrivals())
			if err != nil {
				p.deaf = true
				m.trouble(p, "reports arrivals that cannot be read: "+err.Error())
				continue
			}
			p.arrivals, p.alarms = append(p.arrivals, arrivals...), append(p.alarms, alarms...)
		}
		if len(part.GetMeasurements()) > 0 {
			ms, err := measure.DecodeBatch(part.GetMeasurements())
			if err != nil {
				m.trouble(p, "reports measurements that cannot be read: "+err.Error())
				continue
			}
			for i := range ms {
				at := ms[i].Item
				if at < uint64(len(m.pairs)) && m.pairs[at].Client == p.probe && m.results[at] == nil {
					ms[i].Observed = p.observed
					if near, faulty := p.near.Condition(); faulty {
						ms[i].Conditions = append(ms[i].Conditions, near)
						slices.Sort(ms[i].Conditions)
					}
					m.results[at] = &ms[i]
					p.reported++
					switch ms[i].Outcome {
					case measure.OutcomeMeasured:
						m.state.Measured++
					case measure.OutcomeRefused:
						m.state.Refused++
					}
					if slices.Contains(ms[i].Conditions, noAddress) {
						m.troubleOnce(p, "knows no address of probe "+m.pairs[at].Server+" but its own: probes on one host do not measure each other")
					}
				}
			}
		}
	}
}

func (m *meshRun) trouble(p *meshMember, what string) { m.say(p.probe, what) }

func (m *meshRun) say(probe, what string) {
	m.state.Troubles = append(m.state.Troubles, "probe "+probe+" "+what)
}

func (m *meshRun) troubleOnce(p *meshMember, what string) {
	if !slices.Contains(m.state.Troubles, "probe "+p.probe+" "+what) {
		m.trouble(p, what)
	}
}

// noAddress is of a pair whose client found no address to dial.
var noAddress = measure.CondRefused(targets.ReasonNotAnAddress)

func (m *meshRun) sorted() []*meshMember {
	return slices.SortedFunc(maps.Values(m.members), func(a, b *meshMember) int { return cmp.Compare(a.probe, b.probe) })
}

// forget ends what probes do for the mesh.
func (m *meshRun) forget() {
	for _, p := range m.sorted() {
		m.s.forgetTask(p.listen)
		m.s.forgetTask(p.connect)
	}
}
