package identity_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/identity"
	"tfofleet/internal/identity/identitytest"
	pb "tfofleet/proto/tfofleet/v1"
)

// record reads what the store knows of the probe.
func (c *controller) record(p *probe) (m identity.Member, tok identity.Token) {
	c.t.Helper()
	ok(c.t, c.store.View(ctx, func(r identity.Reader) (err error) {
		if m, err = r.Member(identity.KindProbe, p.Subject().Name); err != nil {
			return err
		}
		tok, err = r.Token(m.Token)
		return err
	}))
	return m, tok
}

func TestTokenReasons(t *testing.T) {
	wrongSecret := func(c *controller, tok identity.JoinToken) identity.JoinToken {
		tok.Secret = identity.NewSecret(make([]byte, 16))
		return tok
	}
	for _, test := range []struct {
		name   string
		spec   func(*identity.TokenSpec)
		before func(*controller, identity.JoinToken) identity.JoinToken
		want   identity.Reason
		code   codes.Code
	}{
		{"no such token", nil, func(c *controller, tok identity.JoinToken) identity.JoinToken {
			tok.ID = "aaaaaaaaaaaaaaaa"
			return tok
		}, identity.TokenUnknown, codes.Unauthenticated},
		{"wrong secret", nil, wrongSecret, identity.TokenUnknown, codes.Unauthenticated},
		{"wrong secret of a revoked one", nil, func(c *controller, tok identity.JoinToken) identity.JoinToken {
			ok(c.t, c.RevokeToken(ctx, tok.ID))
			return wrongSecret(c, tok)
		}, identity.TokenUnknown, codes.Unauthenticated},
		{"empty secret", nil, func(c *controller, tok identity.JoinToken) identity.JoinToken {
			tok.Secret = identity.Secret{}
			return tok
		}, identity.TokenUnknown, codes.Unauthenticated},
		{"expired", nil, func(c *controller, tok identity.JoinToken) identity.JoinToken {
			c.clock.add(day)
			return tok
		}, identity.TokenExpired, codes.Unauthenticated},
		{"revoked", nil, func(c *controller, tok identity.JoinToken) identity.JoinToken {
			ok(c.t, c.RevokeToken(ctx, tok.ID))
			return tok
		}, identity.TokenRevoked, codes.Unauthenticated},
		{"exhausted by another key", nil, func(c *controller, tok identity.JoinToken) identity.JoinToken {
			ok(c.t, c.newProbe().Join(ctx, tok))
			return tok
		}, identity.TokenExhausted, codes.PermissionDenied},
		{"exhausted by two others", func(s *identity.TokenSpec) { s.Uses = 2 }, func(c *controller, tok identity.JoinToken) identity.JoinToken {
			ok(c.t, c.newProbe().Join(ctx, tok))
			ok(c.t, c.newProbe().Join(ctx, tok))
			return tok
		}, identity.TokenExhausted, codes.PermissionDenied},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newController(t)
			tok := c.newToken()
			if test.spec != nil {
				tok = c.newToken(test.spec)
			}
			tok = test.before(c, tok)
			p := c.newProbe()
			updates := c.store.Updates
			err := p.Join(ctx, tok)
			denied(t, err, test.want)
			if got := status.Code(err); got != test.code {
				t.Errorf("code %v, want %v", got, test.code)
			}
			if p.Enrolled() || c.store.Updates != updates {
				t.Error("a refusal left something behind")
			}
		})
	}
}

func TestTokenLastMoment(t *testing.T) {
	c := newController(t)
	tok := c.newToken()
	c.clock.add(day - time.Microsecond)
	ok(t, c.newProbe().Join(ctx, tok))
}

func TestTokenSpec(t *testing.T) {
	c := newController(t)
	for _, change := range []func(*identity.TokenSpec){
		func(s *identity.TokenSpec) { s.Uses = 0 },
		func(s *identity.TokenSpec) { s.TTL = 0 },
		func(s *identity.TokenSpec) { s.Prefix = "-x" },
		func(s *identity.TokenSpec) { s.Addresses = nil },
		func(s *identity.TokenSpec) { s.Addresses = []string{"no-port"} },
	} {
		spec := identity.TokenSpec{Addresses: []string{"a:1"}, Uses: 1, TTL: day}
		change(&spec)
		if _, err := c.CreateToken(ctx, spec); !errors.Is(err, identity.ErrInvalid) {
			t.Errorf("%+v: %v, want ErrInvalid", spec, err)
		}
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.CreateToken(over, identity.TokenSpec{Addresses: []string{"a:1"}, Uses: 1, TTL: day}); err == nil || errors.Is(err, identity.ErrInvalid) {
		t.Errorf("a store that fails: %v", err)
	}
	if err := c.RevokeToken(ctx, "none"); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("%v, want ErrNotFound", err)
	}
	tok := c.newToken()
	all, err := c.Tokens(ctx)
	ok(t, err)
	if len(all) != 1 || all[0].ID != tok.ID {
		t.Errorf("tokens %v", all)
	}
}

