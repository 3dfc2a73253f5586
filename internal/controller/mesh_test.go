package controller_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/agent"
	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/controller"
	"tfofleet/internal/dataset"
	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// pairs are the rows of the only mesh, by client and server: how many of them
// have a joint verdict, and of how many an end was lost.
func pairs(t *testing.T, dir string) (joined, lost map[string]int) {
	t.Helper()
	joined, lost = map[string]int{}, map[string]int{}
	for r, err := range dataset.ReadMesh(dir) {
		if err != nil {
			t.Fatal(err)
		}
		name := r.Client + r.Server
		switch {
		case r.Verdict == measure.JointPeerLost:
			lost[name]++
		case r.Doubt != measure.DoubtRefused:
			joined[name]++
		}
	}
	return joined, lost
}

func sum(m map[string]int) (n int) {
	for _, k := range m {
		n += k
	}
	return n
}

// done checks that a mesh ended in good order, with these troubles and no other in
// any order, and that its dataset has what it says.
func done(t *testing.T, r *rig, last *pb.RunMeshResponse, err error, troubles ...string) {
	t.Helper()
	if err != nil || last.GetPhase() != pb.MeshPhase_MESH_PHASE_DONE {
		t.Fatalf("%v, %v", last, err)
	}
	got := last.GetTroubles()
	if len(got) != len(troubles) {
		t.Errorf("troubles %q", got)
	}
	for _, want := range troubles {
		if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("troubles %q, want %q", got, want)
		}
	}
	joined, lost := pairs(t, r.dir)
	if sum(joined) != int(last.GetJoined()) || sum(lost) != int(last.GetLost()) || last.GetJoined()+last.GetLost()+last.GetRefused() != last.GetPlanned() {
		t.Errorf("the dataset has %v joined and %v lost; said was %v", joined, lost, last)
	}
	doc, err := dataset.ReadSurvey(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	c := doc.Counts
	if doc.ID != last.GetMesh() || doc.State != dataset.StateDone || c.Planned != uint64(last.GetPlanned()) || c.Planned != c.Measured+c.Refused+c.Interrupted+c.Lost || len(doc.Probes) != int(last.GetProbes()) {
		t.Errorf("survey.json: %+v", doc)
	}
	measured := uint64(0)
	for rec, err := range dataset.Read(r.dir) {
		if err != nil {
			t.Fatal(err)
		}
		if rec.Survey != last.GetMesh() {
			t.Errorf("a measurement of %s", rec.Survey)
		}
		measured++
	}
	if measured != uint64(last.GetMeasured()+last.GetRefused()) || measured != c.Planned-c.Lost {
		t.Errorf("%d measurements, want %d", measured, last.GetMeasured())
	}
}

// TestMesh: every ordered pair is measured, written, and exported under the
// mesh's id. Ports that are asked for twice are one.
func TestMesh(t *testing.T) {
	t.Parallel()
	r := open(t, t.TempDir())
	all := r.members(t, "a", "b", "c")
	const lifetime = 10 * time.Minute // it may be all that a policy lets a probe listen
	for _, m := range all {
		m.take = func(w *work) *pb.TaskState {
			for _, l := range w.GetListen().GetListeners() {
				if d := l.GetLifetime().AsDuration(); d > lifetime || d < lifetime-time.Minute {
					t.Errorf("%s is to listen for %v", m.name, d)
				}
			}
			return nil
		}
	}
	req := meshOn(443, 80, 443)
	req.Lifetime = durationpb.New(lifetime)
	last, err := r.mesh(ctx, t, req)
	done(t, r, last, err)
	if joined, _ := pairs(t, r.dir); len(joined) != 6 || sum(joined) != 12 {
		t.Errorf("pairs %v", joined)
	}
	for name, m := range all {
		for _, kind := range []string{"listen", "connect"} {
			// It is told of the end when the mesh is over.
			r.await(t, name+" is asked to end it", func() bool { _, ended := m.count(kind); return ended > 0 })
			if begun, ended := m.count(kind); begun != 1 || ended != 1 {
				t.Errorf("%s was asked to %s %d times, and to end it %d times", name, kind, begun, ended)
			}
		}
	}
	var names []string
	stream, err := r.ctl.ListResults(ctx, &pb.ListResultsRequest{Survey: last.GetMesh()})
	if err != nil {
		t.Fatal(err)
	}
	files, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files.GetFiles() {
		names = append(names, f.GetName())
	}
	table := "mesh/" + last.GetMesh() + ".parquet"
	if !slices.Contains(names, table) || !slices.Contains(names, "survey.json") {
		t.Fatalf("files %v", names)
	}
	want, err := os.ReadFile(filepath.Join(r.dir, table))
	if err != nil {
		t.Fatal(err)
	}
	export, err := r.ctl.ExportResults(ctx, &pb.ExportResultsRequest{Survey: last.GetMesh(), Files: []string{table}})
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	for {
		part, err := export.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, part.GetData()...)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes are exported, the table has %d", len(got), len(want))
	}
}

