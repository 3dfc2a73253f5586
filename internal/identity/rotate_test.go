package identity_test

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/identity"
)

// TestRotation walks through an exchange of the root with probes that know only
// the old one, both, or only the new one; with tokens that pin either; and with
// a second controller that reads the file later.
func TestRotation(t *testing.T) {
	c := newController(t)
	oldToken := c.newToken(func(s *identity.TokenSpec) { s.TTL, s.Uses = 365*day, 10 })
	away := c.joined() // never hears of the rotation
	calls := func(p *probe) {
		t.Helper()
		_, err := call(p.dial(c.address))
		ok(t, err)
	}
	stage := func(want identity.Stage) {
		t.Helper()
		ok(t, c.ca.Advance(c.clock.Now(), false))
		if got, since := c.ca.Stage(); got != want || !since.Equal(c.clock.Now()) {
			t.Fatalf("stage %v since %v, want %v", got, since, want)
		}
		again, err := identity.OpenCA(c.dir, c.clock.Now())
		ok(t, err)
		if got, _ := again.Stage(); got != want || again.Pin() != c.ca.Pin() {
			t.Fatalf("after a restart: stage %v, want %v", got, want)
		}
	}
	oldPin := c.ca.Pin()
	if n := len(c.ca.Bundle()); n != 1 {
		t.Fatalf("%d roots", n)
	}

	stage(identity.Prepared)
	if c.ca.Pin() != oldPin || len(c.ca.Bundle()) != 2 {
		t.Error("the next root signs already, or is not trusted yet")
	}
	calls(away)
	both := c.joined()

	stage(identity.Switched)
	if c.ca.Pin() == oldPin || len(c.ca.Bundle()) != 2 {
		t.Error("the new root does not sign, or the old one is not trusted")
	}
	calls(away) // trusts the old root only, and its certificate is by that
	calls(both)
	fresh := c.joined() // pins the new root
	calls(fresh)
	late := c.newProbe() // pins the old root
	ok(t, late.Join(ctx, oldToken))
	calls(late)
	ok(t, both.renewOver(both.dial(c.address)))
	calls(both)

	err := c.ca.Advance(c.clock.Now(), false)
	var early *identity.TooEarlyError
	if !errors.As(err, &early) || !early.Until.Equal(c.clock.Now().Add(identity.OperatorLife)) {
		t.Fatalf("%v, want TooEarlyError", err)
	}
	c.clock.add(identity.OperatorLife)
	stage(identity.Steady)
	if len(c.ca.Bundle()) != 1 {
		t.Error("the old root is still trusted")
	}
	// Whoever was away comes back by itself, and knows the new root then.
	for _, p := range []*probe{away, both, fresh, late} {
		ok(t, p.Recover(ctx))
		calls(p)
	}
	ok(t, c.newProbe().Join(ctx, oldToken))

	// A second rotation: who slept through one still gets in.
	for _, want := range []identity.Stage{identity.Prepared, identity.Switched} {
		stage(want)
		calls(away)
	}
	c.clock.add(identity.OperatorLife)
	stage(identity.Steady)
	ok(t, away.Recover(ctx))
	calls(away)
}

// TestStolenRoot: the old root is gone at once, for both sides.
func TestStolenRoot(t *testing.T) {
	c := newController(t)
	away, connected := c.joined(), c.joined()
	ok(t, c.ca.Advance(c.clock.Now(), false))
	ok(t, connected.SetBundle(c.ca.Bundle())) // as Welcome brings it
	ok(t, c.ca.Advance(c.clock.Now(), false))
	ok(t, c.ca.Advance(c.clock.Now(), true))
	_, err := call(connected.dial(c.address)) // knows the new root, is certified by the old one
	denied(t, err, identity.CertificateUntrusted)
	if !identity.NeedsRecovery(err) {
		t.Error("the probe must recover")
	}
	ok(t, connected.Recover(ctx))
	_, err = call(connected.dial(c.address))
	ok(t, err)
	if err := away.Recover(ctx); status.Code(err) != codes.Unavailable {
		t.Errorf("%v: a probe that knows only the stolen root must trust nobody", err)
	}
	ok(t, away.Join(ctx, c.newToken()))
	_, err = call(away.dial(c.address))
	ok(t, err)
}

// TestRotationElsewhere: a controller that has read the file again knows what
// the one that rotated knows.
func TestRotationElsewhere(t *testing.T) {
	a := newController(t)
	b := startController(t, a.dir, a.clock, a.store)
	for range 2 {
		ok(t, a.ca.Advance(a.clock.Now(), false))
		ok(t, b.ca.Reload())
	}
	p := a.joined() // certified by the new root
	_, err := call(p.dial(b.address))
	ok(t, err)
	if a.ca.Pin() != b.ca.Pin() {
		t.Error("two controllers pin two roots")
	}
}

// TestReloadKeeps: a file that cannot be read changes nothing.
func TestReloadKeeps(t *testing.T) {
	c := newController(t)
	pin := c.ca.Pin()
	data := c.readCA()
	c.writeCA(data[:len(data)/2])
	if err := c.ca.Reload(); err == nil {
		t.Error("half a file was read")
	}
	if err := c.ca.Advance(c.clock.Now(), false); err == nil {
		t.Error("half a file was rotated")
	}
	other := newController(t)
	c.writeCA(other.readCA())
	if err := c.ca.Reload(); err == nil || !contains(err.Error(), other.ca.Fleet()) {
		t.Errorf("another fleet's file: %v", err)
	}
	if c.ca.Pin() != pin {
		t.Error("the CA has changed")
	}
	_, err := call(c.joined().dial(c.address))
	ok(t, err)
}

// TestReloadOfTheSame: the controller's certificate stays, which a browser may
// have been told to trust.
func TestReloadOfTheSame(t *testing.T) {
	c := newController(t)
	serial := func() string {
		t.Helper()
		ok(t, c.ca.Reload())
		cert, err := c.ServerTLS().GetCertificate(nil)
		ok(t, err)
		return cert.Leaf.SerialNumber.String()
	}
	first := serial()
	if serial() != first {
		t.Error("a new certificate, and the CA is the same")
	}
	before := c.readCA()
	for range 2 { // to the stage that signs with another root
		ok(t, c.ca.Advance(c.clock.Now(), false))
	}
	second := serial()
	if second == first {
		t.Error("no new certificate by the new root")
	}
	c.writeCA(before)
	if third := serial(); third == second {
		t.Error("the file was exchanged, and not read")
	}
}

// TestServerCertificateRenews without a restart, at half life.
func TestServerCertificateRenews(t *testing.T) {
	c := newController(t)
	serial := func() string {
		t.Helper()
		cert, err := c.ServerTLS().GetCertificate(nil)
		ok(t, err)
		return cert.Leaf.SerialNumber.String()
	}
	first := serial()
	c.clock.add(identity.ServerLife/2 - time.Second)
	if serial() != first {
		t.Error("a new certificate before half life")
	}
	c.clock.add(time.Second)
	if serial() == first {
		t.Error("no new certificate at half life")
	}
	_, err := call(c.joined().dial(c.address))
	ok(t, err)
}
