package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/agent"
	"tfofleet/internal/controller"
	"tfofleet/internal/dataset"
	"tfofleet/internal/lab"
	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/mesh"
	"tfofleet/internal/store"
	"tfofleet/internal/tfo"
	"tfofleet/internal/version"
	pb "tfofleet/proto/tfofleet/v1"
)

// labMesh builds hosts with a faulty path between each two of them, has probes
// on them measure each other, and compares what both ends say with the truth.
func (a *app) labMesh(ctx context.Context, f *surveyFlags, names []string) error {
	paths := lab.MeshCatalogue()
	if len(names) > 0 {
		paths = slices.DeleteFunc(paths, func(p lab.MeshPath) bool { return !slices.Contains(names, p.Name) })
		if len(paths) != len(names) {
			return fail(exitUsage, fmt.Errorf("the mesh has not all of the paths %s", strings.Join(names, ", ")), "it has "+strings.Join(meshPaths(), ", "))
		}
	}
	code, ran, err := lab.Enter()
	if ran {
		return &ending{code: exitCode(code)}
	}
	hosts, ways := lab.SpreadOver(paths)
	var m *lab.Mesh
	if err == nil {
		m, err = lab.NewMesh(context.WithoutCancel(ctx), lab.MeshConfig{Logger: a.log.Named("lab"), Seed: f.seed, Hosts: hosts, Paths: ways, Ports: []uint16{labMeshPort}})
	}
	var missing *lab.PrivilegeError
	if errors.As(err, &missing) {
		return unprivileged(missing)
	}
	if err != nil {
		return err
	}
	defer m.Close()
	dir, err := scratchDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	set := filepath.Join(dir, "dataset")
	if f.out != "" {
		if set, err = makeOut(f.out); err != nil {
			return err
		}
		fmt.Fprintf(a.term, "controller: dataset in %s\n", set)
	}
	v, err := startVillage(ctx, dir, set, m, a.log)
	if err != nil {
		return err
	}
	err = v.measure(ctx, a, f)
	if err := errors.Join(err, v.close()); err != nil {
		return err
	}
	rows, err := meshRows(v.dataset, m)
	if err != nil {
		return err
	}
	if f.format.value == "json" {
		err = writeMeshJSON(a.stdout, rows)
	} else {
		err = writeMeshTable(a.stdout, rows)
	}
	if err != nil {
		return err
	}
	if n := len(slices.DeleteFunc(slices.Clone(rows), func(r labMeshRow) bool { return r.OK })); n > 0 {
		return fail(exitFailure, fmt.Errorf("%d of %d joint verdicts differ from the truth", n, len(rows)))
	}
	return nil
}

// labMeshPort is where the probes of a lab listen.
const labMeshPort = 8080

func meshPaths() (names []string) {
	for _, p := range lab.MeshCatalogue() {
		names = append(names, p.Name)
	}
	return names
}

// village is a controller and a probe on every host of a mesh, in this process.
type village struct {
	dataset string
	control pb.ControlServiceClient

	db     *store.SQLite
	server *controller.Server
	memory *controller.Memory
	conns  []*grpc.ClientConn
	stop   context.CancelFunc
	probes sync.WaitGroup
}