// TestMeshNearPath: what a probe's self-test found goes with its measurements, and
// with no others.
func TestMeshNearPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st := sqlite(t, dir, store.Options{Rules: lease.DefaultRules(10 * time.Second)})
	r := serveFor(t, controller.Config{
		Dir: dir, Dataset: func(string) string { return dir }, Store: st, Heartbeat: 100 * time.Millisecond, TTL: 10 * time.Second, Reflectors: []string{"192.0.2.9:1"},
	})
	found := map[string]pb.NearPath{"a": pb.NearPath_NEAR_PATH_CLEAN, "b": pb.NearPath_NEAR_PATH_STRIPS_OPTION}
	for name, path := range found {
		r.member(t, name, func(c *agent.Config) {
			c.SelfTest = func(context.Context, []string) (pb.NearPath, string, error) { return path, "", nil }
		})
	}
	late := time.Now().Add(time.Minute)
	for known := 0; known < len(found); {
		known = 0
		all, err := st.Sessions(ctx, time.Minute)
		if err != nil || time.Now().After(late) {
			t.Fatalf("%d of the self-tests are known: %v", known, err)
		}
		for _, s := range all {
			var p pb.ProbeInfo
			if err := proto.Unmarshal(s.State, &p); err != nil {
				t.Fatal(err)
			}
			if p.GetStatus().GetNearPath() == found[s.Probe] {
				known++
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	last, err := r.mesh(ctx, t, meshOn(80))
	done(t, r, last, err)
	for rec, err := range dataset.Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(rec.Conditions, measure.CondNearPathStripsOption); got != (rec.Probe == "b") || !slices.IsSorted(rec.Conditions) {
			t.Errorf("%s: %v", rec.Probe, rec.Conditions)
		}
	}
}

// TestMeshTroubles: whatever a probe does or does not do, what depends on it is
// lost, everything else is joined, and it is said.
func TestMeshTroubles(t *testing.T) {
	t.Parallel()
	hang := func(kind string) func(*work) *pb.TaskState {
		return func(w *work) *pb.TaskState {
			if w.kind() != kind {
				return nil
			}
			return w.taken()
		}
	}
	for _, tt := range []struct {
		name     string
		b        func(r *rig, b *member) // what b does in a mesh of a, b and c
		planned  int
		lost     map[string]int
		troubles []string
		hurry    bool // something has to be waited for
		brief    bool // and the mesh may take 3 s
	}{
		{
			name: "does not listen",
			b: func(_ *rig, b *member) {
				b.take = func(w *work) *pb.TaskState {
					if w.kind() == "listen" {
						return &pb.TaskState{Id: w.GetId(), Refused: "not here"}
					}
					return nil
				}
			},
			planned: 8, troubles: []string{"probe b does not listen: not here"},
		}, {
			name: "listens on one port",
			b: func(_ *rig, b *member) {
				b.take = func(w *work) *pb.TaskState {
					if w.kind() != "listen" {
						return nil
					}
					s := w.listening()
					s.Listening[0].Failed = "taken"
					return s
				}
			},
			planned: 10, troubles: []string{"probe b does not listen on port 80: taken"},
		}, {
			name: "does not connect",
			b: func(_ *rig, b *member) {
				b.take = func(w *work) *pb.TaskState {
					if w.kind() == "connect" {
						return &pb.TaskState{Id: w.GetId(), Refused: "not me"}
					}
					return nil
				}
			},
			planned: 12, lost: map[string]int{"ba": 2, "bc": 2}, troubles: []string{"probe b does not connect: not me"},
		}, {
			name: "may not connect to some",
			b: func(_ *rig, b *member) {
				b.take = func(w *work) *pb.TaskState {
					if w.kind() != "connect" {
						return nil
					}
					ms := w.measurements()
					for i, reason := range []string{"port", "budget", "port"} {
						ms[i] = measure.Measurement{Target: ms[i].Target, Outcome: measure.OutcomeRefused, Verdict: measure.Inconclusive, Conditions: []measure.Condition{measure.CondRefused(reason)}}
					}
					go func() { w.send(w.measured(ms)); w.last() }()
					return w.taken()
				}
			},
			planned: 12, troubles: []string{"probe b refuses 3 of 4 measurements by its policy: budget, port"},
		}, {
			name: "says nothing of its listeners",
			b: func(_ *rig, b *member) {
				b.take = func(w *work) *pb.TaskState {
					if w.kind() == "listen" {
						return &pb.TaskState{Id: "another"}
					}
					return nil
				}
			},
			planned: 8, troubles: []string{"probe b did not say whether it listens"}, hurry: true,
		}, {
			name: "closes too early",
			b: func(_ *rig, b *member) {
				b.take = func(w *work) *pb.TaskState {
					if w.kind() == "listen" {
						go w.last()
					}
					return nil
				}
			},
			planned: 12, lost: map[string]int{"ab": 2, "cb": 2}, troubles: []string{"probe b closed its listeners before all were done"},
		}, {
			name: "may not listen any more",
			b: func(_ *rig, b *member) {
				b.end = func(w *work) bool {
					if w.kind() == "listen" {
						go w.send(&pb.ReportTaskRequest{Last: true, Failed: "the kill switch is on"})
					}
					return w.kind() == "listen"
				}
			},
			planned: 12, lost: map[string]int{"ab": 2, "cb": 2}, troubles: []string{"probe b did not do all that it was asked: the kill switch is on"},
		}, {
			name: "is on the host of another",
			b: func(_ *rig, b *member) {
				b.take = func(w *work) *pb.TaskState {
					if w.kind() != "connect" {
						return nil
					}
					all := w.measurements()
					for i, p := range w.GetConnect().GetPeers() {
						if p.GetAddresses()[0][3] == 'a' {
							all[i] = measure.Measurement{Target: measure.Target{Item: all[i].Item, Port: all[i].Port}, Outcome: measure.OutcomeRefused,
								Verdict: measure.Inconclusive, Conditions: []measure.Condition{measure.CondRefused("not_an_address")}}
						}
					}
					go func() {
						w.send(w.measured(all))
						w.last()
					}()
					return w.taken()
				}
			},
			planned: 12, troubles: []string{"probe b knows no address of probe a but its own"},
		}, {
			name:    "never comes to its end",
			b:       func(_ *rig, b *member) { b.take = hang("connect"); b.end = func(*work) bool { return true } },
			planned: 12, lost: map[string]int{"ba": 2, "bc": 2, "ab": 2, "cb": 2},
			troubles: []string{"probe b is not done within the 3s that the mesh may take: it made 0 of 4 measurements", "probe b did not report all that its listeners saw"},
			hurry:    true, brief: true,
		}, {
			name: "is too slow",
			b: func(_ *rig, b *member) {
				b.take = func(w *work) *pb.TaskState {
					if w.kind() != "connect" {
						return nil
					}
					go w.send(w.measured(w.measurements()[:1]))
					return w.taken()
				}
				b.end = func(w *work) bool {
					if w.kind() == "connect" { // what was under way
						go func() {
							w.send(w.measured(w.measurements()[1:3]))
							w.last()
						}()
					}
					return false
				}
			},
			planned: 12, lost: map[string]int{"b*": 1}, troubles: []string{"it made 1 of 4 measurements"}, hurry: true, brief: true,
		}, {
			name: "reports what nobody can read",
			b: func(_ *rig, b *member) {
				b.take = func(w *work) *pb.TaskState {
					if w.kind() == "listen" {
						go w.send(&pb.ReportTaskRequest{Arrivals: []byte("what?")})
						return nil
					}
					go func() {
						w.send(&pb.ReportTaskRequest{Measurements: []byte("what?")})
						w.last()
					}()
					return w.taken()
				}
			},
			planned: 12, lost: map[string]int{"ba": 2, "bc": 2, "ab": 2, "cb": 2},
			troubles: []string{"probe b reports arrivals that cannot be read", "probe b reports measurements that cannot be read"},
		}, {
			name: "is connected to by strangers without end",
			b: func(_ *rig, b *member) {
				b.take = func(w *work) *pb.TaskState {
					if w.kind() == "listen" {
						part := &pb.ArrivalBatch{}
						for i := range 500 {
							part.Arrivals = append(part.Arrivals, measure.ArrivalToWire(&tfo.Arrival{
								Accepted: time.Now(), Peer: netip.AddrPortFrom(address(i), 1), Local: netip.MustParseAddrPort("192.0.2.1:80"),
							}))
						}
						arrivals, err := measure.EncodeArrivals(part)
						if err != nil {
							b.t.Error(err)
						}
						go func() {
							for range 3 {
								w.send(&pb.ReportTaskRequest{Arrivals: arrivals})
							}
						}()
					}
					return nil
				}
			},
			planned: 12, lost: map[string]int{"ab": 2, "cb": 2}, troubles: []string{"probe b has more connections of strangers than can be kept"},
		}, {
			name: "reports what is not its own",
			b: func(_ *rig, b *member) {
				b.take = func(w *work) *pb.TaskState {
					if w.kind() != "connect" {
						return nil
					}
					go func() {
						all := w.measurements()
						for i := range uint64(20) { // also what does not exist
							m := agenttest.Healthy(all[0].Target)
							m.Item = i
							m.Verdict = measure.Offline
							all = append(all, m)
						}
						w.send(w.measured(all))
						w.last()
					}()
					return w.taken()
				}
			},
			planned: 12,
		}, {
			name:    "is gone",
			b:       func(_ *rig, b *member) { b.take = hang("connect"); b.onConnect(func() { b.line.cut(true) }) },
			planned: 12, lost: map[string]int{"ba": 2, "bc": 2, "ab": 2, "cb": 2}, troubles: []string{"probe b is gone"}, hurry: true,
		}, {
			name: "comes back as another process",
			b: func(r *rig, b *member) {
				b.onConnect(func() {
					b.stop()
					r.member(b.t, "b")
				})
			},
			planned: 12, lost: map[string]int{"ba": 2, "bc": 2, "ab": 2, "cb": 2}, troubles: []string{"probe b was started again"},
		}, {
			name: "does not hear the end of its session",
			b: func(_ *rig, b *member) {
				cut := false
				b.take = func(w *work) *pb.TaskState {
					if w.kind() == "listen" && !cut {
						cut = true
						b.line.cut(false) // what it answers gets lost
					}
					return nil
				}
			},
			planned: 12,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := open(t, t.TempDir())
			if tt.hurry {
				r.server.Hurry(2 * time.Second)
			}
			all := r.members(t, "a", "b", "c")
			tt.b(r, all["b"])
			req := meshOn(80, 443)
			if tt.brief {
				req.Lifetime = durationpb.New(3 * time.Second)
			}
			last, err := r.mesh(ctx, t, req)
			done(t, r, last, err, tt.troubles...)
			if int(last.GetPlanned()) != tt.planned {
				t.Errorf("%d planned, want %d", last.GetPlanned(), tt.planned)
			}
			_, lost := pairs(t, r.dir)
			if n, ok := tt.lost["b*"]; ok {
				if sum(lost) != n || lost["ba"]+lost["bc"] != n {
					t.Errorf("lost %v, want %d of b's", lost, n)
				}
				return
			}
			for name, n := range tt.lost {
				if lost[name] != n {
					t.Errorf("lost %v, want %v", lost, tt.lost)
					break
				}
			}
			if sum(lost) != sum(tt.lost) {
				t.Errorf("lost %v, want %v", lost, tt.lost)
			}
			for r, err := range dataset.ReadMesh(r.dir) {
				if err == nil && r.Client == "b" && r.ClientVerdict == measure.Offline {
					t.Error("a result was replaced")
				}
			}
		})
	}
}

