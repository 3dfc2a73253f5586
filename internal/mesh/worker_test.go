package mesh_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/measure"
	"tfofleet/internal/mesh"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// pairTo is one measurement of a port of a host.
func pairTo(h lab.Host, port uint16) []mesh.Pair {
	return []mesh.Pair{{Client: "client", Server: h.Name, Port: port, Address: []netip.Addr{h.V4}}}
}

// measured has a member make the measurement of one pair.
func measured(t *testing.T, m *member, id string, pairs []mesh.Pair) measure.Measurement {
	t.Helper()
	if state := m.worker.Start(connectTask(id, pairs, []measure.Nonce{{1}}), m.desk.report); state.GetRefused() != "" {
		t.Fatal(state.GetRefused())
	}
	wait(t, "the measurement", m.desk.over(id))
	return m.desk.measurements[len(m.desk.measurements)-1]
}

// open reports whether a connection to a port of a host succeeds.
func open(t *testing.T, from, to lab.Host, port uint16) bool {
	t.Helper()
	err := lab.In(from.NetNS, func() error {
		c, err := net.DialTimeout("tcp", netip.AddrPortFrom(to.V4, port).String(), 5*time.Second)
		if err == nil {
			c.Close()
		}
		return err
	})
	return err == nil
}

// TestReportsFail: while reports fail, or their answers are lost, nothing is
// lost and the order stays.
func TestReportsFail(t *testing.T) {
	t.Parallel()
	l := labtest.NewMesh(t, lab.MeshConfig{Seed: 1, Hosts: 3})
	members := membersOf(t, l)
	var failed atomic.Int32
	for _, m := range members {
		broken := map[string]bool{}
		m.desk.fail = func(req *pb.ReportTaskRequest) (bool, error) { // every part once
			key := fmt.Sprint(req.GetId(), req.GetPart())
			if broken[key] {
				return false, nil
			}
			broken[key] = true
			failed.Add(1)
			return false, errors.New("the controller is away")
		}
	}
	for _, m := range meet(t, members, 80) {
		if m.Verdict != measure.JointSupported || m.Unmatched > 0 {
			t.Error(m)
		}
	}
	if n := failed.Load(); n < 4*int32(len(members)) {
		t.Errorf("only %d reports failed", n)
	}
}

// TestNobodyWantsIt: a controller that says over ends both kinds of task, and
// gets nothing more.
func TestNobodyWantsIt(t *testing.T) {
	t.Parallel()
	l := labtest.NewMesh(t, lab.MeshConfig{Seed: 1, Hosts: 2})
	server, client := newMember(t, l.Host(0), nil), newMember(t, l.Host(1), nil)
	var reports atomic.Int32
	over := func(*pb.ReportTaskRequest) (bool, error) { reports.Add(1); return true, nil }
	server.desk.fail, client.desk.fail = over, over
	reachable(t, "server", server.worker.Start(listenTask("l", time.Hour, 80), server.desk.report))
	client.worker.Start(connectTask("c", pairTo(l.Host(0), 80), []measure.Nonce{{1}}), client.desk.report)
	for client.worker.Active()+server.worker.Active() > 0 { // the test's own time limit ends it
		time.Sleep(time.Millisecond)
	}
	if n := reports.Load(); n != 2 {
		t.Errorf("%d reports, want one of each task", n)
	}
	if open(t, l.Host(1), l.Host(0), 80) {
		t.Error("the port is open after the end of its task")
	}
}