// TestEnrolledRecord: the name, the labels and the use.
func TestEnrolledRecord(t *testing.T) {
	c := newController(t)
	p := c.joined()
	m, tok := c.record(p)
	if m.Labels.String() != "region=fra" || tok.Used != 1 || m.Name[:4] != "fra-" || !identity.ValidName(m.Name) {
		t.Errorf("member %+v of token %+v", m, tok)
	}
	members, err := c.Members(ctx, identity.KindProbe)
	ok(t, err)
	if len(members) != 1 || members[0].Name != m.Name {
		t.Errorf("members %+v", members)
	}
	again := openProbe(t, p.dir, c.clock.Now)
	if again.Subject() != p.Subject() || again.Addresses()[0] != c.address {
		t.Errorf("after a restart the probe is %v at %v", again.Subject(), again.Addresses())
	}
}

// loseReplies makes a client whose calls happen and whose first n replies are
// lost.
func loseReplies(n int32) grpc.DialOption {
	var left atomic.Int32
	left.Store(n)
	return grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := invoke(ctx, method, req, reply, conn, opts...)
		if err == nil && left.Add(-1) >= 0 {
			return status.Error(codes.Unavailable, "the reply is lost")
		}
		return err
	})
}

// TestLostReply: the same process asks again and gets the same certificate, as
// often as it takes, and even after the token has ended.
func TestLostReply(t *testing.T) {
	for _, test := range []struct {
		name string
		then func(*controller, identity.JoinToken)
	}{
		{"at once", func(*controller, identity.JoinToken) {}},
		{"after the token expired", func(c *controller, _ identity.JoinToken) { c.clock.add(2 * day) }},
		{"after the token was revoked", func(c *controller, tok identity.JoinToken) { ok(c.t, c.RevokeToken(ctx, tok.ID)) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newController(t)
			p, tok := c.newProbe(), c.newToken()
			lossy := loseReplies(20)
			for range 20 {
				if err := p.Join(ctx, tok, lossy); err == nil {
					t.Fatal("the reply was not lost")
				}
			}
			test.then(c, tok)
			ok(t, p.Join(ctx, tok, lossy))
			m, record := c.record(p)
			if record.Used != 1 || m.Recoveries != 0 {
				t.Errorf("%d uses and %d recoveries for one probe", record.Used, m.Recoveries)
			}
			_, err := call(p.dial(c.address))
			ok(t, err)
		})
	}
}

// TestLostReplyAndCrash: the key that the certificate was for has died with the
// process; the identity key brings the probe back, under its name.
func TestLostReplyAndCrash(t *testing.T) {
	c := newController(t)
	p, tok := c.newProbe(), c.newToken()
	if err := p.Join(ctx, tok, loseReplies(1)); err == nil {
		t.Fatal("the reply was not lost")
	}
	p = openProbe(t, p.dir, c.clock.Now)
	ok(t, p.Join(ctx, tok))
	m, record := c.record(p)
	if record.Used != 1 || m.Recoveries != 1 {
		t.Errorf("%d uses and %d recoveries, want 1 and 1", record.Used, m.Recoveries)
	}
	_, err := call(p.dial(c.address))
	ok(t, err)
}

