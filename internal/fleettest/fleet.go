package fleettest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
	pb "tfofleet/proto/tfofleet/v1"
)

// Heartbeat is the interval of the controllers' probes, unless a controller is
// told another one. With it a lease lapses after 11.5 s, and its targets go to
// others after twice that.
const Heartbeat = 500 * time.Millisecond

// Fleet is controllers and probes as processes, each on a host of its own, and
// targets that only the probes' engines reach: the clean path of a lab.
type Fleet struct {
	t           testing.TB
	Dir         string // of everything
	Net         *Network
	Controllers []*Controller
	Probes      []*Probe

	// By runs the programs that are added from now on: it gets their command line
	// as its last arguments, and becomes the program by exec.
	By []string
	// Serve is an address on loopback, host:port, where something of the test
	// listens that every controller has to reach at the same address.
	Serve string

	lab    *lab.Lab
	target lab.Placed
	used   int // targets of surveys so far
	hosts  int
}

// New makes a fleet that lives as long as the test, with as many targets, and
// nobody in it yet.
func New(t testing.TB, targets int) *Fleet {
	t.Helper()
	labtest.Need(t)
	path := lab.Catalogue()[0]
	path.Hosts = targets
	f := &Fleet{t: t, Dir: t.TempDir(), hosts: targets}
	f.lab = labtest.New(t, lab.Config{Paths: []lab.Path{path}})
	f.target, _ = f.lab.Target(path.Name)
	f.Net = NewNetwork(t)
	t.Cleanup(func() {
		if t.Failed() {
			f.tell()
		}
	})
	return f
}

// tell says what the processes said last.
func (f *Fleet) tell() {
	for _, c := range f.Controllers {
		f.t.Logf("%s said:\n%s", c.Name, tail(c.out.all()))
	}
	for _, p := range f.Probes {
		f.t.Logf("%s said:\n%s", p.Name, tail(p.out.all()))
	}
}

func tail(s string) string {
	const most = 4000
	if len(s) <= most {
		return s
	}
	s = s[len(s)-most:]
	return s[strings.IndexByte(s, '\n')+1:]
}

// Await waits for what must come true, and fails the test when it does not.
func (f *Fleet) Await(what string, within time.Duration, cond func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(within); !cond(); time.Sleep(40 * time.Millisecond) { // an operator has 50 calls per second
		if time.Now().After(deadline) {
			f.t.Fatal("never came: " + what)
		}
	}
}

// Patience is how long a test waits for what takes no time on a machine that
// has nothing else to do.
const Patience = time.Minute

// Controller is a controller of the fleet.
type Controller struct {
	*Host
	*Process // the last one
	Name     string
	Control  pb.ControlServiceClient

	f    *Fleet
	by   []string
	args []string
	out  *output
}

// port is where all controllers listen, each at an address of its own.
const port = "7443"