// TestPolicy: what the policy of a probe forbids is not done, and said.
func TestPolicy(t *testing.T) {
	t.Parallel()
	l := labtest.NewMesh(t, lab.MeshConfig{Seed: 1, Hosts: 3})
	forbidden := errors.New("port 81 is not for listening")
	server := newMember(t, l.Host(0), func(c *mesh.Config) {
		c.MayListen = func(port uint16, d time.Duration) ([]netip.Prefix, error) {
			if port == 81 || d > time.Minute {
				return nil, forbidden
			}
			return []netip.Prefix{netip.PrefixFrom(l.Host(1).V4, 32)}, nil
		}
	})
	for _, tt := range []struct {
		task *pb.Task
		want string
	}{
		{listenTask("port", time.Minute, 81), forbidden.Error()},
		{listenTask("time", time.Hour, 80), forbidden.Error()},
		{listenTask("unbounded", 0, 80), "bounded time"},
		{listenTask("none", time.Minute), "no port"},
		{&pb.Task{Id: "new"}, "not known"},
		{connectTask("nonce", nil, nil), ""},
	} {
		if tt.task.Id == "nonce" {
			tt.task.GetConnect().Peers, tt.want = []*pb.Peer{{Nonce: []byte("short")}}, "nonce of 5 bytes"
		}
		state := server.worker.Start(tt.task, server.desk.report)
		if state.GetId() != tt.task.GetId() || !strings.Contains(state.GetRefused(), tt.want) || state.GetRefused() == "" {
			t.Errorf("%s: %v", tt.task.GetId(), state)
		}
	}
	if n := server.worker.Active(); n != 0 {
		t.Errorf("%d tasks that were refused are under way", n)
	}

	// One port of two: the other is open.
	state := server.worker.Start(listenTask("l", time.Minute, 81, 80), server.desk.report)
	if open := state.GetListening(); state.GetRefused() != "" || len(open) != 2 || open[0].GetFailed() != forbidden.Error() || open[1].GetFailed() != "" || len(open[1].GetAddresses()) != 2 {
		t.Fatalf("one port of two: %v", state)
	}
	if again := server.worker.Start(listenTask("l", time.Minute, 82), server.desk.report); !proto.Equal(again, state) {
		t.Errorf("a task that is known: %v", again)
	}
	if state := server.worker.Start(listenTask("l2", time.Minute, 80), server.desk.report); !strings.Contains(state.GetRefused(), "address already in use") {
		t.Errorf("a port that is taken: %v", state)
	}

	// Who is not to be answered is not, and it is seen that he came.
	allowed, other := newMember(t, l.Host(1), nil), newMember(t, l.Host(2), nil)
	if m := measured(t, allowed, "c", pairTo(l.Host(0), 80)); m.Verdict != measure.Supported {
		t.Errorf("an allowed source: %v", m.Verdict)
	}
	measured(t, other, "c", pairTo(l.Host(0), 80))
	server.worker.End("l")
	wait(t, "the last part", server.desk.over("l"))
	ends := map[netip.Addr][]tfo.ArrivalEnd{}
	for _, a := range server.desk.arrivals {
		ends[a.Peer.Addr().Unmap()] = append(ends[a.Peer.Addr().Unmap()], a.End)
	}
	if got := slices.Compact(ends[l.Host(1).V4]); !slices.Equal(got, []tfo.ArrivalEnd{tfo.ArrivalServed}) {
		t.Errorf("an allowed source: %v", got)
	}
	if got := slices.Compact(ends[l.Host(2).V4]); !slices.Equal(got, []tfo.ArrivalEnd{tfo.ArrivalRefused}) {
		t.Errorf("another source: %v", got)
	}

	// And nothing leaves that may not.
	careful := newMember(t, l.Host(2), func(c *mesh.Config) {
		c.Permit = func(measure.Target) (measure.Condition, bool) { return measure.CondRefused("test"), false }
	})
	pairs := pairTo(l.Host(0), 80)
	pairs[0].Address = append(pairs[0].Address, l.Host(1).V4) // two: it would have to look which one answers
	m := measured(t, careful, "careful", pairs)
	if m.Outcome != measure.OutcomeRefused || !slices.Contains(m.Conditions, measure.CondRefused("test")) {
		t.Errorf("what the policy forbids: %v %v", m.Outcome, m.Conditions)
	}
	if j := mesh.Judge(mesh.Ends{Plan: measure.Standard, Client: &m}); j.Verdict != measure.JointInconclusive {
		t.Errorf("what the policy forbids is %v", j.Verdict)
	}
}

