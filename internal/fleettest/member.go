package fleettest

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"tfofleet/internal/identity"
)

// Member is a member of a fleet in the process of the test, which can say what no
// shipped probe says.
type Member struct {
	*identity.Probe
	// Conn is a connection with the member's certificate.
	Conn *grpc.ClientConn
}

// Join makes a member that calls from a host; its name begins with the prefix.
func (f *Fleet) Join(prefix string, on *Host, c *Controller) *Member {
	f.t.Helper()
	me, err := identity.OpenProbe(identity.ProbeConfig{Dir: filepath.Join(f.t.TempDir(), "identity")})
	if err != nil {
		f.t.Fatal(err)
	}
	token, err := identity.ParseJoinToken(f.Token(prefix, []*Controller{c}))
	if err != nil {
		f.t.Fatal(err)
	}
	if err := me.Join(f.t.Context(), token, on.Dialer()); err != nil {
		f.t.Fatal(err)
	}
	creds, err := me.Transport()
	if err != nil {
		f.t.Fatal(err)
	}
	return &Member{me, on.Connect(f.t, c, creds)}
}

// Dialer has a gRPC connection made from the host.
func (h *Host) Dialer() grpc.DialOption { return grpc.WithContextDialer(h.Dial) }

// Dial connects from the host to an address, host:port.
func (h *Host) Dial(ctx context.Context, address string) (c net.Conn, err error) {
	err = h.Do(func() error {
		c, err = new(net.Dialer).DialContext(ctx, "tcp", address)
		return err
	})
	return c, err
}

// Connect is a connection from the host to a controller, for as long as the test
// lasts.
func (h *Host) Connect(t testing.TB, c *Controller, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+c.Address(), grpc.WithTransportCredentials(creds), h.Dialer())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
