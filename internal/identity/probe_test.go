package identity_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/identity"
	pb "tfofleet/proto/tfofleet/v1"
)

func (p *probe) identityPath() string   { return filepath.Join(p.dir, "identity.key") }
func (p *probe) credentialPath() string { return filepath.Join(p.dir, "credential.json") }

func reopen(p *probe) error {
	_, err := identity.OpenProbe(identity.ProbeConfig{Dir: p.dir, Now: p.now})
	return err
}

func TestProbeFiles(t *testing.T) {
	c := newController(t)
	p := c.newProbe()
	if p.Enrolled() || p.Subject() != (identity.Subject{}) || p.Addresses() != nil || p.RenewIn() != 0 {
		t.Error("a new probe is somebody")
	}
	if _, err := p.TLS(); !errors.Is(err, identity.ErrNotEnrolled) {
		t.Errorf("%v", err)
	}
	for _, err := range []error{p.Recover(ctx), p.Renew(ctx, nil), p.SetBundle(nil)} {
		if !errors.Is(err, identity.ErrNotEnrolled) {
			t.Errorf("%v", err)
		}
	}
	ok(t, p.Join(ctx, c.newToken()))
	for _, path := range []string{p.identityPath(), p.credentialPath()} {
		info, err := os.Stat(path)
		ok(t, err)
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s has mode %04o", path, got)
		}
		ok(t, os.Chmod(path, 0o644))
		if err := reopen(p); !errors.Is(err, identity.ErrMode) || !contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("%v", err)
		}
		ok(t, os.Chmod(path, 0o600))
	}
	ok(t, reopen(p))
	entries, err := os.ReadDir(p.dir)
	ok(t, err)
	if len(entries) != 2 {
		t.Errorf("left behind: %v", entries)
	}
}

// TestIdentityKeyOnce: made once, also by processes that start at once.
func TestIdentityKeyOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := identity.OpenProbe(identity.ProbeConfig{Dir: dir}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	path := filepath.Join(dir, "identity.key")
	before, err := os.ReadFile(path)
	ok(t, err)
	_, err = identity.OpenProbe(identity.ProbeConfig{Dir: dir})
	ok(t, err)
	after, err := os.ReadFile(path)
	ok(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the identity key has changed")
	}
}

// TestDamagedProbe: damage is found when the file is opened, and there is a way
// back to the same name.
func TestDamagedProbe(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	c := newController(t)
	p := c.joined()
	name := p.Subject().Name
	whole, err := os.ReadFile(p.credentialPath())
	ok(t, err)
	for range 100 {
		damaged := bytes.Clone(whole[:1+r.IntN(len(whole)-1)])
		if r.IntN(2) == 0 {
			damaged = bytes.Clone(whole)
			damaged[r.IntN(len(damaged))] ^= 1 << r.IntN(7)
		}
		ok(t, os.WriteFile(p.credentialPath(), damaged, 0o600))
		q, err := identity.OpenProbe(identity.ProbeConfig{Dir: p.dir, Now: p.now})
		if err == nil && (!q.Enrolled() || q.Subject() != p.Subject()) {
			t.Errorf("opened as %v", q.Subject())
		}
		if err != nil && !contains(err.Error(), "remove "+p.credentialPath()) {
			t.Errorf("no next step in %q", err)
		}
	}
	ok(t, os.Remove(p.credentialPath()))
	p = openProbe(t, p.dir, p.now)
	ok(t, p.Join(ctx, c.newToken()))
	if got := p.Subject().Name; got != name {
		t.Errorf("%s came back as %s", name, got)
	}

	ok(t, os.WriteFile(p.identityPath(), []byte("-----BEGIN"), 0o600))
	if err := reopen(p); err == nil || !contains(err.Error(), "restore") {
		t.Errorf("%v", err)
	}
	ok(t, os.Remove(p.identityPath()))
	if err := reopen(p); err == nil || !contains(err.Error(), "restore") {
		t.Errorf("a new identity beside an old certificate: %v", err)
	}
}

// TestNotDurableNotUsed: a certificate that could not be written is not used;
// when it can, the same one comes.
func TestNotDurableNotUsed(t *testing.T) {
	c := newController(t)
	p, tok := c.newProbe(), c.newToken()
	ok(t, os.Mkdir(p.credentialPath(), 0o700)) // nothing can be renamed over it
	if err := p.Join(ctx, tok); err == nil || p.Enrolled() {
		t.Errorf("%v, enrolled %v", err, p.Enrolled())
	}
	ok(t, os.Remove(p.credentialPath()))
	ok(t, p.Join(ctx, tok))
	if m, _ := c.record(p); m.Recoveries != 0 {
		t.Error("it took another certificate")
	}
	first := p.serial()
	ok(t, os.Remove(p.credentialPath()))
	ok(t, os.Mkdir(p.credentialPath(), 0o700))
	if err := p.renewOver(p.dial(c.address)); err == nil || p.serial() != first {
		t.Errorf("%v, serial %s", err, p.serial())
	}
}

// TestRenewIn: at half life, spread, and at once when the clock makes no sense.
func TestRenewIn(t *testing.T) {
	c := newController(t)
	var least, most time.Duration = 1 << 62, 0
	for range 30 {
		p := c.joinedBefore()
		in := p.RenewIn()
		least, most = min(least, in), max(most, in)
		if got := openProbe(t, p.dir, c.clock.Now).RenewIn(); got != in {
			t.Errorf("%v, after a restart %v", in, got)
		}
	}
	half := float64(identity.ProbeLife / 2)
	if float64(least) < 0.9*half || float64(most) > 1.1*half || most-least < time.Hour {
		t.Errorf("between %v and %v", least, most)
	}
	p := c.joined()
	c.clock.add(4 * day)
	if in := p.RenewIn(); in != 0 {
		t.Errorf("%v after four days", in)
	}
	ok(t, p.renewOver(p.dial(c.address)))
	if in := p.RenewIn(); in < 3*day {
		t.Errorf("%v after a renewal", in)
	}
	c.clock.add(-10 * day)
	if in := p.RenewIn(); in != 0 {
		t.Errorf("%v with a clock that was set back", in)
	}
}

