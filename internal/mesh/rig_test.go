package mesh_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/measure"
	"tfofleet/internal/mesh"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

func TestMain(m *testing.M) { os.Exit(labtest.Main(m)) }

// desk is the controller's side of a worker: it takes the parts of tasks, and
// counts what is wrong with their order.
type desk struct {
	t *testing.T
	// fail, if set, is asked before a part is taken.
	fail func(*pb.ReportTaskRequest) (over bool, err error)

	mu           sync.Mutex
	next         map[string]uint32
	last         map[string]chan struct{}
	arrivals     []*tfo.Arrival
	alarms       []tfo.Alarm
	measurements []measure.Measurement
}

func newDesk(t *testing.T) *desk {
	return &desk{t: t, next: map[string]uint32{}, last: map[string]chan struct{}{}}
}

// over is closed when the last part of a task was taken.
func (d *desk) over(id string) chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.overLocked(id)
}

func (d *desk) overLocked(id string) chan struct{} {
	if d.last[id] == nil {
		d.last[id] = make(chan struct{})
	}
	return d.last[id]
}

func (d *desk) report(_ context.Context, req *pb.ReportTaskRequest) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		if over, err := d.fail(req); over || err != nil {
			return over, err
		}
	}
	if req.GetPart() != d.next[req.GetId()] {
		d.t.Errorf("task %s: part %d, want %d", req.GetId(), req.GetPart(), d.next[req.GetId()])
	}
	d.next[req.GetId()]++
	if req.GetLast() && len(req.GetArrivals())+len(req.GetMeasurements()) > 0 {
		d.t.Errorf("task %s: the last part is not empty", req.GetId())
	}
	if len(req.GetArrivals()) > 0 {
		arrivals, alarms, err := measure.DecodeArrivals(req.GetArrivals())
		if err != nil {
			d.t.Error(err)
		}
		d.arrivals, d.alarms = append(d.arrivals, arrivals...), append(d.alarms, alarms...)
	}
	if len(req.GetMeasurements()) > 0 {
		ms, err := measure.DecodeBatch(req.GetMeasurements())
		if err != nil {
			d.t.Error(err)
		}
		d.measurements = append(d.measurements, ms...)
	}
	if req.GetLast() {
		close(d.overLocked(req.GetId()))
	}
	return false, nil
}

// member is a probe of a test: a worker on a host, and its desk.
type member struct {
	name   string
	host   lab.Host
	worker *mesh.Worker
	desk   *desk
}

func newMember(t *testing.T, h lab.Host, change func(*mesh.Config)) *member {
	cfg := mesh.Config{
		NetNS: tfo.NetNS(h.NetNS), Keys: []tfo.Key{{byte(len(h.Name)), h.Name[len(h.Name)-1]}}, Logger: hclog.New(&hclog.LoggerOptions{Output: t.Output()}),
		Addresses: func() ([]netip.Addr, error) { return []netip.Addr{h.V4, h.V6}, nil },
	}
	if change != nil {
		change(&cfg)
	}
	m := &member{h.Name, h, mesh.NewWorker(cfg), newDesk(t)}
	t.Cleanup(m.worker.Close)
	return m
}

// wait is for what has to come; a test that waits longer has failed.
func wait(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatalf("%s never came", what)
	}
}

func listenTask(id string, lifetime time.Duration, ports ...uint16) *pb.Task {
	work := &pb.ListenTask{}
	for _, p := range ports {
		work.Listeners = append(work.Listeners, &pb.ListenSpec{Port: uint32(p), Lifetime: durationpb.New(lifetime), Patience: durationpb.New(2 * time.Second)})
	}
	return &pb.Task{Id: id, Work: &pb.Task_Listen{Listen: work}}
}

// reachable is where a listener says that it is.
func reachable(t *testing.T, name string, state *pb.TaskState) mesh.Member {
	t.Helper()
	if state.GetRefused() != "" {
		t.Fatalf("%s does not listen: %s", name, state.GetRefused())
	}
	l := mesh.Member{Probe: name}
	for i, open := range state.GetListening() {
		if open.GetFailed() != "" || open.GetQueue() == 0 {
			t.Fatalf("%s: %v", name, open)
		}
		l.Ports = append(l.Ports, uint16(open.GetPort()))
		for _, b := range open.GetAddresses() {
			if a, _ := netip.AddrFromSlice(b); i > 0 {
			} else if a.Is4() {
				l.V4 = append(l.V4, a)
			} else {
				l.V6 = append(l.V6, a)
			}
		}
	}
	return l
}

