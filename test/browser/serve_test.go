package browser

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// shipped is the programs of a fleet on this machine, run as an operator runs
// them.
type shipped struct {
	t   *testing.T
	dir string
}

func build(t *testing.T) *shipped {
	t.Helper()
	s := &shipped{t, t.TempDir()}
	cmd := exec.Command("go", "build", "-o", filepath.Join(s.dir, "bin")+"/", "./cmd/controller", "./cmd/probe")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return s
}

func (s *shipped) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.dir, "bin", args[0]), args[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "TFOFLEET_CONTROLLER=fleet/run/controller.sock")
	return cmd
}

// run runs a command to its end and returns what it prints.
func (s *shipped) run(stdin string, args ...string) string {
	s.t.Helper()
	cmd := s.command(args...)
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), &errs
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%q: %v: %s", args, err, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// start runs a command until the test ends, and returns what it says first that
// fits. What it says is shown where the test fails.
func (s *shipped) start(fits string, args ...string) string {
	s.t.Helper()
	cmd := s.command(args...)
	r, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	var said strings.Builder
	found, over := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(over)
		for in := bufio.NewScanner(r); in.Scan(); {
			fmt.Fprintln(&said, in.Text())
			if text := regexp.MustCompile(fits).FindString(in.Text()); text != "" && cap(found) > len(found) {
				found <- text
			}
		}
	}()
	s.t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt) // an error is that it has ended, and Wait's
		<-over
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("%q: %v", args, err)
		}
		if s.t.Failed() {
			s.t.Logf("%q said\n%s", args, said.String())
		}
	})
	select {
	case text := <-found:
		return text
	case <-over:
		s.t.Fatalf("%q has ended", args)
		return ""
	}
}

// TestServe is an operator who lets a browser in and watches a fleet at work: on
// the port that its probes dial, and with a certificate or not at all.
func TestServe(t *testing.T) {
	certutil, pk12util := program(t, "libnss3-tools", "certutil"), program(t, "libnss3-tools", "pk12util")
	if sysctl, err := os.ReadFile("/proc/sys/net/ipv4/tcp_fastopen"); err != nil || (sysctl[0]-'0')&1 == 0 {
		cannot(t, "no TCP Fast Open here: sysctl -w net.ipv4.tcp_fastopen=1")
	}
	target := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(target.Close)
	port := target.URL[strings.LastIndex(target.URL, ":")+1:]

	f := build(t)
	url := f.start(`https://\S+/`, "controller", "serve", "--data", "fleet", "--listen", "127.0.0.1:0", "--metrics", "", "--reflector", "")
	password := f.run("", "controller", "operator", "create", "alice", "--out", "alice.json", "--p12", "alice.p12")

	// Two people's machines: both trust the fleet's root, one is alice's.
	var credential struct{ Bundle []string }
	b, err := os.ReadFile(filepath.Join(f.dir, "alice.json"))
	if err == nil {
		err = json.Unmarshal(b, &credential)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(f.dir, "root.pem"), []byte(credential.Bundle[0]), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	tool := func(path string, args ...string) {
		t.Helper()
		cmd := exec.Command(path, args...)
		cmd.Dir = f.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", cmd.Args, err, out)
		}
	}
	person := func() (db string, options []chromedp.ExecAllocatorOption) {
		home, profile := t.TempDir(), t.TempDir()
		db = "sql:" + filepath.Join(home, ".pki", "nssdb") // where chromium looks
		// What the policy AutoSelectCertificateForUrls would write: there is nobody
		// to ask which certificate to show.
		choice, err := json.Marshal(map[string]any{"profile": map[string]any{"managed_auto_select_certificate_for_urls": []string{`{"pattern":"` + strings.TrimSuffix(url, "/") + `","filter":{}}`}}})
		if err == nil {
			err = os.MkdirAll(filepath.Join(home, ".pki", "nssdb"), 0o700)
		}
		if err == nil {
			err = os.MkdirAll(filepath.Join(profile, "Default"), 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(profile, "Default", "Preferences"), choice, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		tool(certutil, "-N", "-d", db, "--empty-password")
		tool(certutil, "-A", "-d", db, "-n", "fleet", "-t", "C,,", "-i", "root.pem")
		return db, []chromedp.ExecAllocatorOption{chromedp.Env("HOME=" + home), chromedp.UserDataDir(profile)}
	}
	db, alice := person()
	tool(pk12util, "-i", "alice.p12", "-W", password, "-d", db)
	_, stranger := person()

	other := open(t, stranger...)
	other.visit(url)
	other.until(`document.body.innerText.startsWith("certificate missing; this is for operators")`)
	if eval[int](other, `document.scripts.length`) != 0 {
		t.Error("a stranger gets more than a line")
	}

	page := open(t, alice...)
	page.size(1280, 900, false)
	page.visit(url)
	page.until(`document.querySelector("#live.on") && document.body.innerText.includes("There is no survey yet")`)

	// A probe joins, and is on the page by itself.
	page.do(`location.hash = "#/probes"`)
	page.until(`document.body.innerText.includes("No probe has joined yet")`)
	policy := fmt.Sprintf("nets: {allow: [127.0.0.0/8]}\nports: {allow: [%s]}\n", port)
	if err := os.WriteFile(filepath.Join(f.dir, "policy.yaml"), []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	token := f.run("", "controller", "token", "create", "--prefix", "here")
	f.start(`probe`, "probe", "run", "--data", "vantage", "--policy", "policy.yaml", "--join", token)
	page.until(`document.querySelector("[data-probe^=here] [data-what=connected]")?.innerText.startsWith("yes")`)
	page.until(`document.querySelector("[data-probe^=here] [data-what=ready]").innerText === "yes"`)
	page.picture("served-probes", "")

	// So is what it measures, down to the packets.
	page.do(`location.hash = "#/"`)
	var list strings.Builder
	for i := range 20 {
		fmt.Fprintf(&list, "127.0.0.%d:%s\n", i+1, port) // the first one answers
	}
	id := f.run(list.String(), "controller", "survey", "--targets", "-", "--plan", "quick", "--detach", "--controller", "fleet/run/controller.sock")
	card := `document.querySelector("[data-key='` + id + `']")`
	page.until(card + `?.innerText.includes("20 of 20") && ` + card + `.querySelector(".state").innerText === "done"`)
	page.do(card + `.click()`)
	page.until(`document.querySelectorAll("#evidence tbody tr").length === 20`)
	page.do(`[...document.querySelectorAll("#evidence tbody tr")].find(r => r.innerText.includes("127.0.0.1:")).click()`)
	page.until(`document.querySelector("dialog[open] .sequence") && document.querySelector("dialog[open]").innerText.includes("unsupported")`)
	page.picture("served-evidence", "")
	page.quiet(strings.TrimSuffix(url, "/"))

	// The probe and the commands have the same port.
	if probes := f.run("", "controller", "probes", "list", "--controller", "alice.json"); !strings.Contains(probes, "here") {
		t.Errorf("the commands are told %s", probes)
	}
}