// TestClockSkew: a probe whose clock is wrong joins and calls; one that is very
// wrong is told so. Its own renewal goes by differences, so it works as well.
func TestClockSkew(t *testing.T) {
	for _, test := range []struct {
		skew time.Duration
		ok   bool
	}{
		{0, true}, {-time.Hour, true}, {-24 * time.Hour, true}, {time.Hour, true}, {20 * day, true}, {identity.ServerLife + 23*time.Hour, true},
		{-26 * time.Hour, false}, {identity.ServerLife + 25*time.Hour, false}, {-50 * 365 * day, false},
	} {
		c := newController(t)
		p := openProbe(t, t.TempDir(), func() time.Time { return c.clock.Now().Add(test.skew) })
		err := p.Join(ctx, c.newToken())
		if !test.ok {
			if err == nil || !contains(err.Error(), "set the clock") {
				t.Errorf("%v off: %v", test.skew, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v off: %v", test.skew, err)
			continue
		}
		if in := p.RenewIn(); in < 3*day {
			t.Errorf("%v off: renew in %v", test.skew, in)
		}
		_, err = call(p.dial(c.address))
		ok(t, err)
		if test.skew > identity.ServerLife {
			continue // the controller's certificate is a new one only at half life
		}
		c.clock.add(4 * day)
		if in := p.RenewIn(); in != 0 {
			t.Errorf("%v off: renew in %v after four days", test.skew, in)
		}
		ok(t, p.renewOver(p.dial(c.address)))
	}
}

// TestControllerClockStepsBack: what was issued before a small step back is
// still valid after it.
func TestControllerClockStepsBack(t *testing.T) {
	c := newController(t)
	p := c.joined()
	c.clock.add(-59 * time.Minute)
	_, err := call(p.dial(c.address))
	ok(t, err)
	c.clock.add(-2 * time.Minute)
	_, err = call(p.dial(c.address))
	denied(t, err, identity.CertificateExpired)
}

// TestPin: another CA than the pinned one gets nothing, neither secret nor
// identity.
func TestPin(t *testing.T) {
	c, thief := newController(t), newController(t)
	tok := c.newToken(func(s *identity.TokenSpec) { s.Addresses = []string{thief.address} })
	p := c.newProbe()
	if err := p.Join(ctx, tok); err == nil || !contains(err.Error(), "pins") {
		t.Errorf("%v", err)
	}
	if contains(thief.logs.String(), "refused") {
		t.Error("the thief was asked")
	}
}

// TestBadAnswers: nothing that a controller may send replaces a certificate that
// works by one that does not.
func TestBadAnswers(t *testing.T) {
	c := newController(t)
	p, neighbour, other := c.joined(), c.joined(), newController(t)
	first := p.serial()
	for _, test := range []struct {
		name   string
		change func(*pb.IssuedCertificate)
	}{
		{"nothing", func(i *pb.IssuedCertificate) { proto.Reset(i) }},
		{"no certificate", func(i *pb.IssuedCertificate) { i.Certificate = nil }},
		{"a certificate that is none", func(i *pb.IssuedCertificate) { i.Certificate = []byte("x") }},
		{"somebody else's certificate", func(i *pb.IssuedCertificate) { i.Certificate = neighbour.certificate().Raw }},
		{"no bundle", func(i *pb.IssuedCertificate) { i.Bundle = nil }},
		{"a bundle that is none", func(i *pb.IssuedCertificate) { i.Bundle = [][]byte{{1}} }},
		{"a bundle without CA", func(i *pb.IssuedCertificate) { i.Bundle = [][]byte{neighbour.certificate().Raw} }},
		{"another CA's bundle", func(i *pb.IssuedCertificate) { i.Bundle = other.ca.Bundle() }},
		{"a huge bundle", func(i *pb.IssuedCertificate) {
			for range 5 {
				i.Bundle = append(i.Bundle, i.Bundle...)
			}
		}},
		{"no life", func(i *pb.IssuedCertificate) { i.ValidFor = nil }},
		{"a life that is over", func(i *pb.IssuedCertificate) { i.ValidFor = durationpb.New(-time.Hour) }},
		{"a life that overflows", func(i *pb.IssuedCertificate) { i.ValidFor = &durationpb.Duration{Seconds: 1 << 62} }},
	} {
		err := p.Renew(ctx, func(ctx context.Context, csr []byte) (*pb.IssuedCertificate, error) {
			issued, err := c.Renew(ctx, identity.Caller{Class: identity.Probes, Name: p.Subject().Name}, csr)
			ok(t, err)
			test.change(issued)
			return issued, nil
		})
		if err == nil || p.serial() != first {
			t.Errorf("%s was taken: %v", test.name, err)
		}
	}
	err := p.Renew(ctx, func(context.Context, []byte) (*pb.IssuedCertificate, error) { return nil, nil })
	if err == nil {
		t.Error("no answer was taken")
	}
	if err := p.SetBundle(nil); err == nil {
		t.Error("an empty bundle was taken")
	}
	ok(t, p.renewOver(p.dial(c.address))) // still the same question
	if p.serial() == first {
		t.Error("no new certificate")
	}
	ok(t, reopen(p))
}