func connectTask(id string, pairs []mesh.Pair, nonces []measure.Nonce) *pb.Task {
	work := &pb.ConnectTask{Plan: pb.Plan_PLAN_STANDARD, Payload: pb.Payload_PAYLOAD_AUTO, Timeout: durationpb.New(2 * time.Second)}
	for _, p := range pairs {
		peer := &pb.Peer{Index: uint32(p.Index), Nonce: nonces[p.Index][:], Port: uint32(p.Port)}
		for _, a := range p.Address {
			peer.Addresses = append(peer.Addresses, a.AsSlice())
		}
		work.Peers = append(work.Peers, peer)
	}
	return &pb.Task{Id: id, Work: &pb.Task_Connect{Connect: work}}
}

// meeting is a pair and what both ends say of it.
type meeting struct {
	mesh.Pair
	Ends mesh.Ends
	measure.Judgement
}

func (m meeting) String() string {
	s := fmt.Sprintf("%s to %s, port %d, v6 %v: %v %v %v, NAT %+v, %d unmatched", m.Client, m.Server, m.Port, m.V6, m.Verdict, m.Direction, m.Doubt, m.NAT, m.Unmatched)
	for _, p := range m.Pairs {
		s += fmt.Sprintf("\n\t%-8v %v, by %-5v %s", p.Attempt.Kind, p.Attempt.End, p.Bond, p.Sight.Text())
	}
	for _, d := range m.Differences {
		s += fmt.Sprintf("\n\t%v (%d of %d)", d, d.Seen, d.Of)
	}
	return s
}

// meet lets all members listen, measure each other and report, as a controller
// does, and judges every pair.
func meet(t *testing.T, members []*member, ports ...uint16) []meeting {
	t.Helper()
	var where []mesh.Member
	by := map[string]*member{}
	for _, m := range members {
		by[m.name] = m
		where = append(where, reachable(t, m.name, m.worker.Start(listenTask("listen-"+m.name, time.Minute, ports...), m.desk.report)))
	}
	pairs := mesh.Plan(where, []bool{false, true}, 1)
	nonces := make([]measure.Nonce, len(pairs))
	for i := range nonces {
		nonces[i] = measure.NewNonce()
	}
	for _, m := range members {
		if state := m.worker.Start(connectTask("connect-"+m.name, mesh.Of(pairs, m.name), nonces), m.desk.report); state.GetRefused() != "" {
			t.Fatalf("%s does not connect: %s", m.name, state.GetRefused())
		}
	}
	for _, m := range members {
		wait(t, "the end of "+m.name+"'s measurements", m.desk.over("connect-"+m.name))
	}
	for _, m := range members {
		m.worker.End("listen-" + m.name)
	}
	heard := map[string]*mesh.Heard{}
	for _, m := range members {
		wait(t, "the end of "+m.name+"'s listeners", m.desk.over("listen-"+m.name))
		for _, a := range m.desk.alarms {
			t.Errorf("%s: alarm %+v", m.name, a)
		}
		heard[m.name] = mesh.Hear(m.desk.arrivals, m.desk.alarms)
	}
	all := make([]meeting, len(pairs))
	for _, m := range members {
		for i := range m.desk.measurements {
			r := &m.desk.measurements[i]
			if r.Item >= uint64(len(pairs)) || pairs[r.Item].Client != m.name || all[r.Item].Ends.Client != nil {
				t.Fatalf("%s reports %v", m.name, r.Target)
			}
			all[r.Item].Ends.Client = r
		}
	}
	for i, p := range pairs {
		m := &all[i]
		if m.Pair = p; m.Ends.Client == nil {
			t.Fatalf("nobody measured %+v", p)
		}
		m.Ends.Plan, m.Ends.Payload, m.Ends.Nonce = measure.Standard, measure.PayloadAuto, nonces[i]
		m.Ends.Arrivals, m.Ends.Alarms = heard[p.Server].Of(nonces[i], m.Ends.Client)
		m.Judgement = mesh.Judge(m.Ends)
	}
	return all
}

// membersOf has a member on every host.
func membersOf(t *testing.T, l *lab.Mesh) (all []*member) {
	for k := range l.Hosts() {
		all = append(all, newMember(t, l.Host(k), nil))
	}
	return all
}

func wayOf(m meeting) lab.Way {
	var w lab.Way
	fmt.Sscanf(m.Client, "h%d", &w.From)
	fmt.Sscanf(m.Server, "h%d", &w.To)
	return w
}

func fields(j *measure.Judgement) (got []measure.SynField) {
	for _, d := range j.Differences {
		got = append(got, d.Field)
	}
	return slices.Compact(got)
}
