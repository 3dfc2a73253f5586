package identity_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/identity"
	pb "tfofleet/proto/tfofleet/v1"
)

func newCSR(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	ok(t, err)
	return csr
}

// serial is the serial of the certificate that the probe shows.
func (p *probe) serial() string {
	p.t.Helper()
	return p.certificate().SerialNumber.Text(16)
}

func (p *probe) certificate() *x509.Certificate {
	p.t.Helper()
	config, err := p.TLS()
	ok(p.t, err)
	cert, err := config.GetClientCertificate(nil)
	ok(p.t, err)
	return cert.Leaf
}

// TestRenew: a new key, active from its first use; the old certificate is good
// as long as a session may last, and then no more.
func TestRenew(t *testing.T) {
	c := newController(t)
	p := c.joined()
	old := p.dial(c.address)
	_, err := call(old)
	ok(t, err)
	first, firstKey := p.serial(), p.certificate().PublicKey.(*ecdsa.PublicKey)

	c.clock.add(identity.ProbeLife / 2)
	ok(t, p.renewOver(old))
	if p.serial() == first || p.certificate().PublicKey.(*ecdsa.PublicKey).Equal(firstKey) {
		t.Error("serial or key is the old one")
	}
	if m, _ := c.record(p); m.Serial != first {
		t.Error("the new certificate is active before it was used")
	}
	c.clock.add(day) // not used: the old one stays good
	_, err = call(old)
	ok(t, err)

	_, err = call(p.dial(c.address))
	ok(t, err)
	if m, _ := c.record(p); m.Serial != p.serial() {
		t.Error("the new certificate is not active after it was used")
	}
	c.clock.add(89 * time.Minute)
	_, err = call(old)
	ok(t, err)
	c.clock.add(time.Minute)
	_, err = call(old)
	denied(t, err, identity.CertificateSuperseded)
	_, err = call(p.dial(c.address))
	ok(t, err)
}

// TestRenewLostReply: nothing is lost with the reply, and asking again is the
// same question.
func TestRenewLostReply(t *testing.T) {
	c := newController(t)
	p := c.joined()
	conn := p.dial(c.address)
	_, err := call(conn)
	ok(t, err)
	first := p.serial()
	var lost, got *pb.IssuedCertificate
	err = p.Renew(ctx, func(ctx context.Context, csr []byte) (*pb.IssuedCertificate, error) {
		lost, err = c.Renew(ctx, identity.Caller{Class: identity.Probes, Name: p.Subject().Name}, csr)
		ok(t, err)
		return nil, status.Error(codes.Unavailable, "lost")
	})
	if err == nil || p.serial() != first {
		t.Errorf("%v; serial %s", err, p.serial())
	}
	_, err = call(conn)
	ok(t, err)
	ok(t, p.Renew(ctx, func(ctx context.Context, csr []byte) (*pb.IssuedCertificate, error) {
		got, err = c.Renew(ctx, identity.Caller{Class: identity.Probes, Name: p.Subject().Name}, csr)
		return got, err
	}))
	if string(got.Certificate) != string(lost.Certificate) {
		t.Error("the same question got another certificate")
	}
	_, err = call(p.dial(c.address))
	ok(t, err)
}

// TestKeyReuse: a key gets one certificate, whoever asks.
func TestKeyReuse(t *testing.T) {
	c := newController(t)
	p, other := c.joined(), c.joined()
	csr := newCSR(t)
	caller := identity.Caller{Class: identity.Probes, Name: p.Subject().Name}
	_, err := c.Renew(ctx, caller, csr)
	ok(t, err)
	_, err = c.Renew(ctx, identity.Caller{Class: identity.Probes, Name: other.Subject().Name}, csr)
	denied(t, err, identity.KeyReused)
	c.clock.add(identity.ProbeLife)
	_, err = c.Renew(ctx, caller, csr)
	denied(t, err, identity.KeyReused)
	_, err = c.Renew(ctx, identity.Caller{Class: identity.Operators, Name: "anna"}, newCSR(t))
	denied(t, err, identity.NotPermitted)
}

// TestReusedKeyIsDropped: a probe whose key is refused asks with another one.
func TestReusedKeyIsDropped(t *testing.T) {
	c := newController(t)
	p := c.joined()
	var keys [][]byte
	refuse := func(_ context.Context, csr []byte) (*pb.IssuedCertificate, error) {
		parsed, err := x509.ParseCertificateRequest(csr)
		ok(t, err)
		keys = append(keys, parsed.RawSubjectPublicKeyInfo)
		return nil, &identity.Denial{Reason: identity.KeyReused}
	}
	denied(t, p.Renew(ctx, refuse), identity.KeyReused)
	denied(t, p.Renew(ctx, refuse), identity.KeyReused)
	if string(keys[0]) == string(keys[1]) {
		t.Error("it asks with the key that was refused")
	}
}