// TestPolicyTakesBack: a port that the policy allowed is closed when it does not
// any more, or for others, and what was heard is not taken for all there was.
func TestPolicyTakesBack(t *testing.T) {
	t.Parallel()
	l := labtest.NewMesh(t, lab.MeshConfig{Seed: 1, Hosts: 2})
	for name, change := range map[string]func(sources *[]netip.Prefix) error{
		"stopped":       func(*[]netip.Prefix) error { return errors.New("kill switch") },
		"other sources": func(s *[]netip.Prefix) error { *s = (*s)[:1]; return nil },
	} {
		var changed atomic.Bool
		m := newMember(t, l.Host(0), func(c *mesh.Config) {
			c.MayListen = func(uint16, time.Duration) ([]netip.Prefix, error) {
				sources := []netip.Prefix{netip.PrefixFrom(l.Host(1).V4, 32), netip.PrefixFrom(l.Host(1).V6, 128)}
				if changed.Load() {
					return sources, change(&sources)
				}
				return sources, nil
			}
		})
		failed := make(chan string, 1)
		m.desk.fail = func(req *pb.ReportTaskRequest) (bool, error) {
			if req.GetLast() {
				failed <- req.GetFailed()
			}
			return false, nil
		}
		reachable(t, "h0", m.worker.Start(listenTask("l", time.Hour, 80), m.desk.report))
		if !open(t, l.Host(1), l.Host(0), 80) {
			t.Errorf("%s: closed from the start", name)
		}
		changed.Store(true)
		wait(t, "the last part", m.desk.over("l"))
		if why := <-failed; why == "" {
			t.Errorf("%s: the last part says that all was well", name)
		}
		if open(t, l.Host(1), l.Host(0), 80) {
			t.Errorf("%s: open still", name)
		}
	}
}

// TestLifetime: a listener closes when its time has come, also when nobody ends
// it, and each port has its own.
func TestLifetime(t *testing.T) {
	t.Parallel()
	l := labtest.NewMesh(t, lab.MeshConfig{Seed: 1, Hosts: 2})
	m := newMember(t, l.Host(0), nil)
	task := listenTask("l", 50*time.Millisecond, 80, 81)
	task.GetListen().GetListeners()[1].Lifetime.Seconds = 3600
	reachable(t, "h0", m.worker.Start(task, m.desk.report))
	for open(t, l.Host(1), l.Host(0), 80) { // the test's own time limit ends it
	}
	if !open(t, l.Host(1), l.Host(0), 81) {
		t.Error("a port was closed before its time")
	}
	brief := newMember(t, l.Host(1), nil)
	reachable(t, "h1", brief.worker.Start(listenTask("l", 50*time.Millisecond, 80), brief.desk.report))
	wait(t, "the last part", brief.desk.over("l"))
}

// TestClose ends all tasks, with their reports; after it there are none.
func TestClose(t *testing.T) {
	t.Parallel()
	dead := lab.MeshPath{Name: "dead", Truth: measure.JointOffline, Rules: []lab.Rule{{On: lab.Forward, Do: lab.Drop}}}
	l := labtest.NewMesh(t, lab.MeshConfig{Seed: 1, Hosts: 2, Paths: map[lab.Way]lab.MeshPath{{From: 0, To: 1}: dead}})
	m := newMember(t, l.Host(0), nil)
	reachable(t, "h0", m.worker.Start(listenTask("l", time.Hour, 80), m.desk.report))
	m.worker.Start(connectTask("c", pairTo(l.Host(1), 80), []measure.Nonce{{1}}), m.desk.report) // would take long
	if n := m.worker.Active(); n != 2 {
		t.Errorf("%d tasks", n)
	}
	m.worker.End("nobody's")
	m.worker.Close()
	for _, id := range []string{"l", "c"} {
		select {
		case <-m.desk.over(id):
		default:
			t.Errorf("task %s has no last part", id)
		}
	}
	if n := m.worker.Active(); n != 0 {
		t.Errorf("%d tasks after Close", n)
	}
	if state := m.worker.Start(listenTask("late", time.Minute, 80), m.desk.report); state.GetRefused() == "" {
		t.Errorf("a task after Close: %v", state)
	}
	m.worker.Close()
}

