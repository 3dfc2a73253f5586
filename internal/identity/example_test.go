package identity_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"tfofleet/internal/identity"
	"tfofleet/internal/identity/identitytest"
	pb "tfofleet/proto/tfofleet/v1"
)

// The life of a probe: token, enrolment, call, renewal, ban.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "identity")
	check(err)
	defer os.RemoveAll(dir)

	// The controller: CA and store, and a server behind the guard.
	ca, err := identity.OpenCA(filepath.Join(dir, "controller"), time.Now())
	check(err)
	authority, err := identity.NewAuthority(ctx, identity.Config{CA: ca, Store: identitytest.NewMemory(time.Now)})
	check(err)
	server := grpc.NewServer(authority.Guard(identity.Methods()).ServerOptions()...)
	authority.Register(server) // EnrollmentService
	pb.RegisterProbeServiceServer(server, sessions{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go server.Serve(listener)
	defer server.Stop()

	// The operator makes a token; its text goes to the probe by hand.
	labels, err := identity.ParseLabels("region=fra")
	check(err)
	token, err := authority.CreateToken(ctx, identity.TokenSpec{
		Addresses: []string{listener.Addr().String()}, Uses: 1, TTL: 24 * time.Hour, Labels: labels, Prefix: "fra",
	})
	check(err)
	text, err := token.Encode()
	check(err)

	// The probe joins, once.
	probe, err := identity.OpenProbe(identity.ProbeConfig{Dir: filepath.Join(dir, "probe")})
	check(err)
	token, err = identity.ParseJoinToken(text)
	check(err)
	check(probe.Join(ctx, token))
	fmt.Println("enrolled:", probe.Subject().Kind, probe.Subject().Name[:4]+"...")

	// It calls, with its certificate.
	creds, err := probe.Transport()
	check(err)
	conn, err := grpc.NewClient("dns:///"+probe.Addresses()[0], grpc.WithTransportCredentials(creds))
	check(err)
	defer conn.Close()
	session, err := pb.NewProbeServiceClient(conn).Session(ctx)
	check(err)
	welcome, err := session.Recv()
	check(err)
	fmt.Println("the controller knows its name:", welcome.GetWelcome().Session == probe.Subject().Name)

	// After about RenewIn it renews. The function stands for the call of
	// ProbeService.Renew, whose handler does what is in it.
	fmt.Println("renews in about", (probe.RenewIn() / (24 * time.Hour)).Nanoseconds(), "days")
	check(probe.Renew(ctx, func(ctx context.Context, csr []byte) (*pb.IssuedCertificate, error) {
		caller := identity.Caller{Class: identity.Probes, Name: probe.Subject().Name} // identity.CallerOf(ctx)
		return authority.Renew(ctx, caller, csr)
	}))

	// A ban ends its live stream, and there is no way back.
	check(authority.Ban(ctx, identity.KindProbe, probe.Subject().Name, "its host was sold"))
	_, err = session.Recv()
	denial, _ := identity.DenialOf(err)
	fmt.Println("session:", denial.Reason)
	denial, _ = identity.DenialOf(probe.Recover(ctx))
	fmt.Println("recovery:", denial.Reason)

	// Output:
	// enrolled: probe fra-...
	// the controller knows its name: true
	// renews in about 3 days
	// session: DENIAL_REASON_BANNED
	// recovery: DENIAL_REASON_BANNED
}

// sessions welcomes every probe by its name and waits.
type sessions struct {
	pb.UnimplementedProbeServiceServer
}

func (sessions) Session(s grpc.BidiStreamingServer[pb.SessionRequest, pb.SessionResponse]) error {
	name := identity.CallerOf(s.Context()).Name
	if err := s.Send(&pb.SessionResponse{Message: &pb.SessionResponse_Welcome{Welcome: &pb.Welcome{Session: name}}}); err != nil {
		return err
	}
	_, err := s.Recv()
	return err
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
