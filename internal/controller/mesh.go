package controller

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/mesh"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

const (
	// answerTime is how long a probe has to say whether it listens.
	answerTime = 15 * time.Second
	// awayTime is for how long a probe may be without a session until its side of
	// a mesh is lost.
	awayTime = 10 * time.Second
	// lastPartTime is how long a listener has to report after it was ended.
	lastPartTime = 20 * time.Second
	// meshLifetime is that of a mesh, where nothing else was asked for.
	meshLifetime = 5 * time.Minute
	// meshPatience is with a connection, at its listener, and with an attempt.
	meshPatience = 5 * time.Second
	// maxPairs bounds what a mesh has in memory: a pair takes about 12 kB.
	maxPairs = 50_000
)

// meshRun is a mesh under way.
type meshRun struct {
	s       *Server
	id      string
	req     *pb.RunMeshRequest
	begun   time.Time
	changed signal
	members map[string]*meshMember // by probe
	pairs   []mesh.Pair
	nonces  []measure.Nonce // by pair
	results []*measure.Measurement
	state   pb.RunMeshResponse
	writer  *dataset.Writer
}

// meshMember is a probe's part in it.
type meshMember struct {
	probe, instance string
	host            *pb.Host
	version         string
	observed        netip.Addr // its address as seen from here
	awaySince       time.Time
	lost            bool

	listen, connect *task
	listening       []*pb.Listening
	listenOver      bool
	early           bool // its listeners closed before all were done
	connectOver     bool
	arrivals        []*tfo.Arrival
	alarms          []tfo.Alarm
}

// RunMesh implements ControlService.
func (s *Server) RunMesh(req *pb.RunMeshRequest, stream grpc.ServerStreamingServer[pb.RunMeshResponse]) error {
	if len(req.GetPorts()) == 0 || slices.ContainsFunc(req.GetPorts(), func(p uint32) bool { return p == 0 || p > 65535 }) {
		return status.Error(codes.InvalidArgument, "a mesh needs ports from 1 to 65535")
	}
	if _, ok := pb.Plan_name[int32(req.GetPlan())]; !ok || req.GetPlan() == 0 {
		return status.Error(codes.InvalidArgument, "a mesh needs a plan")
	}
	if _, ok := familyNames[req.GetFamily()]; !ok {
		return status.Error(codes.InvalidArgument, "a mesh needs an address family: any, 4 or 6")
	}
	m := &meshRun{s: s, id: newID(), req: req, begun: s.cfg.Now().UTC()}
	ctx, cancel := context.WithTimeout(stream.Context(), cmp.Or(req.GetLifetime().AsDuration(), meshLifetime))
	defer cancel()
	if err := m.gather(ctx); err != nil {
		return rpcError(err)
	}
	if err := m.create(); err != nil {
		return rpcError(err)
	}
	defer m.forget()
	return m.run(ctx, stream.Context(), stream.Send)
}

