package lab_test

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
)

// alreadyInside reports whether this process is itself in a user namespace
// that knows one user. There is nobody else to be in there: then this process
// is the unprivileged one, and every test of the package is the proof.
func alreadyInside(t *testing.T) bool {
	t.Helper()
	m, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(m))
	return len(f) == 3 && f[2] == "1"
}

var nobody = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}

// TestEnterAsNobody: a process without privileges gets a lab and a connection
// through it.
func TestEnterAsNobody(t *testing.T) {
	labtest.Need(t)
	if alreadyInside(t) {
		return
	}
	cmd := childCommand("connect")
	cmd.SysProcAttr = nobody
	cmd.Env = append(cmd.Env, labtest.RequireKernel+"=1")
	out, err := cmd.CombinedOutput()
	if want := "name [[request 8 answer syn ok answer] [request 8 answer syn ok answer]] 0"; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v:\n%s", err, out)
	}
}

// TestEnterPassesSignals: a signal to the outer process reaches the inner one,
// once, and its exit code comes back.
func TestEnterPassesSignals(t *testing.T) {
	labtest.Need(t)
	if alreadyInside(t) {
		return
	}
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd := childCommand("signal")
		cmd.SysProcAttr = nobody
		startChild(t, cmd)
		_ = cmd.Process.Signal(s)
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != 40+int(s) {
			t.Errorf("%s: exit code %d, want %d", s, got, 40+int(s))
		}
	}
}

// TestEnterDies: killing the outer process, which cannot be passed on, kills
// the inner one too.
func TestEnterDies(t *testing.T) {
	labtest.Need(t)
	if alreadyInside(t) {
		return
	}
	cmd := childCommand("lab")
	cmd.SysProcAttr = nobody
	name := startChild(t, cmd)
	// The lab's name holds the inner process's id: it shares our pid namespace.
	pid := strings.Split(name, "-")[1]
	if _, err := os.Stat("/proc/" + pid); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	waitUntil(t, func() bool {
		b, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || strings.Contains(string(b), ") Z ")
	})
}

// TestNoPrivileges: where there is neither a capability nor a user namespace,
// the error says what is missing and what to do; the tests say it in one line,
// and fail where they are required.
func TestNoPrivileges(t *testing.T) {
	labtest.Need(t)
	if alreadyInside(t) {
		return
	}
	for required, want := range map[string]string{"0": "name <nil>", "1": "name exit status 1"} {
		cmd := childCommand("forbid")
		cmd.SysProcAttr = nobody
		cmd.Env = append(cmd.Env, labtest.RequireKernel+"="+required)
		out, err := cmd.CombinedOutput()
		s := string(out)
		if err != nil || !strings.Contains(s, want) {
			t.Errorf("required=%s: %v:\n%s", required, err, s)
		}
		for _, want := range []string{"kernel tests cannot run", "CAP_NET_RAW", "sudo", "user.max_user_namespaces", "no space left on device"} {
			if !strings.Contains(s, want) {
				t.Errorf("required=%s: the text does not say %q:\n%s", required, want, s)
			}
		}
		if got := strings.Count(s, "kernel tests cannot run"); got != 1 {
			t.Errorf("required=%s: said %d times", required, got)
		}
	}
}

func TestCheckPrivileges(t *testing.T) {
	labtest.Need(t)
	if err := lab.CheckPrivileges(); err != nil {
		t.Error(err)
	}
}
