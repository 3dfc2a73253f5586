package identity_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"tfofleet/internal/identity"
	pb "tfofleet/proto/tfofleet/v1"
)

// command is one call of an operator over the connection.
func command(conn *grpc.ClientConn) (string, error) {
	resp, err := pb.NewControlServiceClient(conn).GetSurvey(ctx, &pb.GetSurveyRequest{})
	return resp.GetState().GetName(), err
}

func TestOperator(t *testing.T) {
	c := newController(t)
	path := filepath.Join(t.TempDir(), "keys", "anna.json")
	ok(t, c.operator("anna").Save(path))
	cred, err := identity.LoadCredential(path)
	ok(t, err)
	if s := cred.Subject(); s.Kind != identity.KindOperator || s.Name != "anna" || cred.Addresses()[0] != c.address {
		t.Errorf("%v at %v", s, cred.Addresses())
	}
	conn := dial(t, c.address, cred.Transport(c.clock.Now))
	name, err := command(conn)
	ok(t, err)
	if name != "anna" {
		t.Errorf("the controller knows the operator as %q", name)
	}
	_, err = grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	ok(t, err)
	_, err = call(conn)
	denied(t, err, identity.NotPermitted)

	c.clock.add(80 * day)
	_, err = command(conn)
	ok(t, err)
	second := c.operator("anna")
	_, err = command(conn)
	ok(t, err) // until the second is used
	_, err = command(dial(t, c.address, second.Transport(c.clock.Now)))
	ok(t, err)
	_, err = command(conn)
	denied(t, err, identity.CertificateSuperseded)

	ok(t, c.Ban(ctx, identity.KindOperator, "anna", "left"))
	_, err = command(dial(t, c.address, second.Transport(c.clock.Now)))
	denied(t, err, identity.Banned)
	_, err = c.IssueOperator(ctx, "anna", newCSR(t))
	denied(t, err, identity.Banned)

	for _, name := range []string{"", "Anna", "a/b", "a.b"} {
		if _, err := c.IssueOperator(ctx, name, newCSR(t)); !errors.Is(err, identity.ErrInvalid) {
			t.Errorf("%q is a name: %v", name, err)
		}
	}
	_, err = c.IssueOperator(ctx, "bob", nil)
	denied(t, err, identity.CSRInvalid)
	last := dial(t, c.address, c.operator("bob").Transport(c.clock.Now))
	_, err = command(last)
	ok(t, err)
	c.clock.add(identity.OperatorLife)
	_, err = command(last)
	denied(t, err, identity.CertificateExpired)
	if err := c.Ban(ctx, identity.KindProbe, "nobody", ""); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("%v, want ErrNotFound", err)
	}
}

// TestOperatorHasOne: of all that an operator was ever given, the first use of a
// newer one ends the older, used or not, and no other operator's.
func TestOperatorHasOne(t *testing.T) {
	c := newController(t)
	other := dial(t, c.address, c.operator("bob").Transport(c.clock.Now))
	_, err := command(other)
	ok(t, err)
	var conns []*grpc.ClientConn
	for range 4 {
		conns = append(conns, dial(t, c.address, c.operator("anna").Transport(c.clock.Now)))
		c.clock.add(time.Second)
	}
	for _, used := range []int{0, 1, 3} { // the third never was
		_, err := command(conns[used])
		ok(t, err)
		for _, conn := range conns[:used] {
			_, err := command(conn)
			denied(t, err, identity.CertificateSuperseded)
		}
	}
	_, err = command(other)
	ok(t, err)
}

// TestOperatorIsNoProbe: a probe's directory with an operator's credential.
func TestOperatorIsNoProbe(t *testing.T) {
	c := newController(t)
	dir := t.TempDir()
	ok(t, c.operator("anna").Save(filepath.Join(dir, "credential.json")))
	if _, err := identity.OpenProbe(identity.ProbeConfig{Dir: dir}); err == nil {
		t.Error("it was opened")
	}
}

func TestSocket(t *testing.T) {
	c := newController(t)
	path := filepath.Join(t.TempDir(), "run", "controller.sock")
	l, err := identity.ListenSocket(path)
	ok(t, err)
	tcp := listen(t)
	server := c.serve(l, tcp) // one server, both
	for file, want := range map[string]os.FileMode{filepath.Dir(path): 0o700, path: 0o600} {
		info, err := os.Stat(file)
		ok(t, err)
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", file, got, want)
		}
	}
	conn := dial(t, "unix://"+path, insecure.NewCredentials())
	name, err := command(conn)
	ok(t, err)
	if name != "socket" {
		t.Errorf("the controller knows the operator as %q", name)
	}
	_, err = call(conn)
	denied(t, err, identity.NotPermitted)
	_, err = call(c.joined().dial(tcp.Addr().String()))
	ok(t, err)

	if _, err := identity.ListenSocket(path); err == nil || !contains(err.Error(), "another controller") {
		t.Errorf("a second controller: %v", err)
	}
	server.Stop()

	// A controller that was killed leaves its socket.
	dead, err := net.Listen("unix", path)
	ok(t, err)
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	ok(t, dead.Close())
	l, err = identity.ListenSocket(path)
	ok(t, err)
	ok(t, l.Close())

	ok(t, os.WriteFile(path, nil, 0o600))
	if _, err := identity.ListenSocket(path); err == nil {
		t.Error("a file was removed for the socket")
	}
	ok(t, os.Chmod(filepath.Dir(path), 0o755))
	if _, err := identity.ListenSocket(path); !errors.Is(err, identity.ErrMode) {
		t.Errorf("%v, want ErrMode", err)
	}
}