// onConnect calls f when the probe is asked to connect; it never does.
func (m *member) onConnect(f func()) {
	m.take = func(w *work) *pb.TaskState {
		if w.kind() != "connect" {
			return nil
		}
		go f()
		return w.taken()
	}
}

// TestMeshEndIsLost: a probe that has no session when its listeners are to end
// is told when it is back.
func TestMeshEndIsLost(t *testing.T) {
	t.Parallel()
	r := open(t, t.TempDir())
	all := r.members(t, "a", "b")
	a, b := all["a"], all["b"]
	b.take = func(w *work) *pb.TaskState {
		if w.kind() != "connect" {
			return nil
		}
		go func() {
			w.send(w.measured(w.measurements()))
			b.line.cut(true)
			for r.server.Connected("b") { // the test's own time limit ends it
				time.Sleep(time.Millisecond)
			}
			w.last()
		}()
		return w.taken()
	}
	a.end = func(w *work) bool {
		b.line.cut(false)
		return false
	}
	last, err := r.mesh(ctx, t, meshOn(80))
	done(t, r, last, err)
	if last.GetJoined() != 2 {
		t.Errorf("%v", last)
	}
}

// TestMeshParts: parts of reports are taken once, in order, from whom they are.
func TestMeshParts(t *testing.T) {
	t.Parallel()
	r := open(t, t.TempDir())
	all := r.members(t, "a", "b")
	c, err := r.dial()
	if err != nil {
		t.Fatal(err)
	}
	probes := pb.NewProbeServiceClient(c)
	all["b"].take = func(w *work) *pb.TaskState {
		if w.kind() != "connect" {
			return nil
		}
		go func() {
			defer func() { w.part = 3; w.last() }()
			ms := w.measurements()
			for _, part := range []struct {
				from string
				part uint32
				ms   []measure.Measurement
				over bool
				code codes.Code
			}{
				{"a", 0, ms, true, codes.OK}, // another's task is none of its own
				{"b", 0, ms[:1], false, codes.OK},
				{"b", 0, ms[:1], false, codes.OK}, // its answer was lost
				{"b", 2, ms[2:], false, codes.FailedPrecondition},
				{"b", 1, ms[1:2], false, codes.OK},
				{"b", 2, ms[2:], false, codes.OK},
				{"b", 1, ms[2:], false, codes.OK},
			} {
				req := w.measured(part.ms)
				req.Probe, req.Id, req.Part = part.from, w.GetId(), part.part
				resp, err := probes.ReportTask(ctx, req)
				if status.Code(err) != part.code || resp.GetOver() != part.over {
					t.Errorf("part %d from %s: over %v, %v", part.part, part.from, resp.GetOver(), err)
				}
			}
		}()
		return w.taken()
	}
	last, err := r.mesh(ctx, t, meshOn(80, 443, 8443))
	done(t, r, last, err)
	if last.GetMeasured() != 6 || last.GetJoined() != 6 {
		t.Errorf("%v", last)
	}
}