// AddController starts another controller, with flags of its own.
func (f *Fleet) AddController(args ...string) *Controller {
	f.t.Helper()
	c := &Controller{Host: f.Net.Add(), Name: fmt.Sprint("controller", len(f.Controllers)+1), f: f, by: f.By, out: &output{}}
	f.mkdir(c.Data())
	c.args = append([]string{
		"serve", "--data", c.Data(), "--socket", c.Socket(), "--listen", c.Address(), "--advertise", c.Address(), "--heartbeat", Heartbeat.String(), "--log-level", "debug",
	}, args...)
	f.Controllers = append(f.Controllers, c)
	if f.Serve != "" {
		c.Forward(f.t, f.Serve)
	}
	conn, err := grpc.NewClient("unix:"+c.Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	c.Control = pb.NewControlServiceClient(conn)
	c.Start()
	return c
}

// Address is where probes reach it.
func (c *Controller) Address() string { return net.JoinHostPort(c.Addr.String(), port) }

// Data is the directory where it keeps everything.
func (c *Controller) Data() string { return filepath.Join(c.f.Dir, c.Name, "data") }

// Socket is where operators reach it.
func (c *Controller) Socket() string { return filepath.Join(c.f.Dir, c.Name, "run", "controller.sock") }

// Dataset is where a survey's dataset is, unless the controller has another place
// for them.
func (c *Controller) Dataset(s *Survey) string {
	return filepath.Join(c.Data(), "surveys", s.ID)
}

// Start starts it, again, and waits until it is ready.
func (c *Controller) Start() {
	c.f.t.Helper()
	c.Process = start(c.f.t, c.Host, c.Name, c.f.Dir, c.out, slices.Concat(c.by, []string{Program(c.f.t, "controller")}, c.args))
	c.f.says(c.Process, "ready")
}

// CopyCA copies the CA for another controller, to a directory in that of the
// fleet, as an operator would.
func (c *Controller) CopyCA() (dir string) {
	c.f.t.Helper()
	if out, err := exec.Command("cp", "-rp", filepath.Join(c.Data(), "ca"), filepath.Join(c.f.Dir, "ca")).CombinedOutput(); err != nil {
		c.f.t.Fatalf("%v: %s", err, out)
	}
	return "ca"
}

// says waits for a word of a process that has just been started.
func (f *Fleet) says(p *Process, word string) {
	f.t.Helper()
	f.Await(p.name+" says "+word, Patience, func() bool {
		if over, err := p.Ended(); over {
			f.t.Fatalf("%s ended: %v", p.name, err)
		}
		return p.Says(word)
	})
}

// Operate runs a command of the operator.
func (c *Controller) Operate(args ...string) string {
	c.f.t.Helper()
	cmd := exec.Command(Program(c.f.t, "controller"), append(args, "--controller", c.Socket())...)
	var errs bytes.Buffer
	cmd.Dir, cmd.Stderr = c.f.Dir, &errs
	out, err := cmd.Output()
	if err != nil {
		c.f.t.Fatalf("controller %s: %v\n%s", strings.Join(args, " "), err, &errs)
	}
	return strings.TrimSpace(string(out))
}

// Probe is a probe of the fleet.
type Probe struct {
	*Host
	*Process // the last one
	Name     string

	// By is as in Fleet.
	By []string

	f    *Fleet
	args []string
	out  *output
}

// AddProbe starts another probe, with flags of its own, that knows the
// controllers in their order. It sends at most so many SYNs per second. Wait for
// it, see [Fleet.Connected].
func (f *Fleet) AddProbe(rate int, controllers []*Controller, args ...string) *Probe {
	f.t.Helper()
	p := f.NewProbe(rate, args...)
	p.args = append(p.args, "--join", f.Token(p.Name, controllers))
	p.Launch()
	return p
}

// Token is a join token for one probe, whose name begins with the prefix.
func (f *Fleet) Token(prefix string, controllers []*Controller) (text string) {
	f.t.Helper()
	req := &pb.CreateJoinTokenRequest{Uses: 1, Ttl: durationpb.New(time.Hour), Prefix: prefix}
	for _, c := range controllers {
		req.Addresses = append(req.Addresses, c.Address())
	}
	f.ask("a token", func(ctx context.Context, c pb.ControlServiceClient) error {
		resp, err := c.CreateJoinToken(ctx, req)
		text = resp.GetToken()
		return err
	})
	return text
}

// NewProbe makes a probe that is no member yet, and does not run.
func (f *Fleet) NewProbe(rate int, args ...string) *Probe {
	f.t.Helper()
	p := &Probe{Host: f.Net.Add(), Name: fmt.Sprintf("p%02d", len(f.Probes)+1), By: f.By, f: f, out: &output{}}
	f.mkdir(p.Data())
	f.Write(p.Name+".yaml", fmt.Sprintf("rate: %d\nnets:\n  allow: [%s]\ncontact_log:\n  path: %s\n",
		rate, netip.PrefixFrom(f.target.V4, 16).Masked(), p.contacts()))
	p.args = append([]string{"run", "--data", p.Data(), "--policy", p.Name + ".yaml", "--netns", f.lab.ClientNetNS(), "--log-level", "debug"}, args...)
	f.Probes = append(f.Probes, p)
	return p
}

// Data is the directory where it keeps everything.
func (p *Probe) Data() string { return filepath.Join(p.f.Dir, p.Name) }

func (p *Probe) contacts() string { return filepath.Join(p.f.Dir, p.Name+".contacts") }

// Start starts it, again, and waits until it is connected.
func (p *Probe) Start() {
	p.f.t.Helper()
	p.Launch()
	p.f.says(p.Process, "connected")
}

// Launch starts it, again, and waits for nothing.
func (p *Probe) Launch() {
	p.f.t.Helper()
	p.Process = start(p.f.t, p.Host, p.Name, p.f.Dir, p.out, slices.Concat(p.By, []string{Program(p.f.t, "probe")}, p.args))
}

// Info is what the controllers know of the probe.
func (p *Probe) Info() *pb.ProbeInfo {
	p.f.t.Helper()
	return p.f.Info(p.Name)
}

// Info is what the controllers know of the member whose token had the prefix.
func (f *Fleet) Info(prefix string) *pb.ProbeInfo {
	f.t.Helper()
	for _, i := range f.members() {
		if strings.HasPrefix(i.GetName(), prefix+"-") {
			return i
		}
	}
	f.t.Fatalf("nobody knows %s", prefix)
	return nil
}

func (f *Fleet) members() (all []*pb.ProbeInfo) {
	f.t.Helper()
	f.ask("the probes", func(ctx context.Context, c pb.ControlServiceClient) error {
		resp, err := c.ListProbes(ctx, &pb.ListProbesRequest{})
		all = resp.GetProbes()
		return err
	})
	return all
}

// ask asks the controllers until one answers.
func (f *Fleet) ask(what string, call func(context.Context, pb.ControlServiceClient) error) {
	f.t.Helper()
	var last error
	f.Await("an answer of a controller on "+what, Patience, func() bool {
		for _, c := range f.Controllers {
			if over, _ := c.Ended(); over {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			last = call(ctx, c.Control)
			cancel()
			if last == nil {
				return true
			}
		}
		return false
	})
}

// Delivered waits until all probes are connected, and the controllers have all of
// their results.
func (f *Fleet) Delivered(within time.Duration) {
	f.t.Helper()
	f.Await("all results delivered", within, func() bool {
		return !slices.ContainsFunc(f.members(), func(i *pb.ProbeInfo) bool {
			return i.GetConnectedSince() == nil || i.GetStatus().GetSpool().GetDepth() > 0
		})
	})
}

func (f *Fleet) mkdir(dir string) {
	f.t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		f.t.Fatal(err)
	}
}

// Write writes a file of the fleet.
func (f *Fleet) Write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.Dir, name), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// Survey starts a survey of n targets that no survey had before.
func (f *Fleet) Survey(c *Controller, n int, args ...string) *Survey {
	f.t.Helper()
	if f.used+n > f.hosts {
		f.t.Fatalf("the fleet has %d targets, %d are used up", f.hosts, f.used)
	}
	var list strings.Builder
	a := f.target.V4.As4()
	first := int(a[2])<<8 + int(a[3]) + f.used
	f.used += n
	for i := range n {
		a[2], a[3] = byte((first+i)>>8), byte(first+i)
		fmt.Fprintln(&list, netip.AddrPortFrom(netip.AddrFrom4(a), f.target.Port))
	}
	name := fmt.Sprint("list", f.used)
	f.Write(name, list.String())
	args = append([]string{"survey", "--targets", name, "--detach", "--quiet", "--hold", "0s"}, args...)
	return &Survey{f: f, ID: c.Operate(args...), targets: n}
}

// Connected waits until all probes have a session.
func (f *Fleet) Connected() {
	f.t.Helper()
	f.Await("all probes connected", Patience, func() bool {
		all := f.members()
		return len(all) == len(f.Probes) && !slices.ContainsFunc(all, func(i *pb.ProbeInfo) bool { return i.GetConnectedSince() == nil })
	})
}

// End ends all processes in good order: the probes together, and then those that
// take their last results.
func (f *Fleet) End() {
	f.t.Helper()
	for _, p := range f.Probes {
		p.Terminate()
	}
	for _, p := range f.Probes {
		p.End(f.t)
	}
	for _, c := range f.Controllers {
		c.End(f.t)
	}
}
