package main

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/identity"
	"tfofleet/internal/identity/identitytest"
	pb "tfofleet/proto/tfofleet/v1"
)

var hour = durationpb.New(time.Hour)

// testFleet is a controller on loopback, with its operator.
type testFleet struct {
	*fleet
	address  string
	socket   string
	control  pb.ControlServiceClient
	datasets string
}

func newTestFleet(t *testing.T) *testFleet {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &serveFlags{data: dir, heartbeat: time.Second}
	if err := f.complete(l.Addr()); err != nil {
		t.Fatal(err)
	}
	c, err := startFleet(t.Context(), f, []string{l.Addr().String()}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	socket := socketIn(dir)
	if err := c.serve(l, socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &testFleet{c, l.Addr().String(), socket, pb.NewControlServiceClient(conn), f.dataset}
}

// TestFleetMethods: every method that is really served has a row in the table.
func TestFleetMethods(t *testing.T) {
	identitytest.CheckMethods(t, identity.Methods(), newTestFleet(t).rpc)
}

// join makes a probe of the fleet, and a connection of its own.
func (f *testFleet) join(t *testing.T) (*identity.Probe, pb.ProbeServiceClient) {
	t.Helper()
	resp, err := f.control.CreateJoinToken(t.Context(), &pb.CreateJoinTokenRequest{Uses: 1, Labels: map[string]string{"region": "fra"}})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("a token for no time: %v, %v", resp, err)
	}
	req := &pb.CreateJoinTokenRequest{Uses: 1, Labels: map[string]string{"region": "fra"}, Ttl: hour}
	if resp, err = f.control.CreateJoinToken(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	token, err := identity.ParseJoinToken(resp.GetToken())
	if err != nil {
		t.Fatal(err)
	}
	p, err := identity.OpenProbe(identity.ProbeConfig{Dir: filepath.Join(t.TempDir(), "probe")})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Join(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	creds, err := p.Transport()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(f.address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return p, pb.NewProbeServiceClient(conn)
}

// TestProbeSpeaksForItself: whatever name a probe writes into its messages, it
// is the one of its certificate or none.
func TestProbeSpeaksForItself(t *testing.T) {
	f := newTestFleet(t)
	_, client := f.join(t)
	other, _ := f.join(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	session, err := client.Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	hello := &pb.Hello{Probe: other.Subject().Name, Instance: "i", ProtocolMin: 1, ProtocolMax: 1}
	if err := session.Send(&pb.SessionRequest{Message: &pb.SessionRequest_Hello{Hello: hello}}); err != nil {
		t.Fatal(err)
	}
	if m, err := session.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a session under the name of another: %v, %v", m, err)
	}
	results, err := client.ReportResults(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := results.Send(&pb.ReportResultsRequest{Probe: other.Subject().Name, Lease: &pb.LeaseRef{Survey: "s"}}); err != nil {
		t.Fatal(err)
	}
	if m, err := results.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("results under the name of another: %v, %v", m, err)
	}
}

// TestLifeOfProbe: joined, connected, renewed, banned.
func TestLifeOfProbe(t *testing.T) {
	f := newTestFleet(t)
	p, client := f.join(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	name := p.Subject().Name

	session, err := client.Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	hello := &pb.Hello{Probe: name, Instance: "i", Version: "v", ProtocolMin: 1, ProtocolMax: 1, Host: &pb.Host{Hostname: "here"}}
	if err := session.Send(&pb.SessionRequest{Message: &pb.SessionRequest_Hello{Hello: hello}}); err != nil {
		t.Fatal(err)
	}
	m, err := session.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SetBundle(m.GetWelcome().GetBundle()); err != nil {
		t.Errorf("the bundle of Welcome: %v", err)
	}
	got, err := f.control.GetProbe(ctx, &pb.GetProbeRequest{Probe: name})
	if info := got.GetProbe(); err != nil || info.GetConnectedSince() == nil || info.GetHost().GetHostname() != "here" || info.GetLabels()["region"] != "fra" || info.GetVersion() != "v" {
		t.Errorf("a probe that is connected: %v, %v", info, err)
	}
	if _, err := f.control.GetProbe(ctx, &pb.GetProbeRequest{Probe: "nobody"}); status.Code(err) != codes.NotFound {
		t.Errorf("a probe that is not there: %v", err)
	}
	if err := p.Renew(ctx, func(ctx context.Context, csr []byte) (*pb.IssuedCertificate, error) {
		resp, err := client.Renew(ctx, &pb.RenewRequest{Csr: csr})
		return resp.GetIssued(), err
	}); err != nil {
		t.Errorf("renewal: %v", err)
	}

	if _, err := f.control.BanProbe(ctx, &pb.BanProbeRequest{Probe: name, Reason: "its host was sold"}); err != nil {
		t.Fatal(err)
	}
	_, err = session.Recv()
	if d, ok := identity.DenialOf(err); !ok || d.Reason != identity.Banned {
		t.Errorf("the session of a banned probe ends with %v", err)
	}
	all, err := f.control.ListProbes(ctx, &pb.ListProbesRequest{})
	if err != nil || len(all.GetProbes()) != 1 || all.GetProbes()[0].GetBanReason() != "its host was sold" {
		t.Errorf("%v, %v", all, err)
	}
}

// TestTokens: listed without their secret, and revoked.
func TestTokens(t *testing.T) {
	f := newTestFleet(t)
	made, err := f.control.CreateJoinToken(t.Context(), &pb.CreateJoinTokenRequest{Uses: 2, Ttl: hour, Prefix: "edge"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.control.RevokeJoinToken(t.Context(), &pb.RevokeJoinTokenRequest{Id: made.GetId()}); err != nil {
		t.Error(err)
	}
	if _, err := f.control.RevokeJoinToken(t.Context(), &pb.RevokeJoinTokenRequest{Id: "none"}); status.Code(err) != codes.NotFound {
		t.Errorf("a token that is not there: %v", err)
	}
	all, err := f.control.ListJoinTokens(t.Context(), &pb.ListJoinTokensRequest{})
	if err != nil || len(all.GetTokens()) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	if k := all.GetTokens()[0]; k.GetId() != made.GetId() || k.GetUses() != 2 || k.GetUsed() != 0 || k.GetPrefix() != "edge" || k.GetRevoked() == nil {
		t.Errorf("%v", k)
	}
	token, err := identity.ParseJoinToken(made.GetToken())
	if err != nil {
		t.Fatal(err)
	}
	p, err := identity.OpenProbe(identity.ProbeConfig{Dir: filepath.Join(t.TempDir(), "probe")})
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := identity.DenialOf(p.Join(t.Context(), token)); !ok || d.Reason != identity.TokenRevoked {
		t.Errorf("joined by a revoked token: %v", d)
	}
}
