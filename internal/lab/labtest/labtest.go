// Package labtest gives the lab to tests of any package. It is for tests only:
// nothing shipped imports it.
package labtest

import (
	"fmt"
	"os"
	"testing"

	"tfofleet/internal/lab"
)

// RequireKernel is the environment variable that, set to 1, turns every kernel
// test that cannot run into a failure.
const RequireKernel = "TFOFLEET_REQUIRE_KERNEL"

var entered, unable = false, error(nil)

// Main is for TestMain: it enters a user namespace where privileges are
// missing, runs the tests and returns the exit code.
//
//	func TestMain(m *testing.M) { os.Exit(labtest.Main(m)) }
//
// Where the lab cannot run it says so in one line, and tests that call [Need]
// or [New] are skipped; with TFOFLEET_REQUIRE_KERNEL=1 it fails instead.
func Main(m interface{ Run() int }) int {
	code, ran, err := lab.Enter()
	if ran {
		return code
	}
	entered, unable = true, err
	if err != nil {
		fmt.Fprintf(os.Stderr, "kernel tests cannot run: %v\n", err)
		if os.Getenv(RequireKernel) == "1" {
			return 1
		}
	}
	return m.Run()
}

// Need skips a test that needs a lab where there can be none.
func Need(t testing.TB) {
	t.Helper()
	if !entered {
		t.Fatal("labtest: the package needs a TestMain that calls labtest.Main")
	}
	if unable != nil {
		t.Skip("no lab on this machine")
	}
}

// New builds a lab that lives as long as the test. At its end the test fails
// if the lab itself lost a frame: then nothing seen in it can be trusted.
func New(t testing.TB, cfg lab.Config) *lab.Lab {
	t.Helper()
	Need(t)
	l, err := lab.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if st := l.Stats(); !st.Sound() {
			t.Errorf("the lab itself lost frames, flows or connections: %+v", st)
		}
	})
	return l
}

// NewMesh builds a mesh, on the terms of New.
func NewMesh(t testing.TB, cfg lab.MeshConfig) *lab.Mesh {
	t.Helper()
	Need(t)
	m, err := lab.NewMesh(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if st := m.Stats(); !st.Sound() {
			t.Errorf("the mesh itself lost frames or flows: %+v", st)
		}
	})
	return m
}

// InClient runs f on a thread in the client's namespace.
func InClient(t testing.TB, l *lab.Lab, f func() error) {
	t.Helper()
	in(t, l.ClientNetNS(), f)
}

// InServers runs f on a thread in the servers' namespace.
func InServers(t testing.TB, l *lab.Lab, f func() error) {
	t.Helper()
	in(t, l.ServersNetNS(), f)
}

func in(t testing.TB, ns string, f func() error) {
	t.Helper()
	if err := lab.In(ns, f); err != nil {
		t.Fatal(err)
	}
	if t.Failed() { // f called t.FailNow, which ends only its own thread
		t.FailNow()
	}
}
