package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/agent/policy"
	pb "tfofleet/proto/tfofleet/v1"
)

// TestListeningIsOfThePolicy: the policy is asked before a port is opened, with
// the kill switch.
func TestListeningIsOfThePolicy(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "policy.yaml")
	text := "kill_switch: stop\nlisten: {enabled: true, ports: [1-65535], sources: [127.0.0.1]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := func(port uint32) string {
		guard, err := policy.Open(file, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		defer guard.Close()
		w, err := newWorker(dir, guard, "", hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		spec := &pb.ListenSpec{Port: port, Lifetime: durationpb.New(time.Minute)}
		return w.Start(&pb.Task{Id: "l", Work: &pb.Task_Listen{Listen: &pb.ListenTask{Listeners: []*pb.ListenSpec{spec}}}}, nil).GetRefused()
	}
	if why := refused(0); !strings.Contains(why, "listen port") {
		t.Errorf("a port that is not allowed: %q", why)
	}
	if err := os.WriteFile(filepath.Join(dir, "stop"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if why := refused(4433); !strings.Contains(why, "kill switch") {
		t.Errorf("with the kill switch: %q", why)
	}
}
