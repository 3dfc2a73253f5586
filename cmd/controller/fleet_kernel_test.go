package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tfofleet/internal/dataset"
	"tfofleet/internal/lab"
	"tfofleet/internal/measure"
)

// machine is the programs of a fleet as processes, over a lab.
type machine struct {
	t          *testing.T
	dir        string // of everything
	controller string // program
	probe      string // program
	port       string
	netns      string
	procs      map[string]*process
}

// process is a program that runs.
type process struct {
	cmd *exec.Cmd
	out *output
}

// output is what a process said.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start starts a program and waits until it says the word.
func (m *machine) start(name, word, program string, args ...string) {
	m.t.Helper()
	p := &process{cmd: exec.Command(program, args...), out: &output{}}
	p.cmd.Dir, p.cmd.Stderr = m.dir, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.procs[name] = p
	m.await(name+" says "+word, func() bool { return strings.Contains(p.out.String(), word) })
}

// await waits for what must come true.
func (m *machine) await(what string, f func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			for name, p := range m.procs {
				m.t.Logf("%s said:\n%s", name, p.out)
			}
			m.t.Fatal("never came: " + what)
		}
	}
}

// kill is a loss of the process: it is told nothing.
func (m *machine) kill(name string) {
	m.t.Helper()
	p := m.procs[name]
	if err := p.cmd.Process.Kill(); err != nil {
		m.t.Fatal(err)
	}
	_ = p.cmd.Wait() // killed
}

// end is SIGTERM.
func (m *machine) end(name string) {
	m.t.Helper()
	p := m.procs[name]
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		m.t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		m.t.Errorf("%s after SIGTERM: %v\n%s", name, err, p.out)
	}
}

func (m *machine) startController() {
	m.t.Helper()
	m.start("controller", "ready", m.controller, "serve", "--data", "c", "--listen", "127.0.0.1:"+m.port, "--heartbeat", "500ms")
}

// startProbe starts a probe; the token is for its first time.
func (m *machine) startProbe(name, token string) {
	m.t.Helper()
	m.start(name, "connected", m.probe, "run", "--data", name, "--join", token, "--policy", name+".yaml", "--netns", m.netns)
}

// operate runs a command of the operator.
func (m *machine) operate(args ...string) string {
	m.t.Helper()
	cmd := exec.Command(m.controller, append(args, "--controller", "c/run/controller.sock")...)
	var errs bytes.Buffer
	cmd.Dir, cmd.Stderr = m.dir, &errs
	out, err := cmd.Output()
	if err != nil {
		m.t.Fatalf("controller %s: %v\n%s", strings.Join(args, " "), err, &errs)
	}
	return strings.TrimSpace(string(out))
}

// survey is where a survey stands, in the words of "surveys show".
type survey struct {
	Phase                                                             string
	Planned, Measured, Refused, Interrupted, Cancelled, Lost, Pending uint64 `json:",string"`
}

func (m *machine) survey(id string) (s survey) {
	m.t.Helper()
	if err := json.Unmarshal([]byte(m.operate("surveys", "show", id, "--format", "json")), &s); err != nil {
		m.t.Fatal(err)
	}
	if s.Planned != s.Measured+s.Refused+s.Interrupted+s.Cancelled+s.Lost+s.Pending {
		m.t.Errorf("planned is not the sum: %+v", s)
	}
	return s
}

