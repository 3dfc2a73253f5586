package identity_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"tfofleet/internal/identity"
)

// TestWhy: people are told what went wrong, not how gRPC words it, by gRPC's own
// errors of connections that cannot be made and of what else it says.
func TestWhy(t *testing.T) {
	call := func(to string) error {
		c, err := grpc.NewClient(to, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err = grpc_health_v1.NewHealthClient(c).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		return err
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, tt := range []struct {
		err  error
		want string
	}{
		{call("unix:" + filepath.Join(t.TempDir(), "s")), "dial unix "},
		{call("passthrough:///" + closed.Addr().String()), "dial tcp " + closed.Addr().String()},
		{status.Error(codes.NotFound, `survey x: "not" found`), `survey x: "not" found`},
		{status.Error(codes.Unavailable, `connection error: desc = "a \" quote"`), `a " quote`},
		{status.Error(codes.Unavailable, `connection error: desc = "never ends`), `connection error: desc = "never ends`},
		{errors.New("of ours"), "of ours"},
	} {
		if got := identity.Why(tt.err); !strings.HasPrefix(got, tt.want) || strings.Contains(got, "desc =") != strings.Contains(tt.want, "desc =") {
			t.Errorf("%v: %s", tt.err, got)
		}
	}
}
