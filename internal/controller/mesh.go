package controller

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/mesh"
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
	own      map[measure.Nonce]bool
	results  []*measure.Measurement
	state    pb.RunMeshResponse
	writer   *dataset.Writer
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
	m.nonces, m.own = make([]measure.Nonce, len(m.pairs)), make(map[measure.Nonce]bool, len(m.pairs))
	m.results = make([]*measure.Measurement, len(m.pairs))
	m.state.Planned = uint32(len(m.pairs))
	for i := range probes {
		name := probes[i].Probe
		p := m.members[name]
		work := &pb.ConnectTask{Plan: m.req.GetPlan(), Payload: pb.Payload_PAYLOAD_AUTO, Timeout: m.req.GetTimeout(), Rate: m.req.GetRate()}
		for _, pair := range mesh.Of(m.pairs, name) {
			m.nonces[pair.Index] = measure.NewNonce()
			m.own[m.nonces[pair.Index]] = true
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