// TestFleet is a fleet of real processes on this kernel: a controller and two
// probes that measure the clean path of a lab. In the middle of the survey a
// probe and the controller are killed at random moments. Nothing is lost,
// nothing is there twice, and what was cut off is not made again.
func TestFleet(t *testing.T) {
	if os.Geteuid() != 0 {
		notHere(t, "a fleet in a lab needs root")
	}
	paths, err := choosePaths([]string{"clean"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.New(context.Background(), lab.Config{Paths: paths})
	var missing *lab.PrivilegeError
	if errors.As(err, &missing) {
		notHere(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	clean, ok := l.Target("clean")
	if !ok {
		t.Fatal("the lab has no clean path")
	}

	m := &machine{t: t, dir: t.TempDir(), netns: l.ClientNetNS(), port: freePort(t), procs: make(map[string]*process)}
	m.controller, m.probe = filepath.Join(m.dir, "controller"), filepath.Join(m.dir, "probe")
	if out, err := exec.Command("go", "build", "-o", m.dir, "tfofleet/cmd/controller", "tfofleet/cmd/probe").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const targets = 900
	var list strings.Builder
	for i, a := 0, clean.V4; i < targets; i, a = i+1, a.Next() {
		fmt.Fprintln(&list, net.JoinHostPort(a.String(), fmt.Sprint(clean.Port)))
	}
	write(t, filepath.Join(m.dir, "list"), list.String())
	for _, name := range []string{"a", "b"} {
		write(t, filepath.Join(m.dir, name+".yaml"), fmt.Sprintf("rate: 400\nnets:\n  allow: [%s]\ncontact_log:\n  path: %s\n",
			netip.PrefixFrom(clean.V4, 16).Masked(), filepath.Join(m.dir, name+".contacts")))
	}

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))

	m.startController()
	m.startProbe("a", m.operate("token", "create", "--prefix", "a"))
	m.startProbe("b", m.operate("token", "create", "--prefix", "b"))
	// Some seconds, if nothing came between.
	id := m.operate("survey", "--targets", "list", "--detach", "--rate", "400", "--concurrency", "20", "--hold", "0s")

	after := func(n uint64) {
		m.await(fmt.Sprint(n, " measured"), func() bool { return m.survey(id).Measured >= n })
		time.Sleep(time.Duration(rng.Int64N(int64(100 * time.Millisecond)))) // the moment of death
	}
	after(50)
	m.kill("a")
	m.startProbe("a", "")
	after(200)
	m.kill("controller")
	m.startController()
	after(300)
	m.kill("b")
	m.kill("controller")
	m.startController()
	m.startProbe("b", "")

	m.await("the end of the survey", func() bool { return m.survey(id).Phase == "SURVEY_PHASE_DONE" })
	s := m.survey(id)
	t.Logf("%+v", s)
	// A probe that is killed interrupts what is with its engine, and what has a
	// result in a batch that is not full or in a group that is not on the disk.
	const perKill = 2*20 + 64 + 128 + 64
	if s.Planned != targets || s.Measured+s.Interrupted != targets || s.Interrupted > 2*perKill {
		t.Errorf("the survey ended as %+v", s)
	}
	for _, name := range []string{"a", "b", "controller"} {
		m.end(name)
	}
	var measured, interrupted uint64
	seen := make(map[uint64]bool)
	for rec, err := range dataset.Read(filepath.Join(m.dir, "c", "surveys", id)) {
		if err != nil {
			t.Fatal(err)
		}
		if seen[rec.Item] {
			t.Errorf("item %d is there twice", rec.Item)
		}
		seen[rec.Item] = true
		switch rec.Outcome {
		case measure.OutcomeMeasured:
			measured++
			if rec.Verdict != measure.Supported {
				t.Errorf("%v is %v", rec.Target, rec.Verdict)
			}
		case measure.OutcomeInterrupted:
			interrupted++
		}
	}
	if len(seen) != targets || measured != s.Measured || interrupted != s.Interrupted {
		t.Errorf("the dataset has %d targets, %d measured and %d interrupted; the survey says %+v", len(seen), measured, interrupted, s)
	}

	contacts := m.contacts("a", "b")
	if len(contacts) < int(measured) || len(contacts) > targets {
		t.Errorf("%d targets were contacted, %d measured", len(contacts), measured)
	}
	for addr, n := range contacts {
		if n > 1 {
			t.Errorf("%v was measured %d times", addr, n)
		}
	}
}

// contacts is how often each address was measured, as the probes' logs say.
func (m *machine) contacts(probes ...string) map[netip.Addr]int {
	m.t.Helper()
	times := make(map[netip.Addr]int)
	for _, name := range probes {
		data, err := os.ReadFile(filepath.Join(m.dir, name+".contacts"))
		if err != nil {
			m.t.Fatal(err)
		}
		for line := range bytes.Lines(data) {
			var c struct{ Addr netip.Addr }
			if err := json.Unmarshal(line, &c); err != nil {
				m.t.Fatal(err)
			}
			times[c.Addr]++
		}
	}
	return times
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// freePort is a port that nobody uses at the moment.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// notHere ends a kernel test on a machine that cannot run it.
func notHere(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("TFOFLEET_REQUIRE_KERNEL") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}