// startVillage keeps its state in dir and its dataset in set.
func startVillage(ctx context.Context, dir, set string, m *lab.Mesh, log hclog.Logger) (_ *village, err error) {
	v := &village{dataset: set, stop: func() {}}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	rules := lease.DefaultRules(heartbeat)
	if v.db, err = store.OpenSQLite(ctx, filepath.Join(dir, "state.db"), store.Options{Rules: rules}); err != nil {
		return nil, err
	}
	if v.server, err = controller.New(ctx, controller.Config{
		Dir: dir, Dataset: func(string) string { return v.dataset }, Store: v.db, Heartbeat: heartbeat, TTL: rules.TTL, Version: version.String(), Logger: log,
	}); err != nil {
		return nil, err
	}
	v.memory = v.server.ServeInMemory()
	conn, err := v.dial()
	if err != nil {
		return nil, err
	}
	v.control = pb.NewControlServiceClient(conn)
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	v.stop = stop
	for k := range m.Hosts() {
		if err := v.settle(life, m.Host(k), byte(k+1), log); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (v *village) dial() (*grpc.ClientConn, error) {
	c, err := v.memory.Dial()
	v.conns = append(v.conns, c)
	return c, err
}

// settle starts a probe on a host. The key of its listeners is its own: cookies
// of another one must not be taken.
func (v *village) settle(ctx context.Context, host lab.Host, key byte, log hclog.Logger) error {
	conn, err := v.dial()
	if err != nil {
		return err
	}
	facts, err := tfo.ReadHost(tfo.NetNS(host.NetNS))
	if err != nil {
		return err
	}
	facts.Hostname = host.Name
	probe := agent.New(agent.Config{
		Name: host.Name, Version: version.String(), Host: agent.HostToWire(facts), Session: conn, Results: conn,
		NewRunner: func(*pb.SurveySpec) (agent.Runner, error) { return nil, errors.New("only meshes are measured here") },
		Tasks: mesh.NewWorker(mesh.Config{
			NetNS: tfo.NetNS(host.NetNS), Keys: []tfo.Key{{key}}, Logger: log,
			Addresses: func() ([]netip.Addr, error) { return []netip.Addr{host.V4, host.V6}, nil },
		}),
		Flush: flush, Logger: log,
	})
	v.probes.Go(func() {
		if err := probe.Run(ctx); err != nil {
			log.Error("a probe gave up", "probe", host.Name, "reason", err)
		}
	})
	return nil
}

// measure runs the mesh when all probes are connected.
func (v *village) measure(ctx context.Context, a *app, f *surveyFlags) error {
	plan, err := measure.ParsePlan(f.plan.value)
	if err != nil {
		return err
	}
	req := &pb.RunMeshRequest{
		Name: "the lab", Ports: []uint32{labMeshPort}, Family: families[f.family.value], Plan: pb.Plan(plan), Timeout: durationpb.New(2 * time.Second), Seed: f.seed,
	}
	if err := v.allHere(ctx); err != nil {
		return err
	}
	return a.runMesh(ctx, v.control, req, f.quiet, func(*pb.RunMeshResponse) {})
}

func (v *village) allHere(ctx context.Context) error {
	for want := len(v.conns) - 1; ; {
		open, err := v.db.Sessions(ctx, time.Minute)
		if err != nil || len(open) == want {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fail(exitInterrupted, errors.New("interrupted"))
		}
	}
}

func (v *village) close() error {
	v.stop()
	v.probes.Wait()
	for _, c := range v.conns {
		c.Close()
	}
	if v.memory != nil {
		v.memory.Stop()
	}
	if v.server != nil {
		v.server.Close()
	}
	if v.db == nil {
		return nil
	}
	return v.db.Close()
}

// labMeshRow is a joint verdict beside its truth.
type labMeshRow struct {
	Path           string `json:"path"`
	Client         string `json:"client"`
	Server         string `json:"server"`
	Family         int    `json:"family"`
	Truth          string `json:"truth"`
	TruthDirection string `json:"truth_direction"`
	Verdict        string `json:"verdict"`
	Direction      string `json:"direction"`
	OK             bool   `json:"ok"`
	About          string `json:"about"`
}

// meshRows compares the dataset with the mesh, path by path; clean ways are
// called "clean".
func meshRows(dir string, m *lab.Mesh) (rows []labMeshRow, err error) {
	index := make(map[string]int)
	for k := range m.Hosts() {
		index[m.Host(k).Name] = k
	}
	for r, err := range dataset.ReadMesh(dir) {
		if err != nil {
			return nil, err
		}
		p := m.Path(lab.Way{From: index[r.Client], To: index[r.Server]})
		if p.Name == "" {
			p = lab.MeshPath{Name: "clean", About: "nothing happens", Truth: measure.JointSupported}
		}
		rows = append(rows, labMeshRow{
			Path: p.Name, Client: r.Client, Server: r.Server, Family: r.Family, About: p.About,
			Truth: p.Truth.String(), TruthDirection: p.Direction.String(), Verdict: r.Verdict.String(), Direction: r.Direction.String(),
			// Where much is lost, too little may be left to be sure.
			OK: r.Verdict == p.Truth && r.Direction == p.Direction || p.Name == "loss" && r.Verdict == measure.JointInconclusive,
		})
	}
	slices.SortFunc(rows, func(a, b labMeshRow) int {
		return strings.Compare(fmt.Sprint(a.Path == "clean", a.Path, a.Client, a.Server, a.Family), fmt.Sprint(b.Path == "clean", b.Path, b.Client, b.Server, b.Family))
	})
	return rows, nil
}

func writeMeshJSON(w io.Writer, rows []labMeshRow) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// writeMeshTable writes every path that something happens on, and counts the
// clean ones.
func writeMeshTable(w io.Writer, rows []labMeshRow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "path\tIP\ttruth\tjoint verdict\twhat happens there")
	clean, wrong := 0, 0
	for _, r := range rows {
		if !r.OK {
			wrong++
		}
		if r.Path == "clean" && r.OK {
			clean++
			continue
		}
		verdict := withDirection(r.Verdict, r.Direction)
		if !r.OK {
			verdict += " (!)"
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\n", r.Path, r.Family, withDirection(r.Truth, r.TruthDirection), verdict, r.About)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d of %d joint verdicts are true, %d of them on clean ways\n", len(rows)-wrong, len(rows), clean)
	return err
}

func withDirection(verdict, direction string) string {
	if direction == measure.DirectionUnknown.String() {
		return verdict
	}
	return verdict + " " + direction
}
