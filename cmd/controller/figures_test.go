package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	pb "tfofleet/proto/tfofleet/v1"
)

// TestFigures: Prometheus is told of probes, results and surveys, and a health
// check whether anything can be stored.
func TestFigures(t *testing.T) {
	f := newTestFleet(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	if err := f.serveMetrics(addr); err != nil {
		t.Fatal(err)
	}
	f.member(t)
	if got := f.call(t.Context(), "8.8.8.8:443\n", "survey", "--targets", "-", "--quiet"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	waiting := f.call(t.Context(), "8.8.8.8:443\n8.8.4.4:443\n", "survey", "--targets", "-", "--detach", "--probes", "nobody")
	if waiting.code == 0 {
		t.Errorf("a survey by nobody: %+v", waiting)
	}
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	code, page := get("/metrics")
	for _, want := range []string{
		"tfofleet_probes_connected 1", `tfofleet_results_total{outcome="measured",verdict="supported"} 1`, "tfofleet_stalled 0",
		"tfofleet_result_durable_seconds_count", `tfofleet_fleet_probes{readiness="ready"} 1`, "tfofleet_leases_offered_total 1",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%d: no %q in\n%s", code, want, page)
		}
	}
	if code, page := get("/healthz"); code != http.StatusOK || page != "ok\n" {
		t.Errorf("%d: %s", code, page)
	}
}

// TestReflectionAndHealth are for operators alone.
func TestReflectionAndHealth(t *testing.T) {
	f := newTestFleet(t)
	dial := func(target string, creds grpc.DialOption) *grpc.ClientConn {
		c, err := grpc.NewClient(target, creds)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	socket := dial("unix:"+f.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if resp, err := grpc_health_v1.NewHealthClient(socket).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil || resp.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", resp, err)
	}
	services := func(c *grpc.ClientConn) (string, error) {
		stream, err := grpc_reflection_v1.NewServerReflectionClient(c).ServerReflectionInfo(t.Context())
		if err != nil {
			return "", err
		}
		if err := stream.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}); err != nil && !errors.Is(err, io.EOF) { // Recv says why it was refused
			return "", err
		}
		resp, err := stream.Recv()
		return resp.GetListServicesResponse().String(), err
	}
	if got, err := services(socket); err != nil || !strings.Contains(got, pb.ControlService_ServiceDesc.ServiceName) {
		t.Errorf("reflection: %s, %v", got, err)
	}
	me, _ := f.join(t)
	creds, err := me.Transport()
	if err != nil {
		t.Fatal(err)
	}
	probe := dial(f.address, grpc.WithTransportCredentials(creds))
	if got, err := services(probe); status.Code(err) != codes.PermissionDenied {
		t.Errorf("reflection for a probe: %s, %v", got, err)
	}
	if _, err := grpc_health_v1.NewHealthClient(probe).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("health for a probe: %v", err)
	}
}

// TestCompletion: a shell completes commands, flags and the words that a flag
// takes.
func TestCompletion(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"sur", "survey\tMeasure"}, {"survey --pl", "--plan"}, {"survey --plan th", "thorough"}, {"survey --mode e", "every"},
		{"surveys pa", "pause\tHand out"}, {"mesh --family ", "4"}, {"lab --path cle", "clean"}, {"report --by po", "port"},
	} {
		words := strings.Split(c.line, " ")
		var out strings.Builder
		if code := run(t.Context(), append([]string{"controller", "__complete"}, words...), strings.NewReader(""), &out, io.Discard); code != 0 || !strings.Contains(out.String(), c.want) {
			t.Errorf("%q: %d, %s", c.line, code, out.String())
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		var out strings.Builder
		if code := run(t.Context(), []string{"controller", "completion", shell}, strings.NewReader(""), &out, io.Discard); code != 0 || out.Len() < 1000 {
			t.Errorf("%s: %d, %d bytes", shell, code, out.Len())
		}
	}
}
