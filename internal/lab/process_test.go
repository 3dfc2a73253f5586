package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
)

// Some tests need a second process: this test binary again, with childEnv
// naming what it is to do. It runs under TestMain like any other, so it enters
// a user namespace if it must.
const childEnv = "TFOLAB_TEST_CHILD"

func TestChild(t *testing.T) {
	switch os.Getenv(childEnv) {
	case "":
		return
	case "lab": // build a lab, say its name, live until killed
		labtest.Need(t)
		l, err := lab.New(context.Background(), lab.Config{Paths: []lab.Path{}})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("name", l.Name())
		select {}
	case "signal": // say ready, wait for a signal, exit with a code that names it
		c := make(chan os.Signal, 8)
		signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
		fmt.Println("name ready")
		s := <-c
		// A second one would mean that it was delivered twice.
		select {
		case <-c:
			os.Exit(99)
		case <-time.After(200 * time.Millisecond):
		}
		os.Exit(40 + int(s.(syscall.Signal)))
	case "connect": // a connection through a lab
		l := labtest.New(t, lab.Config{})
		p, _ := l.Target("clean")
		got := dial(t, l, addrs(p), []bool{true, true}, request)
		fmt.Println("name", got, os.Geteuid())
	case "forbid": // as "connect", where user namespaces are forbidden and a capability is missing
		if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
		runtime.LockOSThread() // the bounding set is the thread's, and goes to its child
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_NET_RAW, 0, 0, 0); err != nil {
			t.Fatal(err)
		}
		cmd := childCommand("connect")
		out, err := cmd.CombinedOutput()
		fmt.Printf("name %v\n%s", err, out)
	default:
		t.Fatal("unknown child")
	}
}

// childCommand is this program as a child that does what.
func childCommand(what string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestChild$", "-test.count=1")
	cmd.Env = append(os.Environ(), childEnv+"="+what)
	cmd.Dir = "/"
	return cmd
}

// startChild starts a child and returns what it said behind "name".
func startChild(t *testing.T, cmd *exec.Cmd) (said string) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		if s, ok := strings.CutPrefix(sc.Text(), "name "); ok {
			return s
		}
	}
	t.Fatal("the child said nothing")
	return ""
}

// namespacesOf are the names that belong to a lab.
func namespacesOf(lab string) []string {
	m, _ := filepath.Glob("/run/netns/" + lab + "-*")
	return m
}

// TestSweep: what a killed process left is removed; the lab of a living one is
// not, by Sweep and by New.
func TestSweep(t *testing.T) {
	labtest.Need(t)
	dead, alive := childCommand("lab"), childCommand("lab")
	deadName, aliveName := startChild(t, dead), startChild(t, alive)
	if got := namespacesOf(deadName); len(got) != 3 {
		t.Fatalf("namespaces %v, want 3", got)
	}
	_ = dead.Process.Kill()
	_ = dead.Wait()
	removed, err := lab.Sweep()
	if err != nil {
		t.Error(err)
	}
	// Another test's lab may have swept in between, and have removed it.
	if slices.Contains(removed, aliveName) || len(namespacesOf(deadName)) != 0 {
		t.Errorf("removed %v; of the dead lab there is still %v", removed, namespacesOf(deadName))
	}
	labtest.New(t, lab.Config{Paths: []lab.Path{}})
	if got := namespacesOf(aliveName); len(got) != 3 {
		t.Errorf("a living lab was swept: %v", got)
	}
	_ = alive.Process.Kill()
	_ = alive.Wait()
	labtest.New(t, lab.Config{Paths: []lab.Path{}})
	if got := namespacesOf(aliveName); len(got) != 0 {
		t.Errorf("New left %v of a dead lab", got)
	}
}