// gather finds out who takes part: probes with a session here.
func (m *meshRun) gather(ctx context.Context) error {
	all, err := m.s.candidates(ctx)
	if err != nil {
		return err
	}
	m.s.mu.Lock()
	here := maps.Clone(m.s.sessions)
	m.s.mu.Unlock()
	all = slices.DeleteFunc(all, func(c candidate) bool { return here[c.name] == nil })
	names, err := choose(all, m.req.GetProbes(), m.req.GetSeed())
	if err != nil {
		return status.Errorf(codes.FailedPrecondition, "%v; probes of a mesh are connected to this controller", err)
	}
	if len(names) < 2 {
		return status.Errorf(codes.FailedPrecondition, "a mesh takes two probes or more that are connected to this controller, not %d", len(names))
	}
	if n := len(names) * (len(names) - 1) * len(m.req.GetPorts()) * len(m.families()); n > maxPairs {
		return status.Errorf(codes.InvalidArgument, "a mesh of %d measurements is more than the %d that fit: select fewer probes or ports", n, maxPairs)
	}
	m.members = make(map[string]*meshMember)
	for _, name := range names {
		p := here[name]
		member := &meshMember{probe: name, instance: p.instance, host: p.host, version: p.version}
		if host, _, err := net.SplitHostPort(p.address); err == nil {
			if a, err := netip.ParseAddr(host); err == nil {
				member.observed = a.Unmap()
			}
		}
		m.members[name] = member
	}
	return nil
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
func (m *meshRun) run(ctx, caller context.Context, tell func(*pb.RunMeshResponse) error) error {
	m.state.Mesh, m.state.Probes = m.id, uint32(len(m.members))
	m.askToListen(ctx)
	if err := m.phase(caller, tell, pb.MeshPhase_MESH_PHASE_LISTENING, answerTime, func(p *meshMember) bool { return p.listening != nil || p.listenOver }); err != nil {
		return err
	}
	m.askToConnect(ctx)
	left := time.Minute
	if until, ok := ctx.Deadline(); ok {
		left = max(0, time.Until(until))
	}
	if err := m.phase(caller, tell, pb.MeshPhase_MESH_PHASE_MEASURING, left, func(p *meshMember) bool { return p.connectOver }); err != nil {
		return err
	}
	for _, p := range m.sorted() {
		// One that closed by itself missed what came after.
		p.early = p.listenOver && len(p.listening) > 0
		m.s.send(p.probe, &pb.SessionResponse{Message: &pb.SessionResponse_EndTask{EndTask: &pb.EndTask{Id: p.listen.id}}})
	}
	if err := m.phase(caller, tell, pb.MeshPhase_MESH_PHASE_JOINING, lastPartTime, func(p *meshMember) bool { return p.listenOver }); err != nil {
		return err
	}
	if err := m.write(); err != nil {
		return rpcError(err)
	}
	m.state.Phase = pb.MeshPhase_MESH_PHASE_DONE
	return tell(&m.state)
}

// askToListen gives every probe its ports.
func (m *meshRun) askToListen(ctx context.Context) {
	lifetime := time.Minute
	if until, ok := ctx.Deadline(); ok {
		lifetime = time.Until(until) + lastPartTime
	}
	for _, p := range m.sorted() {
		work := &pb.ListenTask{}
		for _, port := range m.req.GetPorts() {
			work.Listeners = append(work.Listeners, &pb.ListenSpec{Port: port, Lifetime: durationpb.New(lifetime), Patience: durationpb.New(meshPatience)})
		}
		p.listen = m.s.tasks.give(p.probe, m.changed.notify)
		m.give(p, &pb.Task{Id: p.listen.id, Work: &pb.Task_Listen{Listen: work}})
	}
}

func (m *meshRun) give(p *meshMember, t *pb.Task) {
	m.s.send(p.probe, &pb.SessionResponse{Message: &pb.SessionResponse_Task{Task: t}})
}

// askToConnect plans the pairs and gives every probe its own.
func (m *meshRun) askToConnect(context.Context) {
	var clients []string
	var servers []mesh.Listening
	for _, p := range m.sorted() {
		if p.lost {
			continue
		}
		clients = append(clients, p.probe)
		if l := p.reachable(); len(l.Ports) > 0 {
			servers = append(servers, l)
			m.state.Listening++
		}
	}
	m.pairs = mesh.Plan(clients, servers, m.families(), m.req.GetSeed())
	m.nonces = make([]measure.Nonce, len(m.pairs))
	m.results = make([]*measure.Measurement, len(m.pairs))
	m.state.Planned = uint32(len(m.pairs))
	for _, name := range clients {
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
		p.connect = m.s.tasks.give(name, m.changed.notify)
		if p.connectOver = len(work.Peers) == 0; !p.connectOver {
			m.give(p, &pb.Task{Id: p.connect.id, Work: &pb.Task_Connect{Connect: work}})
		}
	}
}

// reachable is where others may reach a probe: its own addresses, and the one
// that is seen from here, which may be its NAT's.
func (p *meshMember) reachable() mesh.Listening {
	l := mesh.Listening{Probe: p.probe}
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
		if open.GetFailed() != "" {
			continue
		}
		l.Ports = append(l.Ports, uint16(open.GetPort()))
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
func (m *meshRun) phase(caller context.Context, tell func(*pb.RunMeshResponse) error, phase pb.MeshPhase, patience time.Duration, done func(*meshMember) bool) error {
	m.state.Phase = phase
	late := time.NewTimer(patience)
	defer late.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	told := time.Time{}
	for {
		changed := m.changed.next()
		m.look(phase)
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
		case <-caller.Done():
			return status.FromContextError(caller.Err()).Err()
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
			p.listenOver = true
		case pb.MeshPhase_MESH_PHASE_MEASURING:
			m.trouble(p, "was not done in time")
			m.s.send(p.probe, &pb.SessionResponse{Message: &pb.SessionResponse_EndTask{EndTask: &pb.EndTask{Id: p.connect.id}}})
		case pb.MeshPhase_MESH_PHASE_JOINING:
			m.trouble(p, "did not report all that its listeners saw")
			p.lost = true
		}
	}
}

// look takes what came since the last look, and notes who is away.
func (m *meshRun) look(phase pb.MeshPhase) {
	now := time.Now()
	for _, p := range m.sorted() {
		m.s.mu.Lock()
		session := m.s.sessions[p.probe]
		m.s.mu.Unlock()
		switch {
		case session != nil && session.instance == p.instance:
			p.awaySince = time.Time{}
		case session != nil: // another process, which knows nothing of it
			m.lose(p)
		case p.awaySince.IsZero():
			p.awaySince = now
		case now.Sub(p.awaySince) > awayTime:
			m.lose(p)
		}
		if taken, parts, over := p.listen.take(); true {
			if taken != nil && p.listening == nil && phase == pb.MeshPhase_MESH_PHASE_LISTENING {
				m.listens(p, taken)
			}
			m.heard(p, parts)
			p.listenOver = p.listenOver || over
		}
		if p.connect == nil {
			continue
		}
		taken, parts, over := p.connect.take()
		m.heard(p, parts)
		if taken.GetRefused() != "" && !p.connectOver {
			m.trouble(p, "does not connect: "+taken.GetRefused())
		}
		p.connectOver = p.connectOver || over
	}
}

func (m *meshRun) lose(p *meshMember) {
	if !p.lost {
		p.lost = true
		m.trouble(p, "is gone")
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
		if len(part.GetArrivals()) > 0 {
			arrivals, alarms, err := measure.DecodeArrivals(part.GetArrivals())
			if err != nil {
				m.trouble(p, "reports what cannot be read: "+err.Error())
				continue
			}
			p.arrivals, p.alarms = append(p.arrivals, arrivals...), append(p.alarms, alarms...)
		}
		if len(part.GetMeasurements()) > 0 {
			ms, err := measure.DecodeBatch(part.GetMeasurements())
			if err != nil {
				m.trouble(p, "reports what cannot be read: "+err.Error())
				continue
			}
			for i := range ms {
				at := ms[i].Item
				if at < uint64(len(m.pairs)) && m.pairs[at].Client == p.probe && m.results[at] == nil {
					m.results[at] = &ms[i]
					m.state.Measured++
				}
			}
		}
	}
}

func (m *meshRun) trouble(p *meshMember, what string) {
	m.state.Troubles = append(m.state.Troubles, "probe "+p.probe+" "+what)
}

func (m *meshRun) sorted() []*meshMember {
	return slices.SortedFunc(maps.Values(m.members), func(a, b *meshMember) int { return cmp.Compare(a.probe, b.probe) })
}

// forget ends what probes do for the mesh.
func (m *meshRun) forget() {
	for _, p := range m.sorted() {
		for _, t := range []*task{p.listen, p.connect} {
			if t != nil {
				m.s.tasks.forget(t)
				m.s.send(p.probe, &pb.SessionResponse{Message: &pb.SessionResponse_EndTask{EndTask: &pb.EndTask{Id: t.id}}})
			}
		}
	}
}

// create begins the dataset of the mesh.
func (m *meshRun) create() (err error) {
	m.writer, err = dataset.Create(m.s.cfg.Dataset(m.id), m.document(dataset.StateRunning))
	return err
}

func (m *meshRun) document(state dataset.State) *dataset.Survey {
	timeout := cmp.Or(m.req.GetTimeout().AsDuration(), meshPatience)
	doc := &dataset.Survey{
		ID: m.id, Name: m.req.GetName(), State: state, Created: m.begun,
		Spec: dataset.Spec{
			Plan: measure.Plan(m.req.GetPlan()).String(), Family: familyNames[m.req.GetFamily()], Payload: payloadNames[pb.Payload_PAYLOAD_AUTO],
			Seed: m.req.GetSeed(), Rate: m.req.GetRate(), TimeoutUS: timeout.Microseconds(), ChunkSize: 1,
		},
		Versions: map[string]string{"controller": m.s.cfg.Version, "go": runtime.Version()},
		Counts:   dataset.Counts{Planned: uint64(m.state.GetPlanned()), Verdicts: make(map[string]uint64)},
		Probes:   []dataset.Probe{},
	}
	for _, p := range m.sorted() {
		doc.Probes = append(doc.Probes, probeDocument(p.probe, p.version, p.host))
	}
	for _, r := range m.results {
		if r == nil {
			doc.Counts.Lost++
			continue
		}
		switch r.Outcome {
		case measure.OutcomeMeasured:
			doc.Counts.Measured++
			doc.Counts.Verdicts[r.Verdict.String()]++
		case measure.OutcomeRefused:
			doc.Counts.Refused++
		default:
			doc.Counts.Interrupted++
		}
	}
	if state != dataset.StateRunning {
		doc.Ended = m.s.cfg.Now().UTC()
	}
	return doc
}

// write joins the ends of every pair and writes the dataset.
func (m *meshRun) write() (err error) {
	rows := make([]dataset.MeshRow, len(m.pairs))
	byClient := make(map[string][]measure.Measurement)
	heard := make(map[string]*mesh.Heard)
	for i, pair := range m.pairs {
		server := m.members[pair.Server]
		if heard[pair.Server] == nil {
			heard[pair.Server] = mesh.Hear(server.arrivals, server.alarms)
		}
		ends := mesh.Ends{
			Plan: measure.Plan(m.req.GetPlan()), Payload: measure.PayloadAuto, Nonce: m.nonces[i], Client: m.results[i],
			ServerLost: server.lost || server.early,
		}
		ends.Arrivals, ends.Alarms = heard[pair.Server].Of(ends.Nonce, ends.Client)
		j := mesh.Judge(ends)
		if rows[i], err = m.row(pair, &ends, &j); err != nil {
			return err
		}
		if j.Verdict == measure.JointPeerLost {
			m.state.Lost++
		} else {
			m.state.Joined++
		}
		if r := m.results[i]; r != nil {
			byClient[pair.Client] = append(byClient[pair.Client], *r)
		}
	}
	for n, client := range slices.Sorted(maps.Keys(byClient)) {
		if err := m.writer.WriteChunk(dataset.ChunkKey{Survey: m.id, Probe: client, Chunk: uint32(n)}, byClient[client]); err != nil {
			return err
		}
	}
	if err := m.writer.WriteMesh(rows); err != nil {
		return err
	}
	return m.writer.PutSurvey(m.document(dataset.StateDone))
}

// row is what the dataset has of a pair.
func (m *meshRun) row(pair mesh.Pair, ends *mesh.Ends, j *measure.Judgement) (r dataset.MeshRow, err error) {
	r = dataset.MeshRow{
		Mesh: m.id, Client: pair.Client, Server: pair.Server, Family: 4, Port: pair.Port, Address: pair.Address[0], Item: uint64(pair.Index),
		ClientLost: ends.Client == nil, ServerLost: ends.ServerLost, Nonce: ends.Nonce,
	}
	if pair.V6 {
		r.Family = 6
	}
	if c := ends.Client; c != nil {
		r.Started, r.Address, r.ClientVerdict = c.Started, c.Addr, c.Verdict
	}
	r.Judged(j)
	r.Evidence, err = ends.Evidence()
	return r, err
}
