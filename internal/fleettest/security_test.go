package fleettest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"tfofleet/internal/fleettest"
	"tfofleet/internal/identity"
	"tfofleet/internal/identity/identitytest"
	"tfofleet/internal/store/pgtest"
	pb "tfofleet/proto/tfofleet/v1"
)

// bare is TLS that trusts everybody and shows the certificate, if any: what a
// stranger would use.
func bare(cert *tls.Certificate) credentials.TransportCredentials {
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	return credentials.NewTLS(config)
}

// forge makes a certificate by nobody's CA.
func forge(t *testing.T, subject string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	uri, err := url.Parse(subject)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), URIs: []*url.URL{uri}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// operator makes the certificate of an operator by the controller's own CA, as of
// some time, and that no record knows: a stolen key of the CA is not enough.
func operator(t *testing.T, c *fleettest.Controller, ca string, at time.Time) credentials.TransportCredentials {
	t.Helper()
	then := func() time.Time { return at }
	authority, err := identity.OpenCA(ca, at)
	if err != nil {
		t.Fatal(err)
	}
	a, err := identity.NewAuthority(t.Context(), identity.Config{CA: authority, Store: identitytest.NewMemory(then), Now: then})
	if err != nil {
		t.Fatal(err)
	}
	req, err := identity.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := req.CSR()
	if err != nil {
		t.Fatal(err)
	}
	issued, err := a.IssueOperator(t.Context(), "anna", csr)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := req.Credential(issued, []string{c.Address()}, at)
	if err != nil {
		t.Fatal(err)
	}
	return cred.Transport(nil)
}

// TestWhoMayNotCall: of a controller that is served as it is shipped. What each
// method asks for is in internal/identity, and that none is forgotten in
// cmd/controller.
func TestWhoMayNotCall(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t, 1)
	ca, old := filepath.Join(t.TempDir(), "ca"), time.Now().Add(-2*365*24*time.Hour)
	if _, err := identity.OpenCA(ca, old); err != nil {
		t.Fatal(err)
	}
	c := f.AddController("--ca", ca)
	host := f.Net.Add()
	me := f.Join("some", host, c)
	for _, caller := range []struct {
		name  string
		creds credentials.TransportCredentials
		want  identity.Reason
	}{
		{"nobody", bare(nil), identity.CertificateMissing},
		{"a stranger", bare(forge(t, me.Subject().String())), identity.CertificateUntrusted},
		{"one whose certificate ran out", operator(t, c, ca, old), identity.CertificateExpired},
		{"one whom no record knows", operator(t, c, ca, time.Now()), identity.CertificateUnknown},
	} {
		conn := host.Connect(t, c, caller.creds)
		_, err := pb.NewControlServiceClient(conn).ListProbes(t.Context(), &pb.ListProbesRequest{})
		if d, ok := identity.DenialOf(err); !ok || d.Reason != caller.want {
			t.Errorf("%s lists the probes: %v, want %v", caller.name, err, caller.want)
		}
		stream, err := pb.NewProbeServiceClient(conn).Session(t.Context())
		if err == nil {
			_, err = stream.Recv()
		}
		want := []identity.Reason{caller.want, identity.NotPermitted}
		if d, ok := identity.DenialOf(err); !ok || !slices.Contains(want, d.Reason) {
			t.Errorf("a session of %s: %v, want %v", caller.name, err, want)
		}
	}
	_, err := pb.NewControlServiceClient(me.Conn).ListProbes(t.Context(), &pb.ListProbesRequest{})
	if d, ok := identity.DenialOf(err); !ok || d.Reason != identity.NotPermitted {
		t.Errorf("a probe lists the probes: %v", err)
	}
}