// TestMeshGivenUp: a mesh whose call ends, or whose controller stops, ends what
// the probes do for it, and its dataset says so.
func TestMeshGivenUp(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		leave func(r *rig, cancel func())
		code  codes.Code
	}{
		{"cancelled", func(_ *rig, cancel func()) { cancel() }, codes.Canceled},
		{"stopped", func(r *rig, _ func()) { r.server.Drain() }, codes.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := open(t, t.TempDir())
			all := r.members(t, "a", "b")
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			given := make(chan *work, 1)
			all["b"].take = func(w *work) *pb.TaskState {
				if w.kind() != "connect" {
					return nil
				}
				given <- w
				go tt.leave(r, cancel)
				return w.taken()
			}
			last, err := r.mesh(ctx, t, meshOn(80))
			if status.Code(err) != tt.code {
				t.Fatalf("%v, %v", last, err)
			}
			// Parts are taken until nobody waits for them. The test's own time limit
			// ends it, here and below.
			for w := <-given; !w.send(&pb.ReportTaskRequest{}); {
				time.Sleep(time.Millisecond)
			}
			for _, m := range all {
				for tt.code == codes.Canceled { // of a controller that stops they hear when it is gone
					_, listen := m.count("listen")
					_, connect := m.count("connect")
					if listen == 1 && connect == 1 {
						break
					}
					time.Sleep(time.Millisecond)
				}
			}
			doc, err := dataset.ReadSurvey(r.dir)
			if err != nil || doc.State != dataset.StateCancelled || doc.Counts.Planned != 2 || doc.Counts.Cancelled != 2 || doc.Ended.IsZero() {
				t.Errorf("%+v, %v", doc, err)
			}
		})
	}
}

