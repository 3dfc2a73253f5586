package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tfofleet/internal/tfo"
)

// checked is what a program reads of probe check --json.
type checked struct {
	Fitness  string
	Items    []struct{ ID, Weight, Value, Cost, Hint string }
	Features []struct{ ID, Answer, How, Since, Commit string }
	SelfTest struct {
		Place    string
		Reasons  []string
		Families []struct {
			Family, Failed, Cookie string
			SynBytes               int `json:"syn_bytes"`
			SynAcked               int `json:"syn_bytes_acked"`
		}
	} `json:"self_test"`
	Machine struct {
		Kernel  string
		Missing []string `json:"capabilities_missing"`
	}
}

func (c *checked) item(t *testing.T, id string) (weight, hint string) {
	t.Helper()
	for _, i := range c.Items {
		if i.ID == id {
			return i.Weight, i.Hint
		}
	}
	t.Errorf("no item %s", id)
	return "", ""
}

// runCheck runs probe check --json as a process and returns what it says and
// its exit code.
func runCheck(t *testing.T, ns tfo.NetNS, cmd *exec.Cmd) (c checked, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := ns.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if err := json.Unmarshal(out.Bytes(), &c); err != nil {
		t.Fatalf("%v in %s\n%s", err, &out, &errs)
	}
	if errs.Len() > 0 {
		t.Errorf("standard error: %s", &errs)
	}
	return c, cmd.ProcessState.ExitCode()
}

// The answer, its exit code, and a self-test that proves every step.
func TestCheck(t *testing.T) {
	ns := newNetNS(t)
	c, code := runCheck(t, ns, exec.Command("probe", "check", "--json"))
	// Without a way out of its namespace no machine is fit without limits.
	if c.Fitness != "limits" || code != 1 {
		t.Errorf("%s, exit code %d", c.Fitness, code)
	}
	if c.SelfTest.Place != string(tfo.PlacePrivate) || len(c.SelfTest.Families) != 2 {
		t.Errorf("self-test %+v", c.SelfTest)
	}
	for _, f := range c.SelfTest.Families {
		if f.Failed != "" || len(f.Cookie) != 16 || f.SynBytes == 0 || f.SynAcked != f.SynBytes {
			t.Errorf("%+v", f)
		}
	}
	if w, _ := c.item(t, "tcp_fastopen"); w != "ok" {
		t.Errorf("tcp_fastopen weighs %q", w)
	}
	if len(c.Features) == 0 || c.Features[0].Answer != "yes" || c.Machine.Kernel == "" || c.Machine.Missing == nil {
		t.Errorf("%+v", c)
	}

	setSysctl(t, ns, "2")
	c, code = runCheck(t, ns, exec.Command("probe", "check", "--json"))
	if w, hint := c.item(t, "tcp_fastopen"); c.Fitness != "unfit" || code != 2 || w != "unfit" || hint != "sysctl -w net.ipv4.tcp_fastopen=0x3" {
		t.Errorf("without the client bit: %s, exit code %d, %s, %s", c.Fitness, code, w, hint)
	}
}

func setSysctl(t *testing.T, ns tfo.NetNS, value string) {
	t.Helper()
	if err := ns.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/tcp_fastopen", []byte(value), 0) }); err != nil {
		t.Fatal(err)
	}
}

// Somebody without any privilege: what is missing is named with its price, and
// the self-test finds a place all the same.
func TestCheckUnprivileged(t *testing.T) {
	ns := newNetNS(t)
	if os.Geteuid() != 0 || !wholeMachine(t) {
		t.Skip("only root of the whole machine can be somebody else")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	probe := filepath.Join(dir, "probe")
	if err := os.WriteFile(probe, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(probe, "check", "--json")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	c, code := runCheck(t, ns, cmd)
	if c.Fitness != "limits" || code != 1 {
		t.Errorf("%s, exit code %d", c.Fitness, code)
	}
	for id, want := range map[string]string{
		"capability.cap_net_raw": "note", "capture": "limit", "capability.cap_net_admin": "note", "capability.cap_sys_admin": "note", "delete_cookies": "limit",
		"firewall": "note", "key": "note", "cookie_cache": "ok", "self_test": "ok",
	} {
		if w, _ := c.item(t, id); w != want {
			t.Errorf("%s weighs %q, want %q", id, w, want)
		}
	}
	if len(c.SelfTest.Reasons) == 0 || c.SelfTest.Place == string(tfo.PlacePrivate) {
		t.Errorf("self-test %+v", c.SelfTest)
	}
}

// wholeMachine is false inside the user namespace that tests without
// privileges run in: there is nobody else in there.
func wholeMachine(t *testing.T) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(b)), " ") == "0 0 4294967295"
}

// What a person reads: what counts against the machine stands out and comes
// again at the end.
func TestCheckText(t *testing.T) {
	got := checkText(&tfo.Check{
		Fitness: tfo.Unfit,
		Items: []tfo.CheckItem{
			{ID: "kernel", Weight: tfo.WeightOK, Name: "kernel", Value: "6.18.1 amd64"},
			{ID: "tcp_fastopen", Weight: tfo.WeightUnfit, Name: "tcp_fastopen", Value: "0x2: client off, listeners on", Cost: "no connection from here can use Fast Open", Hint: "sysctl -w net.ipv4.tcp_fastopen=0x3"},
			{ID: "clock", Weight: tfo.WeightLimit, Name: "clock", Value: "not synchronised"},
		},
		Features: []tfo.Feature{
			{ID: "a", Name: "keys per listener", Answer: tfo.No, How: "tried", Since: "4.15", Commit: "1fba70e5b6be", Cost: "cookies do not survive"},
			{ID: "b", Name: "a backup key per listener", Since: "5.3", Commit: "9092a76d3cf8"},
		},
		SelfTest: tfo.SelfTest{Families: []tfo.FamilyTest{
			{Family: "IPv4", RequestSeen: true, RequestKind: 34, Cookie: "0011223344556677", SynBytes: 18, SynTaken: 18, SynAcked: 18, Answered: true},
			{Family: "IPv6", RequestSeen: true, RequestKind: 34, Failed: "a cookie was asked for and not granted"},
		}},
	})
	const want = `ok     kernel               6.18.1 amd64
unfit  tcp_fastopen         0x2: client off, listeners on
                            no connection from here can use Fast Open
                            hint: sysctl -w net.ipv4.tcp_fastopen=0x3
limit  clock                not synchronised

self-test
  IPv4  cookie request (kind 34) -> cookie 0011223344556677 -> 18 bytes in the SYN -> 18 given to the listener -> 18 acknowledged -> answer
  IPv6  cookie request (kind 34) -> failed: a cookie was asked for and not granted

what this kernel can do
  no         keys per listener                          Linux 4.15, 1fba70e5b6be (tried)
             cookies do not survive
  not known  a backup key per listener                  Linux 5.3, 9092a76d3cf8

unfit to be a vantage point
  because tcp_fastopen: 0x2: client off, listeners on
`
	if got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestCheckUsage(t *testing.T) {
	for _, args := range []string{"check now", "check --bogus", "bogus"} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append([]string{"probe"}, strings.Fields(args)...), strings.NewReader(""), &out, &errs); code != int(exitUsage) || out.Len() > 0 || errs.Len() == 0 {
			t.Errorf("%s: exit code %d\n%s%s", args, code, &out, &errs)
		}
	}
}