// TestSweepHalfMade: names without a mount and locks without a namespace, as a
// crash between two steps leaves them, go too.
func TestSweepHalfMade(t *testing.T) {
	labtest.New(t, lab.Config{Paths: []lab.Path{}}) // makes the directories
	left := []string{"/run/netns/tfolab-1-1-client", "/run/tfolab/tfolab-1-2"}
	keep := []string{"/run/netns/tfolab", "/run/netns/tfolab-x", "/run/netns/nottfolab-1-1-client"}
	for _, path := range slices.Concat(left, keep) {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(path) })
	}
	if _, err := lab.Sweep(); err != nil {
		t.Error(err)
	}
	for _, path := range left {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there", path)
		}
	}
	for _, path := range keep {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("removed what is not ours: %v", err)
		}
	}
}

// TestEnd: a lab ends with its context, with Close, and with both, and nothing
// is left.
func TestEnd(t *testing.T) {
	labtest.Need(t)
	for _, end := range []struct {
		name    string
		cancel  bool
		closing bool
	}{{"context", true, false}, {"close", false, true}, {"both", true, true}} {
		ctx, cancel := context.WithCancel(t.Context())
		l, err := lab.New(ctx, lab.Config{Paths: []lab.Path{}})
		if err != nil {
			t.Fatal(err)
		}
		if got := namespacesOf(l.Name()); len(got) != 3 {
			t.Errorf("%s: namespaces %v", end.name, got)
		}
		if _, err := os.Stat(l.ClientNetNS()); err != nil {
			t.Error(err)
		}
		if end.cancel {
			cancel()
		}
		if end.closing {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
		waitUntil(t, func() bool { return len(namespacesOf(l.Name())) == 0 })
		if err := l.Close(); err != nil {
			t.Errorf("%s: a second Close: %v", end.name, err)
		}
		if _, err := os.Stat("/run/tfolab/" + l.Name()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the lock file is still there", end.name)
		}
		cancel()
	}
}

// TestContextDone: a context that is over before builds nothing.
func TestContextDone(t *testing.T) {
	labtest.Need(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lab.New(ctx, lab.Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// host is what a lab must leave alone: everything about the network namespace
// it was started in.
type host struct {
	Links, Addrs, Routes, Rules, Neighbours []string
	Sysctls                                 map[string]string
	Mounts                                  []string
}

func hostState(t *testing.T) (h host) {
	t.Helper()
	links, err1 := netlink.LinkList()
	addrs, err2 := netlink.AddrList(nil, netlink.FAMILY_ALL)
	routes, err3 := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	rules, err4 := netlink.RuleList(netlink.FAMILY_ALL)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		a := l.Attrs()
		h.Links = append(h.Links, fmt.Sprint(a.Index, a.Name, a.Flags, a.MTU, a.HardwareAddr, a.OperState))
	}
	for _, a := range addrs {
		h.Addrs = append(h.Addrs, fmt.Sprint(a.IPNet, a.LinkIndex, a.Flags))
	}
	for _, r := range routes {
		h.Routes = append(h.Routes, fmt.Sprint(r.Dst, r.Gw, r.LinkIndex, r.Table, r.Type, r.Scope))
	}
	for _, r := range rules {
		h.Rules = append(h.Rules, r.String())
	}
	h.Sysctls = map[string]string{}
	_ = filepath.WalkDir("/proc/sys/net", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			b, _ := os.ReadFile(path)
			h.Sysctls[path] = string(b)
		}
		return nil
	})
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		// Other labs, of tests that run at the same time, come and go.
		if !strings.Contains(line, "/run/netns/") {
			h.Mounts = append(h.Mounts, line)
		}
	}
	return h
}

// TestHostUntouched compares the network of the process before a lab, while it
// runs, and after it.
func TestHostUntouched(t *testing.T) {
	labtest.Need(t)
	// Something else on the machine may change at the same time, such as a
	// counter among the sysctls; what a lab changes, it changes every time.
	var diff string
	for range 3 {
		before := hostState(t)
		l, err := lab.New(t.Context(), lab.Config{})
		if err != nil {
			t.Fatal(err)
		}
		p, _ := l.Target("clean")
		dial(t, l, addrs(p), []bool{true, true}, request)
		during := hostState(t)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		after := hostState(t)
		if diff = cmp.Diff(before, during) + cmp.Diff(before, after); diff == "" {
			return
		}
	}
	t.Errorf("a lab changed the host (-before +during or after):\n%s", diff)
}
