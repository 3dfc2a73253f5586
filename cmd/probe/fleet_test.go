package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tfofleet/internal/agent/spool"
	"tfofleet/internal/identity"
	"tfofleet/internal/identity/identitytest"
	pb "tfofleet/proto/tfofleet/v1"
)

// front is a controller that takes what a probe says, and has no work for it.
type front struct {
	pb.UnimplementedProbeServiceServer
	a *identity.Authority

	mu      sync.Mutex
	changed chan struct{}
	said    []*pb.SessionRequest
	events  []*pb.ProbeEvent
}

func (f *front) note(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *front) Session(s grpc.BidiStreamingServer[pb.SessionRequest, pb.SessionResponse]) error {
	for {
		m, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		f.note(func() { f.said = append(f.said, m) })
		if m.GetHello() != nil {
			w := &pb.Welcome{Session: "s", Protocol: 1, HeartbeatInterval: durationpb.New(100 * time.Millisecond), ServerTime: timestamppb.Now(), Bundle: f.a.Bundle()}
			if err := s.Send(&pb.SessionResponse{Message: &pb.SessionResponse_Welcome{Welcome: w}}); err != nil {
				return err
			}
		}
	}
}

func (f *front) ReportResults(s grpc.BidiStreamingServer[pb.ReportResultsRequest, pb.ReportResultsResponse]) error {
	for {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		f.note(func() { f.events = append(f.events, r.GetEvent()) })
		if err := s.Send(&pb.ReportResultsResponse{Sequence: r.GetSequence()}); err != nil {
			return err
		}
	}
}

func (f *front) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for late := time.After(30 * time.Second); ; {
		f.mu.Lock()
		ok, changed := is(), f.changed
		f.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatal("it never came to this: ", what)
		}
	}
}

func (f *front) has(kind pb.ProbeEventKind) bool {
	return slices.ContainsFunc(f.events, func(e *pb.ProbeEvent) bool { return e.GetKind() == kind })
}

// readiness is what the probe said last of it.
func (f *front) readiness() pb.Readiness {
	for _, m := range slices.Backward(f.said) {
		if h := m.GetHeartbeat(); h != nil {
			return h.GetStatus().GetReadiness()
		}
	}
	return 0
}