// TestSeveralAddresses: of several addresses of a peer the one that answers is
// measured, also at a port where it does not.
func TestSeveralAddresses(t *testing.T) {
	t.Parallel()
	l := labtest.NewMesh(t, lab.MeshConfig{Seed: 1, Hosts: 3})
	server, client := newMember(t, l.Host(0), nil), newMember(t, l.Host(1), nil)
	reachable(t, "h0", server.worker.Start(listenTask("l", time.Minute, 80), server.desk.report))
	pairs := pairTo(l.Host(2), 80) // where nobody listens
	pairs[0].Address = append(pairs[0].Address, l.Host(0).V4)
	if m := measured(t, client, "c", pairs); m.Addr != l.Host(0).V4 || m.Verdict != measure.Supported {
		t.Errorf("%v: %v", m.Addr, m.Verdict)
	}
	for _, port := range []uint16{81, 80} {
		two := append(slices.Clone(pairs), pairs[0])
		two[0].Port, two[1].Index, two[1].Port = port, 1, 161-port
		client.worker.Start(connectTask("c"+fmt.Sprint(port), two, []measure.Nonce{{1}, {2}}), client.desk.report)
		wait(t, "the measurements", client.desk.over("c"+fmt.Sprint(port)))
		for _, m := range client.desk.measurements[len(client.desk.measurements)-2:] {
			if m.Addr != l.Host(0).V4 || m.Verdict != map[uint16]measure.Verdict{80: measure.Supported, 81: measure.Offline}[m.Port] {
				t.Errorf("%v, port %d: %v", m.Addr, m.Port, m.Verdict)
			}
		}
	}
	if m := measured(t, client, "none answers", pairTo(l.Host(2), 80)); m.Addr != l.Host(2).V4 || m.Verdict != measure.Offline {
		t.Errorf("%v: %v", m.Addr, m.Verdict)
	}
	if m := measured(t, client, "no address", []mesh.Pair{{Port: 80}}); m.Outcome != measure.OutcomeRefused || !slices.Contains(m.Conditions, measure.CondRefused("not_an_address")) {
		t.Errorf("no address: %v", m.Outcome)
	}
}

// TestNotItself: an address that a peer and this host both have is this host's,
// and is not taken for the peer, although its own listener answers there. Where
// it has to be looked who answers, that is in the log of contacts too.
func TestNotItself(t *testing.T) {
	t.Parallel()
	l := labtest.NewMesh(t, lab.MeshConfig{Seed: 1, Hosts: 3})
	var mu sync.Mutex
	contacts := map[netip.Addr]int{}
	server := newMember(t, l.Host(0), nil)
	client := newMember(t, l.Host(1), func(c *mesh.Config) {
		c.Contacted = func(at netip.AddrPort) error {
			mu.Lock()
			defer mu.Unlock()
			contacts[at.Addr()]++
			return nil
		}
	})
	for _, m := range []*member{server, client} {
		reachable(t, m.name, m.worker.Start(listenTask("l", time.Minute, 80), m.desk.report))
	}
	pairs := pairTo(l.Host(1), 80)
	pairs[0].Address = append(pairs[0].Address, l.Host(2).V4, l.Host(0).V4) // nobody listens on the second
	if m := measured(t, client, "c", pairs); m.Addr != l.Host(0).V4 || m.Verdict != measure.Supported {
		t.Errorf("%v: %v", m.Addr, m.Verdict)
	}
	if contacts[l.Host(1).V4] != 0 || contacts[l.Host(2).V4] != 1 || contacts[l.Host(0).V4] != 2 {
		t.Errorf("contacts %v", contacts)
	}
}

// TestOwnAddresses: without any that are given, they are those of the host's
// interfaces, loopback left out.
func TestOwnAddresses(t *testing.T) {
	t.Parallel()
	l := labtest.NewMesh(t, lab.MeshConfig{Seed: 1, Hosts: 1})
	h := l.Host(0)
	m := newMember(t, h, func(c *mesh.Config) { c.Addresses = nil })
	at := reachable(t, "h0", m.worker.Start(listenTask("l", time.Minute, 80), m.desk.report))
	if !slices.Contains(at.V4, h.V4) || !slices.Contains(at.V6, h.V6) || slices.Contains(at.V4, netip.MustParseAddr("127.0.0.1")) {
		t.Errorf("%v", at)
	}
}
