package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"tfofleet/internal/identity"
	"tfofleet/internal/identity/identitytest"
	pb "tfofleet/proto/tfofleet/v1"
)

func TestProbeCalls(t *testing.T) {
	c := newController(t)
	p := c.joined()
	name, err := call(p.dial(c.address))
	ok(t, err)
	if want := p.Subject().Name; name != want {
		t.Errorf("the controller knows the probe as %q, want %q", name, want)
	}
	if s := p.Subject(); s.Kind != identity.KindProbe || s.Fleet != c.ca.Fleet() {
		t.Errorf("the probe is %v", s)
	}
	_, err = pb.NewControlServiceClient(p.dial(c.address)).GetSurvey(ctx, &pb.GetSurveyRequest{})
	denied(t, err, identity.NotPermitted)
	if got := status.Code(err); got != codes.PermissionDenied {
		t.Errorf("code %v", got)
	}
}

// bare is TLS that trusts everybody and shows the certificate, if any: what a
// stranger would use.
func bare(cert *tls.Certificate) credentials.TransportCredentials {
	config := &tls.Config{InsecureSkipVerify: true}
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	return credentials.NewTLS(config)
}

// forge makes a certificate by a CA of its own.
func forge(t *testing.T, uris ...string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(42), Subject: pkix.Name{CommonName: "stranger"},
		NotBefore: time.Now().Add(-100 * 365 * day), NotAfter: time.Now().Add(100 * 365 * day),
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, u := range uris {
		parsed, err := url.Parse(u)
		ok(t, err)
		template.URIs = append(template.URIs, parsed)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ok(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestWhoMayNotCall(t *testing.T) {
	c := newController(t)
	p := c.joined()
	other := newController(t).joined()
	otherTLS, err := other.TLS()
	ok(t, err)
	otherCert, err := otherTLS.GetClientCertificate(nil)
	ok(t, err)
	fleet := "tfofleet://" + c.ca.Fleet()
	for _, test := range []struct {
		name string
		cert *tls.Certificate
		want identity.Reason
	}{
		{"no certificate", nil, identity.CertificateMissing},
		{"a stranger's", forge(t), identity.CertificateUntrusted},
		{"a stranger's with the name of a probe", forge(t, p.Subject().String()), identity.CertificateUntrusted},
		{"a stranger's with the name of an operator", forge(t, fleet+"/operator/anna"), identity.CertificateUntrusted},
		{"two names", forge(t, p.Subject().String(), fleet+"/probe/x"), identity.CertificateUntrusted},
		{"a controller's", forge(t, fleet+"/controller"), identity.CertificateUntrusted},
		{"another fleet's", otherCert, identity.CertificateWrongFleet},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn := dial(t, c.address, bare(test.cert))
			_, err := call(conn)
			denied(t, err, test.want)
			if got := status.Code(err); got != codes.Unauthenticated {
				t.Errorf("code %v", got)
			}
			_, err = pb.NewControlServiceClient(conn).GetSurvey(ctx, &pb.GetSurveyRequest{})
			denied(t, err, test.want)
			_, err = grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
			denied(t, err, test.want)
		})
	}
	t.Run("another controller's server certificate", func(t *testing.T) {
		_, err := call(p.dial(newController(t).address))
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%v: the probe must not talk to a stranger", err)
		}
	})
	t.Run("a certificate without its key", func(t *testing.T) {
		config, err := p.TLS()
		ok(t, err)
		cert, err := config.GetClientCertificate(nil)
		ok(t, err)
		_, err = call(dial(t, c.address, bare(&tls.Certificate{Certificate: cert.Certificate, PrivateKey: forge(t).PrivateKey})))
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%v: the handshake must fail", err)
		}
	})
	t.Run("an older TLS", func(t *testing.T) {
		_, err := call(dial(t, c.address, credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})))
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%v: the handshake must fail", err)
		}
	})
	t.Run("no TLS", func(t *testing.T) {
		_, err := call(dial(t, c.address, insecure.NewCredentials()))
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%v: the connection must fail", err)
		}
	})
}

// TestUnrecorded: a certificate by the CA that no record knows lets nobody in,
// so the CA's key alone is not enough.
func TestUnrecorded(t *testing.T) {
	clock, dir := newClock(), t.TempDir()
	elsewhere := startController(t, dir, clock, identitytest.NewMemory(clock.Now))
	p := elsewhere.joined()
	c := startController(t, dir, clock, identitytest.NewMemory(clock.Now))
	_, err := call(p.dial(c.address))
	denied(t, err, identity.CertificateUnknown)
	if !identity.NeedsRecovery(err) {
		t.Error("the probe must ask for another one")
	}
}