// newFront serves on loopback, and returns its port.
func newFront(t *testing.T) (*front, string) {
	ca, err := identity.OpenCA(filepath.Join(t.TempDir(), "ca"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a, err := identity.NewAuthority(t.Context(), identity.Config{CA: ca, Store: identitytest.NewMemory(time.Now), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	f := &front{a: a, changed: make(chan struct{})}
	server := grpc.NewServer(a.Guard(identity.Methods()).ServerOptions()...)
	a.Register(server)
	pb.RegisterProbeServiceServer(server, f)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	t.Cleanup(server.Stop)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return f, port
}

// proxy is an HTTP proxy for CONNECT, as a network without a way out has one. It
// knows one name, and counts who was asked for.
type proxy struct {
	port  string
	mu    sync.Mutex
	asked map[string]int
}

func newProxy(t *testing.T, port string) (*proxy, string) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &proxy{port: port, asked: map[string]int{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p, "http://" + l.Addr().String()
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	req, err := http.ReadRequest(in)
	if err != nil || req.Method != http.MethodConnect {
		return
	}
	p.mu.Lock()
	p.asked[req.Host]++
	p.mu.Unlock()
	if req.Host == "dead.test:1" {
		io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	out, err := net.Dial("tcp4", "127.0.0.1:"+p.port)
	if err != nil {
		return
	}
	defer out.Close()
	io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { io.Copy(out, in); out.(*net.TCPConn).CloseWrite() }()
	io.Copy(c, out)
}

// output can be read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// TestRunBehindProxy: a probe as a process. Enrolment, session and results go
// through the proxy, and each controller for itself around it where NO_PROXY
// says so. SIGHUP reads the policy again, SIGTERM ends it in good order.
func TestRunBehindProxy(t *testing.T) {
	for _, c := range []struct {
		name, noProxy string
		addresses     []string
		through       bool
	}{
		{"one controller", "", []string{"controller.test:443"}, true},
		{"several", "controller", []string{"dead.test:1", "controller.test:443"}, true},
		{"several, one is near", "0.0.0.0", []string{"dead.test:1", "0.0.0.0:PORT"}, false}, // a name of loopback that is not exempt by itself
	} {
		t.Run(c.name, func(t *testing.T) {
			f, port := newFront(t)
			p, url := newProxy(t, port)
			for i := range c.addresses {
				c.addresses[i] = strings.Replace(c.addresses[i], "PORT", port, 1)
			}
			token, err := f.a.CreateToken(t.Context(), identity.TokenSpec{Addresses: c.addresses, Uses: 1, TTL: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			text, err := token.Encode()
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			policy := filepath.Join(dir, "policy.yaml")
			write := func(text string) {
				if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("rate: 10")
			cmd := exec.Command("probe", "run", "--join", text, "--data", filepath.Join(dir, "probe"), "--policy", policy, "--on-full", "drop-oldest")
			env := append(os.Environ(), "HTTPS_PROXY="+url, "NO_PROXY="+c.noProxy, "https_proxy=", "no_proxy=")
			cmd.Env = env
			log := &output{}
			cmd.Stderr = log
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				cmd.Process.Kill()
				if t.Failed() {
					t.Log(log)
				}
			})
			f.until(t, "session and results", func() bool { return f.has(pb.ProbeEventKind_PROBE_EVENT_KIND_START) && f.readiness() != 0 })
			p.mu.Lock()
			last := c.addresses[len(c.addresses)-1]
			if n := p.asked[last]; c.through && n < 3 || !c.through && n > 0 { // to join, for the session, and for results
				t.Errorf("asked for %v", p.asked)
			}
			if len(c.addresses) > 1 && p.asked["dead.test:1"] == 0 {
				t.Errorf("nobody asked for the first: %v", p.asked)
			}
			p.mu.Unlock()

			write("rates: 1")
			if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			f.until(t, "a policy that cannot be read", func() bool {
				return f.readiness() == pb.Readiness_READINESS_POLICY && strings.Contains(log.String(), "not ready: reason=")
			})
			write("rate: 1")
			if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			f.until(t, "a policy that can", func() bool {
				return f.has(pb.ProbeEventKind_PROBE_EVENT_KIND_POLICY_RELOAD) && f.readiness() != pb.Readiness_READINESS_POLICY
			})

			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("it ends with %v", err)
			}
			f.until(t, "Draining", func() bool {
				return slices.ContainsFunc(f.said, func(m *pb.SessionRequest) bool { return m.GetDraining() != nil })
			})
			out, err := exec.Command("probe", "spool", "--data", filepath.Join(dir, "probe")).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for _, want := range []string{"records to send", "the oldest", "acknowledged up to", "leases", "refused, ever", "dropped, ever", "put aside"} {
				if !strings.Contains(string(out), want) {
					t.Errorf("probe spool does not tell %q:\n%s", want, out)
				}
			}

			putAside(t, filepath.Join(dir, "probe"))
			cmd = exec.Command("probe", append(cmd.Args[1:], "--retry-rejected")...)
			cmd.Env, log = env, &output{}
			cmd.Stderr = log
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			f.until(t, "what was put aside", func() bool { return strings.Contains(log.String(), "sent again: records=1") })
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("it ends with %v:\n%s", err, log)
			}
		})
	}
}

// putAside leaves a record in a probe's spool that a controller has rejected.
func putAside(t *testing.T, data string) {
	t.Helper()
	s, _, err := spool.Open(spool.Config{Path: spoolIn(data), Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(spool.Record{Kind: spool.KindEvent, Data: []byte("no event")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	st := s.Status()
	if err := errors.Join(s.Reject(spool.Key{Spool: st.ID, Sequence: st.Spooled}, "test"), s.Close()); err != nil {
		t.Fatal(err)
	}
}