// TestReplay: what a thief recorded of an enrolment is worth nothing to it.
func TestReplay(t *testing.T) {
	c := newController(t)
	p, tok := c.newProbe(), c.newToken(func(s *identity.TokenSpec) { s.Uses = 2 })
	var seen *pb.EnrollRequest
	ok(t, p.Join(ctx, tok, grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		seen = req.(*pb.EnrollRequest)
		return invoke(ctx, method, req, reply, conn, opts...)
	})))
	client := pb.NewEnrollmentServiceClient(dial(t, c.address, bare(nil)))
	replay := func(change func(*pb.EnrollRequest)) error {
		req := &pb.EnrollRequest{Token: seen.Token, Secret: seen.Secret, Csr: seen.Csr, IdentityKey: seen.IdentityKey, IdentitySignature: seen.IdentitySignature}
		change(req)
		_, err := client.Enroll(ctx, req)
		return err
	}
	ok(t, replay(func(*pb.EnrollRequest) {})) // a certificate for a key that only the probe has
	_, err := call(p.dial(c.address))
	ok(t, err)
	denied(t, replay(func(*pb.EnrollRequest) {}), identity.KeyReused) // the reply cannot have been lost
	denied(t, replay(func(r *pb.EnrollRequest) { r.Csr = newCSR(t) }), identity.ProofInvalid)
	denied(t, replay(func(r *pb.EnrollRequest) { r.Token = c.newToken().ID }), identity.ProofInvalid)
	denied(t, replay(func(r *pb.EnrollRequest) { r.IdentityKey = nil }), identity.ProofInvalid)
	denied(t, replay(func(r *pb.EnrollRequest) { r.IdentityKey = make([]byte, 32) }), identity.ProofInvalid)
	denied(t, replay(func(r *pb.EnrollRequest) { r.Csr = nil }), identity.CSRInvalid)
	_, record := c.record(p)
	if record.Used != 1 {
		t.Errorf("%d uses", record.Used)
	}
}

// TestSecondTokenForAMember: a member that joins again keeps its name, and
// takes no use.
func TestSecondTokenForAMember(t *testing.T) {
	c := newController(t)
	p := c.joined()
	name := p.Subject().Name
	second := c.newToken()
	ok(t, p.Join(ctx, second))
	if got := p.Subject().Name; got != name {
		t.Errorf("%s is %s now", name, got)
	}
	ok(t, c.newProbe().Join(ctx, second)) // its use is still there
}

// TestRecordedOrNot: when the record cannot be made, no certificate is given.
func TestRecordedOrNot(t *testing.T) {
	c := newController(t)
	p, tok := c.newProbe(), c.newToken()
	c.store.Fail = func() error { return errAway }
	err := p.Join(ctx, tok)
	if status.Code(err) != codes.Unavailable || p.Enrolled() {
		t.Errorf("%v, enrolled %v", err, p.Enrolled())
	}
	c.store.Fail = nil
	ok(t, p.Join(ctx, tok))
}

// TestSeveralAddresses: a controller that is away is passed over, a refusal is
// an answer.
func TestSeveralAddresses(t *testing.T) {
	c := newController(t)
	dead := listen(t)
	away := dead.Addr().String()
	ok(t, dead.Close())
	ok(t, c.newProbe().Join(ctx, c.newToken(func(s *identity.TokenSpec) { s.Addresses = []string{away, c.address} })))

	tok := c.newToken(func(s *identity.TokenSpec) { s.Addresses = []string{away, c.address, "127.0.0.1:1"} })
	ok(t, c.RevokeToken(ctx, tok.ID))
	denied(t, c.newProbe().Join(ctx, tok), identity.TokenRevoked)
}

// TestFleets: a store and a CA that are not of each other are told apart at the
// start, not by every probe.
func TestFleets(t *testing.T) {
	c := newController(t)
	other := newController(t)
	_, err := identity.NewAuthority(ctx, identity.Config{CA: other.ca, Store: c.store})
	if err == nil || !contains(err.Error(), c.ca.Fleet()) || !contains(err.Error(), "backup") {
		t.Errorf("%v", err)
	}
}

// TestMissingCA: the CA of a fleet that there is already is not made anew.
func TestMissingCA(t *testing.T) {
	c := newController(t)
	dir := filepath.Join(t.TempDir(), "ca")
	_, err := identity.OpenCAOf(ctx, c.store, dir, c.clock.Now())
	if err == nil || !contains(err.Error(), c.ca.Fleet()) || !contains(err.Error(), "backup") {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
	same, err := identity.OpenCAOf(ctx, c.store, c.dir, c.clock.Now())
	ok(t, err)
	if same.Fleet() != c.ca.Fleet() {
		t.Errorf("fleet %s, want %s", same.Fleet(), c.ca.Fleet())
	}
	first, err := identity.OpenCAOf(ctx, identitytest.NewMemory(c.clock.Now), dir, c.clock.Now())
	ok(t, err)
	if first.Fleet() == c.ca.Fleet() {
		t.Error("a new fleet is the old one")
	}
}

var _ identity.Store = (*identitytest.Memory)(nil)