// TestCopiedDisk: of two copies of a probe the one that renews goes on, the
// other one has to prove its identity key.
func TestCopiedDisk(t *testing.T) {
	c := newController(t)
	p := c.joined()
	ok(t, p.renewOver(p.dial(c.address)))
	clone := openProbe(t, p.dir, c.clock.Now) // has the unused second certificate
	c.clock.add(time.Second)
	ok(t, p.renewOver(p.dial(c.address)))
	_, err := call(p.dial(c.address))
	ok(t, err)
	c.clock.add(2 * time.Hour)
	_, err = call(clone.dial(c.address))
	denied(t, err, identity.CertificateSuperseded)
	_, err = call(p.dial(c.address))
	ok(t, err)
}

// TestUnusedIsNotActivatedLate: a certificate that was issued before the active
// one and never used is none that the probe has.
func TestUnusedIsNotActivatedLate(t *testing.T) {
	c := newController(t)
	p := c.joined()
	clone := openProbe(t, p.dir, c.clock.Now)
	c.clock.add(time.Second)
	ok(t, p.Recover(ctx))
	_, err := call(p.dial(c.address))
	ok(t, err)
	_, err = call(clone.dial(c.address))
	denied(t, err, identity.CertificateSuperseded)
}

func TestRecoverLimit(t *testing.T) {
	c := newController(t)
	p := c.joined()
	neighbour := c.joined()
	c.clock.add(60 * day)
	for range 5 {
		ok(t, p.Recover(ctx))
	}
	err := p.Recover(ctx)
	denied(t, err, identity.RecoveryLimit)
	if d, _ := identity.DenialOf(err); d.RetryAfter <= 0 || d.RetryAfter > day {
		t.Errorf("retry after %v", d.RetryAfter)
	}
	ok(t, neighbour.Recover(ctx))
	_, err = call(p.dial(c.address)) // what it has is good
	ok(t, err)
	c.clock.add(day)
	ok(t, p.Recover(ctx))
	if m, _ := c.record(p); m.Recoveries != 6 || m.RecoveriesToday != 1 {
		t.Errorf("%d recoveries, %d today", m.Recoveries, m.RecoveriesToday)
	}
}

// TestRecoverStrangers: nobody recovers as somebody else, and nobody uses up
// somebody else's limit.
func TestRecoverStrangers(t *testing.T) {
	c := newController(t)
	p := c.joined()
	m, _ := c.record(p)
	client := pb.NewEnrollmentServiceClient(dial(t, c.address, bare(nil)))
	attempt := func(key, csr, signature []byte) error {
		s, err := client.Recover(ctx)
		ok(t, err)
		ok(t, s.Send(&pb.RecoverRequest{Message: &pb.RecoverRequest_Hello{Hello: &pb.RecoverHello{IdentityKey: key}}}))
		resp, err := s.Recv()
		ok(t, err) // whether there is such a probe is not said yet
		if len(resp.GetChallenge().GetNonce()) != 32 {
			t.Errorf("challenge %v", resp)
		}
		ok(t, s.Send(&pb.RecoverRequest{Message: &pb.RecoverRequest_Proof{Proof: &pb.RecoverProof{Csr: csr, IdentitySignature: signature}}}))
		_, err = s.Recv()
		return err
	}
	for range 10 {
		denied(t, attempt(m.IdentityKey, newCSR(t), make([]byte, 64)), identity.ProofInvalid)
	}
	denied(t, attempt(m.IdentityKey, newCSR(t), nil), identity.ProofInvalid)
	denied(t, attempt(nil, newCSR(t), nil), identity.ProofInvalid)
	denied(t, attempt([]byte("short"), newCSR(t), nil), identity.ProofInvalid)
	denied(t, attempt(m.IdentityKey, []byte("no CSR"), nil), identity.CSRInvalid)
	ok(t, p.Recover(ctx))

	// A probe whose record is gone proves to be somebody whom nobody knows.
	forgotten := newController(t)
	stranger := forgotten.joined()
	ok(t, forgotten.store.Forget(identity.KindProbe, stranger.Subject().Name))
	denied(t, stranger.Recover(ctx), identity.ProbeUnknown)
}

// TestRecoverNonce: an answer is good for its own challenge only.
func TestRecoverNonce(t *testing.T) {
	c := newController(t)
	p := c.joined()
	var recorded *pb.RecoverProof
	ok(t, p.Recover(ctx, grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		s, err := streamer(ctx, desc, conn, method, opts...)
		return &tap{s, &recorded}, err
	})))
	m, _ := c.record(p)
	challenge, err := c.Challenge(m.IdentityKey)
	ok(t, err)
	_, err = challenge.Answer(ctx, recorded)
	denied(t, err, identity.ProofInvalid)
}

// tap keeps the proof that goes by.
type tap struct {
	grpc.ClientStream
	proof **pb.RecoverProof
}

func (s *tap) SendMsg(m any) error {
	if p := m.(*pb.RecoverRequest).GetProof(); p != nil {
		*s.proof = p
	}
	return s.ClientStream.SendMsg(m)
}