// TestBan: of two probes in the middle of a survey, one at the controller that
// bans them and one at another that shares its store. Both are gone within
// seconds, and what they had to do is done by the third.
func TestBan(t *testing.T) {
	t.Parallel()
	const targets = 600
	f := fleettest.New(t, targets)
	datasets := filepath.Join(f.Dir, "surveys")
	shared := []string{"--store", pgtest.New(t), "--dataset", datasets}
	one := f.AddController(shared...)
	two := f.AddController(append(shared, "--ca", one.CopyCA())...)
	here := f.AddProbe(150, []*fleettest.Controller{one, two})
	there := f.AddProbe(150, []*fleettest.Controller{two, one})
	f.AddProbe(150, []*fleettest.Controller{one})
	f.Connected()
	s := f.Survey(one, targets, "--rate", "150", "--concurrency", "8")
	s.Measured(targets / 10)
	for _, ban := range []struct {
		p      *fleettest.Probe
		within time.Duration
	}{{here, 15 * time.Second}, {there, 30 * time.Second}} { // the other one looks every 5 s
		begun := time.Now()
		if _, err := one.Control.BanProbe(t.Context(), &pb.BanProbeRequest{Probe: ban.p.Info().GetName(), Reason: "sold"}); err != nil {
			t.Fatal(err)
		}
		f.Await("the end of "+ban.p.Name, ban.within, func() bool { over, _ := ban.p.Ended(); return over })
		t.Logf("%s ended after %v", ban.p.Name, time.Since(begun))
		if _, err := ban.p.Ended(); err == nil || !ban.p.Says("banned") {
			t.Errorf("%s ended with %v", ban.p.Name, err)
		}
	}
	st := s.Done(fleettest.Patience)
	if st.GetMeasured()+st.GetInterrupted() != targets {
		t.Errorf("the survey ended as %v", st)
	}
	s.Check(filepath.Join(datasets, s.ID), 1)
}