// TestExpiredOnALiveConnection: time counts at every call, not at the handshake.
func TestExpiredOnALiveConnection(t *testing.T) {
	c := newController(t)
	p := c.joined()
	conn := p.dial(c.address)
	c.clock.add(identity.ProbeLife - time.Second)
	_, err := call(conn)
	ok(t, err)
	c.clock.add(time.Second)
	_, err = call(conn)
	denied(t, err, identity.CertificateExpired)
	_, err = call(p.dial(c.address))
	denied(t, err, identity.CertificateExpired)
	if !identity.NeedsRecovery(err) {
		t.Error("the probe must recover")
	}
	ok(t, p.Recover(ctx))
	_, err = call(p.dial(c.address))
	ok(t, err)
}

// TestBanEndsLiveStream: the stream ends with the reason, the handler with it,
// and no way back is open.
func TestBanEndsLiveStream(t *testing.T) {
	c := newController(t)
	p, neighbour := c.joined(), c.joined()
	conn := p.dial(c.address)
	s, err := open(t, conn)
	ok(t, err)
	_, err = s.ask()
	ok(t, err)
	n, err := open(t, neighbour.dial(c.address))
	ok(t, err)
	_, err = n.ask()
	ok(t, err)

	ok(t, c.Ban(ctx, identity.KindProbe, p.Subject().Name, "sold its disk"))
	_, err = s.Recv()
	denied(t, err, identity.Banned)
	if got := status.Code(err); got != codes.PermissionDenied {
		t.Errorf("code %v", got)
	}
	if err := <-c.fleet.ended; err == nil {
		t.Error("the handler saw a good end")
	}
	_, err = n.ask()
	ok(t, err) // the neighbour is untouched

	_, err = call(conn)
	denied(t, err, identity.Banned)
	_, err = call(p.dial(c.address))
	denied(t, err, identity.Banned)
	denied(t, p.renewOver(conn), identity.Banned)
	denied(t, p.Recover(ctx), identity.Banned)
	denied(t, p.Join(ctx, c.newToken()), identity.Banned)
	if identity.NeedsRecovery(err) {
		t.Error("a banned probe must not try to recover")
	}
}

// TestRecheck: a ban at another controller, and a certificate that runs out,
// end live streams too.
func TestRecheck(t *testing.T) {
	clock, dir := newClock(), t.TempDir()
	store := identitytest.NewMemory(clock.Now)
	a, b := startController(t, dir, clock, store), startController(t, dir, clock, store)
	live := func(p *probe) *session {
		t.Helper()
		s, err := open(t, p.dial(a.address))
		ok(t, err)
		_, err = s.ask()
		ok(t, err)
		return s
	}
	banned, good := a.joined(), a.joined()
	bannedStream, goodStream := live(banned), live(good)
	ok(t, b.Ban(ctx, identity.KindProbe, banned.Subject().Name, "no reason"))
	ok(t, a.Recheck(ctx))
	_, err := bannedStream.Recv()
	denied(t, err, identity.Banned)
	_, err = goodStream.ask()
	ok(t, err)

	clock.add(identity.ProbeLife / 2)
	ok(t, good.renewOver(good.dial(a.address)))
	renewedStream := live(good)
	clock.add(identity.ProbeLife / 2)
	ok(t, a.Recheck(ctx))
	_, err = goodStream.Recv()
	denied(t, err, identity.CertificateExpired)
	for range 10 {
		_, err = renewedStream.ask()
		ok(t, err) // the same probe, a certificate that is good
	}
}

// TestSlowRecovery: who opens a recovery and says nothing is not waited for.
func TestSlowRecovery(t *testing.T) {
	c := newController(t, func(table identity.Table) {
		rule := table[pb.EnrollmentService_Recover_FullMethodName]
		if rule.Timeout <= 0 || rule.Timeout > time.Minute {
			t.Errorf("a recovery may take %v", rule.Timeout)
		}
		rule.Timeout = 20 * time.Millisecond
		table[pb.EnrollmentService_Recover_FullMethodName] = rule
	})
	s, err := pb.NewEnrollmentServiceClient(dial(t, c.address, bare(nil))).Recover(ctx)
	ok(t, err)
	_, err = s.Recv()
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("%v, want DeadlineExceeded", err)
	}
}

// TestRecoverOutOfOrder: what is not the conversation is an error of the caller.
func TestRecoverOutOfOrder(t *testing.T) {
	c := newController(t)
	client := pb.NewEnrollmentServiceClient(dial(t, c.address, bare(nil)))
	proof := &pb.RecoverRequest{Message: &pb.RecoverRequest_Proof{Proof: &pb.RecoverProof{}}}
	hello := &pb.RecoverRequest{Message: &pb.RecoverRequest_Hello{Hello: &pb.RecoverHello{}}}
	for _, messages := range [][]*pb.RecoverRequest{{{}}, {proof}, {hello, hello}, {hello, {}}} {
		s, err := client.Recover(ctx)
		ok(t, err)
		for _, m := range messages {
			_ = s.Send(m)
		}
		for err == nil {
			_, err = s.Recv()
		}
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v, want InvalidArgument", messages, err)
		}
	}
}

