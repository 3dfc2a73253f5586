package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"tfofleet/internal/identity"
	"tfofleet/internal/identity/identitytest"
	pb "tfofleet/proto/tfofleet/v1"
)

// clock is one for everybody, and can be set.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// office renews, and welcomes every session by its probe's certificate.
type office struct {
	pb.UnimplementedProbeServiceServer
	a *identity.Authority
}

func (o office) Renew(ctx context.Context, req *pb.RenewRequest) (*pb.RenewResponse, error) {
	issued, err := o.a.Renew(ctx, identity.CallerOf(ctx), req.GetCsr())
	return &pb.RenewResponse{Issued: issued}, err
}

func (o office) Session(s grpc.BidiStreamingServer[pb.SessionRequest, pb.SessionResponse]) error {
	w := &pb.Welcome{Session: identity.CallerOf(s.Context()).Serial, Bundle: o.a.Bundle()}
	return s.Send(&pb.SessionResponse{Message: &pb.SessionResponse_Welcome{Welcome: w}})
}

// newMember is a member of a fleet whose controller is on loopback, behind an
// address where nobody answers.
func newMember(t *testing.T, c *clock) *member {
	t.Helper()
	ca, err := identity.OpenCA(filepath.Join(t.TempDir(), "ca"), c.now())
	if err != nil {
		t.Fatal(err)
	}
	a, err := identity.NewAuthority(t.Context(), identity.Config{CA: ca, Store: identitytest.NewMemory(c.now), Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(a.Guard(identity.Methods()).ServerOptions()...)
	a.Register(server)
	pb.RegisterProbeServiceServer(server, office{a: a})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	t.Cleanup(server.Stop)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	token, err := a.CreateToken(t.Context(), identity.TokenSpec{Addresses: []string{dead.Addr().String(), l.Addr().String()}, Uses: 1, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	me, err := identity.OpenProbe(identity.ProbeConfig{Dir: filepath.Join(t.TempDir(), "me"), Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	if err := me.Join(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	m, err := connect(me, hclog.New(&hclog.LoggerOptions{Output: t.Output()}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.close)
	return m
}

// serial is the certificate that the controller sees.
func (m *member) serial(ctx context.Context) (string, error) {
	s, err := pb.NewProbeServiceClient(m.session).Session(ctx)
	if err != nil {
		return "", err
	}
	w, err := s.Recv()
	if err != nil {
		return "", err
	}
	return w.GetWelcome().GetSession(), m.me.SetBundle(w.GetWelcome().GetBundle())
}

// until waits for another certificate than had.
func (m *member) until(t *testing.T, had string) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		now, err := m.serial(t.Context())
		if err == nil && now != had {
			return now
		}
		if err != nil {
			m.ended(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the certificate is still %s: %v", now, err)
		}
	}
}

// TestMembership: renewed at half life, and recovered when it ran out. Both
// times the connections show the new certificate at once.
func TestMembership(t *testing.T) {
	c := &clock{}
	m := newMember(t, c)
	first := m.until(t, "")
	c.advance(identity.ProbeLife * 6 / 10)
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); m.keep(ctx) }()
	second := m.until(t, first)
	stop()
	<-over
	if m.me.RenewIn() == 0 {
		t.Error("renewed, and due again")
	}

	c.advance(60 * 24 * time.Hour) // the machine was off
	_, err := m.serial(t.Context())
	if !identity.NeedsRecovery(err) {
		t.Fatalf("a certificate that ran out: %v", err)
	}
	ctx, stop = context.WithCancel(t.Context())
	over = make(chan struct{})
	go func() { defer close(over); m.keep(ctx) }()
	m.until(t, second)
	stop()
	<-over
}

// TestPolicyCommand: what it prints is a policy, which is not looser.
func TestPolicyCommand(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"probe", "policy"}, strings.NewReader(""), &out, &errs); code != 0 {
		t.Fatalf("%d %s", code, &errs)
	}
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if code := run(t.Context(), []string{"probe", "policy", path}, strings.NewReader(""), &out, &errs); code != 0 || !regexp.MustCompile(`^\S+/policy.yaml is valid, its digest is [0-9a-f]{64}\n$`).MatchString(out.String()) || errs.Len() > 0 {
		t.Errorf("%d %q %q", code, &out, &errs)
	}
	if err := os.WriteFile(path, []byte("rates: 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := run(t.Context(), []string{"probe", "policy", path}, strings.NewReader(""), &out, &errs); code != int(exitUsage) || !strings.Contains(errs.String(), "rates") {
		t.Errorf("%d %q", code, &errs)
	}
}

// TestRunMistakes: each says what to do, and none leaves a spool.
func TestRunMistakes(t *testing.T) {
	front, port := newFront(t)
	token := func(address string) (id, text string) {
		tok, err := front.a.CreateToken(t.Context(), identity.TokenSpec{Addresses: []string{address}, Uses: 1, TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if text, err = tok.Encode(); err != nil {
			t.Fatal(err)
		}
		return tok.ID, text
	}
	_, nobody := token("127.0.0.1:1")
	id, revoked := token("127.0.0.1:" + port)
	if err := front.a.RevokeToken(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code exitCode
		want string
	}{
		{[]string{"run"}, exitUsage, "controller token create"},
		{[]string{"run", "--join", "nonsense"}, exitUsage, "copy the whole token"},
		{[]string{"run", "--log-level", "loud"}, exitUsage, "unknown log level \"loud\"\nprobe: hint: want error"},
		{[]string{"run", "--netns", "/nonexistent"}, exitFailure, "hint: --netns PATH"},
		{[]string{"run", "--join", nobody}, exitFailure, "connection refused\nprobe: hint: the addresses are those of the token"},
		{[]string{"run", "--join", revoked}, exitFailure, "does not let this probe in: token revoked\nprobe: hint: \"controller token create\""},
		{[]string{"run", "--policy", "/nonexistent"}, exitUsage, "--policy FILE"},
		{[]string{"run", "--resolver", "x"}, exitUsage, "192.0.2.53:53"},
		{[]string{"spool"}, exitFailure, "has no spool"},
	} {
		dir := t.TempDir()
		var out, errs bytes.Buffer
		code := run(t.Context(), append(append([]string{"probe"}, c.args...), "--data", filepath.Join(dir, "p")), strings.NewReader(""), &out, &errs)
		if code != int(c.code) || !strings.Contains(errs.String(), c.want) || out.Len() > 0 {
			t.Errorf("%q: code %d, stdout %q, stderr %q", c.args, code, &out, &errs)
		}
		if left, _ := filepath.Glob(spoolIn(filepath.Join(dir, "p"))); len(left) > 0 {
			t.Errorf("%q left %v", c.args, left)
		}
	}
}

// TestBanned: the operator of a probe reads why it is shut out, and who to ask.
func TestBanned(t *testing.T) {
	front, port := newFront(t)
	token, err := front.a.CreateToken(t.Context(), identity.TokenSpec{Addresses: []string{"127.0.0.1:" + port}, Uses: 1, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	me, err := identity.OpenProbe(identity.ProbeConfig{Dir: filepath.Join(data, "identity")})
	if err != nil {
		t.Fatal(err)
	}
	if err := me.Join(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if err := front.a.Ban(t.Context(), identity.KindProbe, me.Subject().Name, "its host was sold"); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"probe", "run", "--data", data}, strings.NewReader(""), &out, &errs)
	if code != int(exitFailure) || !strings.Contains(errs.String(), "probe: error: probe "+me.Subject().Name+" was banned: its host was sold\nprobe: hint: ask the operator of the fleet\n") {
		t.Errorf("%d %q", code, &errs)
	}
}
