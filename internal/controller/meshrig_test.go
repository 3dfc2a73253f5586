package controller_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/agent"
	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// member is a probe whose part in meshes is as its test has it. Without a say of
// the test, it listens, measures every peer at once, hears nothing, and reports.
type member struct {
	t    *testing.T
	name string
	line *line
	stop func() // SIGTERM
	// welcome is closed by the first one.
	welcome chan struct{}

	// take, if set, is asked how a task is taken; nil means as ever.
	take func(*work) *pb.TaskState
	// end, if set, is called when a task is ended; true: that was all.
	end func(*work) bool

	mu    sync.Mutex
	known map[string]*work
	begun []string // kinds of the tasks that were asked for, also again
	ended []string // kinds of those that were ended
}

// work is a task of a member.
type work struct {
	*pb.Task
	member *member
	report func(context.Context, *pb.ReportTaskRequest) (bool, error)
	part   uint32
}

func (w *work) kind() string {
	if w.GetListen() != nil {
		return "listen"
	}
	return "connect"
}

// send reports the next part.
func (w *work) send(req *pb.ReportTaskRequest) (over bool) {
	req.Id, req.Part = w.GetId(), w.part
	w.part++
	over, err := w.report(ctx, req)
	if code := status.Code(err); err != nil && code != codes.Unavailable && code != codes.Canceled { // these: the test is over
		w.member.t.Errorf("%s, part %d: %v", w.kind(), req.GetPart(), err)
	}
	return over
}

// last reports the last part.
func (w *work) last() { w.send(&pb.ReportTaskRequest{Last: true}) }

// measurements are those of all peers of the task.
func (w *work) measurements() (all []measure.Measurement) {
	for _, p := range w.GetConnect().GetPeers() {
		a, _ := netip.AddrFromSlice(p.GetAddresses()[0])
		all = append(all, agenttest.Healthy(measure.Target{Item: uint64(p.GetIndex()), Addr: a, Port: uint16(p.GetPort())}))
	}
	return all
}

func (w *work) measured(ms []measure.Measurement) *pb.ReportTaskRequest {
	b, err := measure.EncodeBatch(ms)
	if err != nil {
		w.member.t.Error(err)
	}
	return &pb.ReportTaskRequest{Measurements: b}
}

// listening says that all ports are open.
func (w *work) listening() *pb.TaskState {
	s := &pb.TaskState{Id: w.GetId()}
	for _, l := range w.GetListen().GetListeners() {
		s.Listening = append(s.Listening, &pb.Listening{Port: l.GetPort(), Queue: 1, Addresses: [][]byte{{192, 0, 2, w.member.name[0]}}})
	}
	return s
}

func (w *work) taken() *pb.TaskState { return &pb.TaskState{Id: w.GetId()} }

// Start implements agent.Tasks.
func (m *member) Start(t *pb.Task, report func(context.Context, *pb.ReportTaskRequest) (bool, error)) *pb.TaskState {
	m.mu.Lock()
	w := m.known[t.GetId()]
	again := w != nil
	if !again {
		w = &work{Task: t, member: m, report: report}
		m.known[t.GetId()] = w
	}
	m.begun = append(m.begun, w.kind())
	m.mu.Unlock()
	if m.take != nil {
		if s := m.take(w); s != nil {
			return s
		}
	}
	if t.GetListen() != nil {
		return w.listening()
	}
	if !again {
		go func() {
			w.send(w.measured(w.measurements()))
			w.last()
		}()
	}
	return w.taken()
}

// End implements agent.Tasks.
func (m *member) End(id string) {
	m.mu.Lock()
	w := m.known[id]
	delete(m.known, id)
	if w != nil {
		m.ended = append(m.ended, w.kind())
	}
	m.mu.Unlock()
	if w == nil || m.end != nil && m.end(w) {
		return
	}
	if w.GetListen() != nil {
		go w.last()
	}
}

func (m *member) Active() int { return 0 }
func (m *member) Close()      {}

func (m *member) count(kind string) (begun, ended int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	of := func(all []string) int {
		return len(slices.DeleteFunc(slices.Clone(all), func(k string) bool { return k != kind }))
	}
	return of(m.begun), of(m.ended)
}

// line is a connection whose streams can be cut, and that can lead to another
// controller.
type line struct {
	mu   sync.Mutex
	to   *grpc.ClientConn
	down bool
	cuts []context.CancelFunc
}

func (l *line) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return nil, status.Error(codes.Unavailable, "the line is down")
	}
	ctx, cut := context.WithCancel(ctx)
	l.cuts = append(l.cuts, cut)
	return l.to.NewStream(ctx, desc, method, opts...)
}

func (l *line) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	l.mu.Lock()
	to := l.to
	l.mu.Unlock()
	return to.Invoke(ctx, method, args, reply, opts...)
}

// lead has what comes next go to another controller.
func (l *line) lead(to *grpc.ClientConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = to
}

// cut ends all streams. Others can be opened unless the line stays down.
func (l *line) cut(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	for _, cut := range l.cuts {
		cut()
	}
	l.cuts = nil
}

// members starts probes, by their names, and waits until they are connected.
func (r *rig) members(t *testing.T, names ...string) map[string]*member {
	t.Helper()
	all := make(map[string]*member)
	for _, name := range names {
		all[name] = r.member(t, name)
	}
	for _, m := range all {
		<-m.welcome // the test's own time limit ends it
	}
	return all
}

func (r *rig) member(t *testing.T, name string, changes ...func(*agent.Config)) *member {
	t.Helper()
	c, err := r.dial()
	if err != nil {
		t.Fatal(err)
	}
	m := &member{t: t, name: name, line: &line{to: c}, known: make(map[string]*work), welcome: make(chan struct{})}
	cfg := agentConfig(name, &agenttest.Runner{}, m.line, m.line)
	cfg.Tasks, cfg.Flush = m, time.Second
	welcomed := sync.OnceFunc(func() { close(m.welcome) })
	cfg.OnWelcome = func(*pb.Welcome) { welcomed() }
	cfg.Prefer = func(addresses []string) {
		if to, ok := r.others[addresses[0]]; ok {
			m.line.lead(to)
		}
	}
	for _, change := range changes {
		change(&cfg)
	}
	m.stop = run(t, agent.New(cfg))
	return m
}

// meshOn asks for the ports, over IPv4.
func meshOn(ports ...uint32) *pb.RunMeshRequest {
	return &pb.RunMeshRequest{Ports: ports, Family: pb.Family_FAMILY_IPV4, Plan: pb.Plan_PLAN_STANDARD, Timeout: durationpb.New(time.Second), Seed: 7}
}

// mesh runs a mesh, and is what was said last, and how it ended.
func (r *rig) mesh(ctx context.Context, t *testing.T, req *pb.RunMeshRequest) (last *pb.RunMeshResponse, err error) {
	t.Helper()
	stream, err := r.ctl.RunMesh(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if err != nil {
			return last, err
		}
		last = m
	}
}