// TestFlood: enrolments from one address are cut off, and the cut heals.
func TestFlood(t *testing.T) {
	c := newController(t)
	limit := c.table[pb.EnrollmentService_Enroll_FullMethodName].Limit
	client := pb.NewEnrollmentServiceClient(dial(t, c.address, bare(nil)))
	flood := func(n int) (through int, retry time.Duration) {
		for range n {
			_, err := client.Enroll(ctx, &pb.EnrollRequest{Token: "guess"})
			switch d, _ := identity.DenialOf(err); d.Reason {
			case identity.CSRInvalid:
				through++
			case identity.RateLimited:
				retry = d.RetryAfter
				if status.Code(err) != codes.ResourceExhausted {
					t.Errorf("code %v", status.Code(err))
				}
			default:
				t.Fatal(err)
			}
		}
		return through, retry
	}
	through, retry := flood(3 * limit.Burst)
	if through != limit.Burst || retry <= 0 {
		t.Errorf("%d calls went through, want %d; retry after %v", through, limit.Burst, retry)
	}
	// Whoever has a certificate does not share the bucket of its address.
	_, err := call(c.joinedBefore().dial(c.address))
	ok(t, err)
	c.clock.add(time.Second)
	if through, _ := flood(limit.Burst); through != int(limit.PerSecond) {
		t.Errorf("%d calls went through after a second, want %v", through, limit.PerSecond)
	}
}

// joinedBefore is joined without a call over the wire.
func (c *controller) joinedBefore() *probe {
	c.t.Helper()
	p := c.newProbe()
	ok(c.t, p.Join(ctx, c.newToken(func(s *identity.TokenSpec) { s.Addresses = []string{c.aside()} })))
	return p
}

// aside is the address of a second port of the controller, with limits of its
// own.
func (c *controller) aside() string {
	c.t.Helper()
	side := *c
	l := listen(c.t)
	side.serve(l)
	return l.Addr().String()
}

// TestCallsPerProbe: a probe that calls too often is cut off, its neighbours
// are not.
func TestCallsPerProbe(t *testing.T) {
	c := newController(t)
	busy, calm := c.joined().dial(c.address), c.joined().dial(c.address)
	burst := c.table[pb.ProbeService_Session_FullMethodName].Limit.Burst
	for range burst {
		_, err := call(busy)
		ok(t, err)
	}
	_, err := call(busy)
	denied(t, err, identity.RateLimited)
	_, err = call(calm)
	ok(t, err)
	c.clock.add(time.Minute)
	_, err = call(busy)
	ok(t, err)
}

// TestStrangersAreLimited before their certificate is looked up.
func TestStrangersAreLimited(t *testing.T) {
	c := newController(t)
	p := c.joined()
	conn := dial(t, c.address, bare(forge(t)))
	burst := c.table[pb.ProbeService_Session_FullMethodName].Limit.Burst
	for range burst {
		_, err := call(conn)
		denied(t, err, identity.CertificateUntrusted)
	}
	_, err := call(conn)
	denied(t, err, identity.RateLimited)
	_, err = call(p.dial(c.address)) // from the same address
	ok(t, err)
}

// TestStoreAway: nobody is let in on trust while the records cannot be read, and
// nobody is told what is wrong inside.
func TestStoreAway(t *testing.T) {
	c := newController(t)
	p := c.joined()
	c.store.Fail = func() error { return errAway }
	err := c.newProbe().Join(ctx, identity.JoinToken{Addresses: []string{c.address}, Pin: c.ca.Pin(), ID: "x", Secret: identity.NewSecret(nil)})
	denied(t, err, identity.TokenUnknown) // no commit was tried
	_, err = call(p.dial(c.address))      // the first use has to be recorded
	if status.Code(err) != codes.Unavailable {
		t.Errorf("%v, want Unavailable", err)
	}
	if _, told := identity.DenialOf(err); told {
		t.Error("the probe is told that it was refused")
	}
	if s := status.Convert(err).Message(); contains(s, errAway.Error()) {
		t.Errorf("the caller is told %q", s)
	}
	if !contains(c.logs.String(), errAway.Error()) {
		t.Error("the operator is not told")
	}
	c.store.Fail = nil
	_, err = call(p.dial(c.address))
	ok(t, err)
}