// TestMeshAsked: what cannot be is refused before a probe hears of it, and those
// that are selected take part, and no other.
func TestMeshAsked(t *testing.T) {
	t.Parallel()
	r := open(t, t.TempDir())
	all := r.members(t, "a", "b", "c")
	var many []uint32
	for p := range uint32(4200) {
		many = append(many, p+1)
	}
	for name, tt := range map[string]struct {
		change func(*pb.RunMeshRequest)
		code   codes.Code
		says   string
	}{
		"no port":          {func(q *pb.RunMeshRequest) { q.Ports = nil }, codes.InvalidArgument, "ports"},
		"port 0":           {func(q *pb.RunMeshRequest) { q.Ports = []uint32{443, 0} }, codes.InvalidArgument, "ports"},
		"port 65536":       {func(q *pb.RunMeshRequest) { q.Ports = []uint32{65536} }, codes.InvalidArgument, "ports"},
		"no plan":          {func(q *pb.RunMeshRequest) { q.Plan = 0 }, codes.InvalidArgument, "plan"},
		"another plan":     {func(q *pb.RunMeshRequest) { q.Plan = 99 }, codes.InvalidArgument, "plan"},
		"no family":        {func(q *pb.RunMeshRequest) { q.Family = 99 }, codes.InvalidArgument, "family"},
		"lifetime below 0": {func(q *pb.RunMeshRequest) { q.Lifetime = negative }, codes.InvalidArgument, "below 0"},
		"too many pairs":   {func(q *pb.RunMeshRequest) { q.Ports, q.Family = many, pb.Family_FAMILY_ANY }, codes.InvalidArgument, "50400 measurements"},
		"one probe":        {func(q *pb.RunMeshRequest) { q.Probes = &pb.ProbeSelector{Names: []string{"a"}} }, codes.FailedPrecondition, "two probes"},
		"nobody's name":    {func(q *pb.RunMeshRequest) { q.Probes = &pb.ProbeSelector{Names: []string{"a", "z"}} }, codes.FailedPrecondition, "z"},
	} {
		req := meshOn(80)
		tt.change(req)
		if _, err := r.mesh(ctx, t, req); status.Code(err) != tt.code || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if begun, _ := all["a"].count("listen"); begun != 0 {
		t.Errorf("%d tasks for what was refused", begun)
	}
	req := meshOn(80)
	req.Probes = &pb.ProbeSelector{Names: []string{"c", "a"}}
	last, err := r.mesh(ctx, t, req)
	done(t, r, last, err)
	if joined, _ := pairs(t, r.dir); len(joined) != 2 || joined["ac"] != 1 || joined["ca"] != 1 {
		t.Errorf("pairs %v", joined)
	}
	if begun, _ := all["b"].count("listen"); begun != 0 {
		t.Error("b was not selected, and listens")
	}
}