// TestAnothersLease: a member that answers for the lease of another, or reports
// results for it, under its own name or the other's.
func TestAnothersLease(t *testing.T) {
	t.Parallel()
	const targets = 10
	f := fleettest.New(t, targets)
	c := f.AddController()
	victim, thief := f.Join("victim", f.Net.Add(), c), f.Join("thief", f.Net.Add(), c)
	session := func(m *fleettest.Member) grpc.BidiStreamingClient[pb.SessionRequest, pb.SessionResponse] {
		s, err := pb.NewProbeServiceClient(m.Conn).Session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		say(t, s, &pb.SessionRequest{Message: &pb.SessionRequest_Hello{Hello: &pb.Hello{Probe: m.Subject().Name, Instance: "i", ProtocolMin: 1, ProtocolMax: 1}}})
		if w, err := s.Recv(); err != nil || w.GetWelcome() == nil {
			t.Fatalf("%v, %v", w, err)
		}
		return s
	}
	s := f.Survey(c, targets)
	own := session(victim)
	say(t, own, &pb.SessionRequest{Message: &pb.SessionRequest_Credit{Credit: &pb.Credit{Leases: 1}}})
	m, err := own.Recv()
	for err == nil && m.GetLease() == nil {
		m, err = own.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	ref := m.GetLease().GetRef()

	// As a lease of the thief's own it is to be forgotten.
	stolen := session(thief)
	for _, m := range []*pb.SessionRequest{
		{Message: &pb.SessionRequest_LeaseAccepted{LeaseAccepted: &pb.LeaseAccepted{Ref: ref}}},
		{Message: &pb.SessionRequest_Heartbeat{Heartbeat: &pb.Heartbeat{Held: []*pb.HeldLease{{Ref: ref}}}}},
	} {
		say(t, stolen, m)
		for {
			answer, err := stolen.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if answer.GetCancel().GetForget() {
				break
			}
		}
	}
	say(t, stolen, &pb.SessionRequest{Message: &pb.SessionRequest_LeaseRefused{LeaseRefused: &pb.LeaseRefused{Ref: ref, Reason: pb.RefusalReason_REFUSAL_REASON_UNSUPPORTED}}})

	for _, name := range []string{thief.Subject().Name, victim.Subject().Name} {
		results, err := pb.NewProbeServiceClient(thief.Conn).ReportResults(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		req := &pb.ReportResultsRequest{
			Probe: name, Lease: ref, Spool: "x", Sequence: 1, Indexes: []uint32{0},
			Outcomes: []pb.Outcome{pb.Outcome_OUTCOME_MEASURED}, Verdicts: []pb.Verdict{pb.Verdict_VERDICT_SUPPORTED},
		}
		if err := results.Send(req); err != nil {
			t.Fatal(err)
		}
		answer, err := results.Recv()
		if name == thief.Subject().Name && (err != nil || answer.GetRejected() == "") {
			t.Errorf("results under its own name: %v, %v", answer, err)
		}
		if name == victim.Subject().Name && status.Code(err) != codes.PermissionDenied {
			t.Errorf("results under the victim's name: %v, %v", answer, err)
		}
	}
	// The victim's lease is as it was.
	say(t, own, &pb.SessionRequest{Message: &pb.SessionRequest_LeaseAccepted{LeaseAccepted: &pb.LeaseAccepted{Ref: ref}}})
	say(t, own, &pb.SessionRequest{Message: &pb.SessionRequest_Heartbeat{Heartbeat: &pb.Heartbeat{Held: []*pb.HeldLease{{Ref: ref}}}}})
	for {
		m, err := own.Recv()
		if err != nil || m.GetCancel() != nil {
			t.Fatalf("%v, %v", m, err)
		}
		if m.GetHeartbeatAck() != nil {
			break
		}
	}
	if st := s.State(); st.GetPending() != targets {
		t.Errorf("the survey is at %v", st)
	}
}

func say(t *testing.T, s grpc.BidiStreamingClient[pb.SessionRequest, pb.SessionResponse], m *pb.SessionRequest) {
	t.Helper()
	if err := s.Send(m); err != nil {
		t.Fatal(err)
	}
}

// TestJoinToken: a token for one lets in one, whoever shows it again.
func TestJoinToken(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t, 1)
	c := f.AddController()
	token, err := identity.ParseJoinToken(f.Token("one", f.Controllers))
	if err != nil {
		t.Fatal(err)
	}
	join := func(dir string) error {
		p, err := identity.OpenProbe(identity.ProbeConfig{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return p.Join(t.Context(), token, c.Dialer())
	}
	first := filepath.Join(t.TempDir(), "identity")
	for range 2 { // the same key again is the same member
		if err := join(first); err != nil {
			t.Fatal(err)
		}
	}
	second := filepath.Join(t.TempDir(), "identity")
	for range 2 {
		if d, ok := identity.DenialOf(join(second)); !ok || d.Reason != identity.TokenExhausted {
			t.Errorf("the token let in another key: %v", d)
		}
	}
	resp, err := c.Control.ListProbes(t.Context(), &pb.ListProbesRequest{})
	if err != nil || len(resp.GetProbes()) != 1 {
		t.Errorf("the fleet has %v, %v", resp, err)
	}
	// A token that lies about the CA is not even shown.
	token.Pin[0] ^= 1
	p, err := identity.OpenProbe(identity.ProbeConfig{Dir: filepath.Join(t.TempDir(), "identity")})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Join(t.Context(), token, c.Dialer()); err == nil {
		t.Error("joined at a controller with another CA")
	} else if d, told := identity.DenialOf(err); told {
		t.Errorf("the token was shown: %v", d)
	}
}

// TestFlood: one host enrols with what it guesses, as fast as it can, over many
// connections. A probe elsewhere gets in, and a member beside it is served.
func TestFlood(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t, 100)
	c := f.AddController()
	host := f.Net.Add()
	neighbour := f.Join("neighbour", host, c)
	ctx, stop := context.WithCancel(t.Context())
	limited := make(chan int)
	const floods = 8
	for range floods {
		client := pb.NewEnrollmentServiceClient(host.Connect(t, c, bare(nil)))
		go func() {
			n := 0
			for ctx.Err() == nil {
				_, err := client.Enroll(ctx, &pb.EnrollRequest{Token: "guess", Secret: make([]byte, 16)})
				if d, ok := identity.DenialOf(err); ok && d.Reason == identity.RateLimited {
					n++
				}
			}
			limited <- n
		}()
	}
	p := f.AddProbe(150, f.Controllers)
	f.Await("a probe that gets in", fleettest.Patience, func() bool { return p.Says("connected") })
	stream, err := pb.NewProbeServiceClient(neighbour.Conn).Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	say(t, stream, &pb.SessionRequest{Message: &pb.SessionRequest_Hello{Hello: &pb.Hello{Probe: neighbour.Subject().Name, Instance: "i", ProtocolMin: 1, ProtocolMax: 1}}})
	if w, err := stream.Recv(); err != nil || w.GetWelcome() == nil {
		t.Errorf("a member beside the flood: %v, %v", w, err)
	}
	s := f.Survey(c, 100, "--rate", "150", "--concurrency", "8")
	s.Done(fleettest.Patience)
	stop()
	total := 0
	for range floods {
		total += <-limited
	}
	t.Log(total, "calls were turned away")
	if total == 0 {
		t.Error("the flood was no flood")
	}
}

// TestOversize: messages that are larger than any of ours end their call, not
// the controller.
func TestOversize(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t, 1)
	c := f.AddController()
	host := f.Net.Add()
	me := f.Join("some", host, c)
	large := make([]byte, 64<<20)
	_, err := pb.NewEnrollmentServiceClient(host.Connect(t, c, bare(nil))).Enroll(t.Context(), &pb.EnrollRequest{Csr: large})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("an enrolment of %d bytes: %v", len(large), status.Convert(err).Code())
	}
	session, err := pb.NewProbeServiceClient(me.Conn).Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = session.Send(&pb.SessionRequest{Message: &pb.SessionRequest_Hello{Hello: &pb.Hello{Probe: string(large)}}})
	if _, err := session.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a Hello of %d bytes: %v", len(large), status.Convert(err).Code())
	}
	results, err := pb.NewProbeServiceClient(me.Conn).ReportResults(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = results.Send(&pb.ReportResultsRequest{Probe: me.Subject().Name, Measurements: large})
	if _, err := results.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("results of %d bytes: %v", len(large), status.Convert(err).Code())
	}
	if _, err := c.Control.ListProbes(t.Context(), &pb.ListProbesRequest{}); err != nil {
		t.Error(err)
	}
}