func TestUnknownMethod(t *testing.T) {
	c := newController(t, func(table identity.Table) { delete(table, pb.ControlService_GetSurvey_FullMethodName) })
	cred := c.operator("anna")
	_, err := pb.NewControlServiceClient(dial(t, c.address, cred.Transport(c.clock.Now))).GetSurvey(ctx, &pb.GetSurveyRequest{})
	denied(t, err, identity.NotPermitted)
}

// TestBanRace: of streams that are opened while the ban comes, none is left.
func TestBanRace(t *testing.T) {
	c := newController(t)
	for range 5 {
		p := c.joined()
		conn := p.dial(c.address)
		_, err := call(conn)
		ok(t, err)
		var wg sync.WaitGroup
		for range 15 {
			wg.Go(func() {
				s, err := open(t, conn)
				for err == nil {
					_, err = s.ask()
				}
				denied(t, err, identity.Banned)
			})
		}
		ok(t, c.Ban(ctx, identity.KindProbe, p.Subject().Name, "race"))
		wg.Wait()
	}
}

// TestNoResumption: a second connection shows its certificate again.
func TestNoResumption(t *testing.T) {
	c := newController(t)
	p := c.joined()
	config, err := p.TLS()
	ok(t, err)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(10)
	config.NextProtos = []string{"h2"}
	for range 2 {
		conn, err := tls.Dial("tcp", c.address, config)
		ok(t, err)
		_, err = conn.Read(make([]byte, 1)) // the server's first frame; tickets would be before it
		ok(t, err)
		if s := conn.ConnectionState(); s.DidResume || s.Version != tls.VersionTLS13 {
			t.Errorf("resumed %v, version %x", s.DidResume, s.Version)
		}
		ok(t, conn.Close())
	}
}

// TestServerNames: programs that look at nothing but the name are served too,
// and a name that cannot be is found at the start.
func TestServerNames(t *testing.T) {
	c := newController(t)
	pool := x509.NewCertPool()
	root, err := x509.ParseCertificate(c.ca.Bundle()[0])
	ok(t, err)
	pool.AddCert(root)
	at := c.clock.Now
	for _, name := range []string{"localhost", "127.0.0.1"} {
		conn, err := tls.Dial("tcp", c.address, &tls.Config{RootCAs: pool, ServerName: name, Time: at, NextProtos: []string{"h2"}})
		ok(t, err)
		ok(t, conn.Close())
	}
	if conn, err := tls.Dial("tcp", c.address, &tls.Config{RootCAs: pool, ServerName: "elsewhere", Time: at}); err == nil {
		conn.Close()
		t.Error("any name will do")
	}
	if _, err := identity.NewAuthority(ctx, identity.Config{CA: c.ca, Store: c.store, Names: []string{"h\u00f6st"}}); err == nil {
		t.Error("a name that cannot be in a certificate was taken")
	}
}

// TestWaitForHandlers: after a ban the handler ends by itself.
func TestWaitForHandlers(t *testing.T) {
	c := newController(t)
	p := c.joined()
	s, err := open(t, p.dial(c.address))
	ok(t, err)
	_, err = s.ask()
	ok(t, err)
	ok(t, c.Ban(ctx, identity.KindProbe, p.Subject().Name, "wait"))
	_, err = s.Recv()
	denied(t, err, identity.Banned)
	c.guard.Wait()
	select {
	case <-c.fleet.ended:
	default:
		t.Error("the handler is still there")
	}
}

// TestBanDuringCheck: a ban that comes while the records are read for a new
// stream is what its caller is told.
func TestBanDuringCheck(t *testing.T) {
	c := newController(t)
	p := c.joined()
	conn := p.dial(c.address)
	_, err := call(conn)
	ok(t, err)
	c.store.BeforeView = func() {
		c.store.BeforeView = nil
		ok(t, c.Ban(ctx, identity.KindProbe, p.Subject().Name, "just now"))
	}
	_, err = call(conn)
	denied(t, err, identity.Banned)
}

// TestRecordOfAnother: a serial alone is not enough, all of the record must fit.
func TestRecordOfAnother(t *testing.T) {
	for name, change := range map[string]func(*identity.Certificate){
		"key":  func(r *identity.Certificate) { r.KeyHash[0] ^= 1 },
		"name": func(r *identity.Certificate) { r.Name = "other" },
		"kind": func(r *identity.Certificate) { r.Kind = identity.KindOperator },
	} {
		c := newController(t)
		p := c.joined()
		ok(t, c.store.Update(ctx, func(tx identity.Tx) error {
			r, err := tx.Certificate(p.serial())
			if err != nil {
				return err
			}
			change(&r)
			return tx.PutCertificate(r)
		}))
		_, err := call(p.dial(c.address))
		if d, _ := identity.DenialOf(err); d == nil || d.Reason != identity.CertificateUnknown {
			t.Errorf("another %s: %v", name, err)
		}
	}
}