// TestSlowLoris: callers that open connections and calls and say nothing. All
// are ended, and meanwhile a probe gets in and works.
func TestSlowLoris(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t, 100)
	c := f.AddController()
	host := f.Net.Add()
	me := f.Join("slow", host, c)
	over := make(chan string)
	waiting := map[string]int{}

	// Silent before TLS, and after it.
	hold := func(what string, conn net.Conn) {
		waiting[what]++
		go func() {
			for b := make([]byte, 1024); ; {
				if _, err := conn.Read(b); err != nil {
					over <- what
					return
				}
			}
		}()
		t.Cleanup(func() { conn.Close() })
	}
	for range 100 {
		conn, err := host.Dial(t.Context(), c.Address())
		if err != nil {
			t.Fatal(err)
		}
		hold("TCP", conn)
	}
	for range 20 {
		conn, err := host.Dial(t.Context(), c.Address())
		if err != nil {
			t.Fatal(err)
		}
		secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err := secured.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		hold("TLS", secured)
	}
	// Calls without a message: of a stranger, and of a member.
	call := func(what string, conn *grpc.ClientConn, method string) {
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
		if err != nil {
			t.Fatal(err)
		}
		waiting[what]++
		go func() {
			if err := stream.RecvMsg(&pb.EnrollResponse{}); err == nil {
				t.Error("an answer to nothing")
			}
			over <- what
		}()
	}
	for range 5 {
		conn := host.Connect(t, c, bare(nil))
		for range 100 { // as many as a connection may have
			call("enrolment", conn, pb.EnrollmentService_Enroll_FullMethodName)
		}
	}
	for range 20 {
		call("session", me.Conn, pb.ProbeService_Session_FullMethodName)
	}

	p := f.AddProbe(150, f.Controllers)
	f.Await("a probe that gets in", fleettest.Patience, func() bool { return p.Says("connected") })
	f.Survey(c, 100, "--rate", "150", "--concurrency", "8").Done(fleettest.Patience)

	late := time.After(2 * fleettest.Patience)
	for len(waiting) > 0 {
		select {
		case what := <-over:
			if waiting[what]--; waiting[what] == 0 {
				delete(waiting, what)
			}
		case <-late:
			t.Fatalf("still open: %v", waiting)
		}
	}
}
