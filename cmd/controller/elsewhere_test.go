package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"tfofleet/internal/agent"
	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/dataset"
	"tfofleet/internal/targets"
	pb "tfofleet/proto/tfofleet/v1"
)

// member is a probe of the fleet that opens no connection to targets.
func (f *testFleet) member(t *testing.T) (name string) {
	t.Helper()
	me, _ := f.join(t)
	creds, err := me.Transport()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(f.address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var over sync.WaitGroup
	t.Cleanup(func() { stop(); over.Wait(); conn.Close() })
	a := agent.New(agent.Config{
		Name: me.Subject().Name, Version: "test", Host: &pb.Host{Hostname: "somewhere", TcpFastopen: 1, BlackholeTimeoutS: 0}, Session: conn, Results: conn,
		NewRunner: func(*pb.SurveySpec) (agent.Runner, error) { return &agenttest.Runner{Concurrency: 8}, nil },
		Policy:    targets.Policy{}, Flush: time.Second, Backoff: 5 * time.Millisecond, Logger: hclog.NewNullLogger(),
	})
	over.Go(func() { _ = a.Run(ctx) })
	await(t, "the probe is connected", func() bool {
		p, err := f.control.GetProbe(t.Context(), &pb.GetProbeRequest{Probe: me.Subject().Name})
		return err == nil && p.GetProbe().GetConnectedSince() != nil
	})
	return me.Subject().Name
}

func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never came: " + what)
		}
	}
}

// elsewhere is the fleet as an operator on another machine has it.
func (f *testFleet) elsewhere(t *testing.T) *testFleet {
	t.Helper()
	file := filepath.Join(t.TempDir(), "alice.json")
	if got := f.call(t.Context(), "", "operator", "create", "alice", "--out", file, "--address", f.address); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the operator's key: %v, %v", info.Mode(), err)
	}
	there := *f
	there.socket = file
	return &there
}

// TestOperatorElsewhere: whatever the socket can do, the file can.
func TestOperatorElsewhere(t *testing.T) {
	f := newTestFleet(t)
	there := f.elsewhere(t)
	if got := f.call(t.Context(), "", "operator", "create", "bob", "--out", there.socket); got.code != int(exitOutExists) {
		t.Errorf("over a file that is there: %+v", got)
	}
	name := f.member(t)
	for _, args := range [][]string{
		{"probes", "list"}, {"probes", "show", name}, {"probes", "limit", name, "--rate", "5"}, {"probes", "drain", name}, {"surveys", "list"}, {"token", "list"},
	} {
		if got := there.call(t.Context(), "", args...); got.code != 0 || args[0] == "probes" && (args[1] == "list" || args[1] == "show") && !strings.Contains(got.out, name) {
			t.Errorf("%q: %+v", args, got)
		}
	}
	p, err := f.control.GetProbe(t.Context(), &pb.GetProbeRequest{Probe: name})
	if err != nil || !p.GetProbe().GetDrained() || p.GetProbe().GetLimits().GetRate() != 5 {
		t.Errorf("drained and limited: %v, %v", p, err)
	}
	made := there.call(t.Context(), "8.8.8.8:443\n8.8.4.4:443\n", "survey", "--targets", "-", "--detach")
	if made.code != 0 {
		t.Fatalf("%+v", made)
	}
	if st, err := f.control.GetSurvey(t.Context(), &pb.GetSurveyRequest{Survey: made.out}); err != nil || st.GetState().GetPending() != 2 {
		t.Errorf("the only probe is drained, and: %v, %v", st, err)
	}
	if got := there.call(t.Context(), "", "surveys", "pause", made.out); got.code != 0 {
		t.Errorf("pause: %+v", got)
	}
	if got := there.call(t.Context(), "", "probes", "drain", name, "--undo"); got.code != 0 {
		t.Errorf("undo: %+v", got)
	}
	if got := there.call(t.Context(), "", "surveys", "resume", made.out); got.code != 0 {
		t.Errorf("resume: %+v", got)
	}
	if got := there.call(t.Context(), "", "surveys", "watch", made.out, "--quiet"); got.code != 0 || !strings.Contains(got.out, "2 of 2") {
		t.Errorf("watch: %+v", got)
	}
	for _, args := range [][]string{{"probes", "drain", "nobody"}, {"probes", "limit", "nobody", "--rate", "1"}} {
		if got := there.call(t.Context(), "", args...); got.code != int(exitFailure) || !strings.Contains(got.err, `no probe is called "nobody"`) {
			t.Errorf("%q: %+v", args, got)
		}
	}
	if err := os.Chmod(there.socket, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := there.call(t.Context(), "", "probes", "list"); got.code != int(exitUsage) {
		t.Errorf("a key that others can read: %+v", got)
	}
}

// TestResultsOverTheWire: the report and the dataset of a survey of the fleet,
// fetched, are those that the controller has; what is there is not fetched
// again, and what was damaged on the way is.
func TestResultsOverTheWire(t *testing.T) {
	f := newTestFleet(t)
	f.member(t)
	made := f.call(t.Context(), "8.8.8.8:443\n8.8.4.4:443\n9.9.9.9:443\n", "survey", "--targets", "-", "--detach")
	id := made.out
	if got := f.call(t.Context(), "", "surveys", "watch", id, "--quiet"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	there := f.elsewhere(t)
	got := there.call(t.Context(), "", "report", id, "--format", "json")
	var sum struct{ Verdicts json.RawMessage }
	if err := json.Unmarshal([]byte(got.out), &sum); got.code != 0 || err != nil || !bytes.Contains([]byte(got.out), []byte(`"supported"`)) {
		t.Errorf("%v: %+v", err, got)
	}
	if got := there.call(t.Context(), "", "export", id); got.code != 0 || strings.Count(got.out, "\n") != 2 {
		t.Errorf("export: %+v", got)
	}

	dir := filepath.Join(t.TempDir(), "copy")
	if got := there.call(t.Context(), "", "export", id, "--out", dir); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	for r, err := range dataset.Read(dir) {
		if err != nil || r.Observed.String() != "127.0.0.1" {
			t.Errorf("item %d was brought from %v: %v", r.Item, r.Observed, err)
		}
	}
	from, err := dataset.Files(dataset.Join(f.datasets, id))
	if err != nil {
		t.Fatal(err)
	}
	to, err := dataset.Files(dir)
	if err != nil || !slices.Equal(from, to) {
		t.Errorf("%v, copied as %v, %v", from, to, err)
	}
	for _, file := range from {
		if err := os.Truncate(filepath.Join(dir, file.Name), 5); err != nil {
			t.Fatal(err)
		}
	}
	if got := there.call(t.Context(), "", "export", id, "--out", dir); got.code != int(exitCannotWrite) && got.code != 0 {
		t.Errorf("over what is cut off: %+v", got)
	}
	for _, args := range [][]string{
		{"export", "aaaaaaaaaaaaa"}, {"report", "aaaaaaaaaaaaa"}, {"export", "../../etc/passw", "--out", dir},
	} {
		if got := there.call(t.Context(), "", args...); got.code == 0 {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

// TestDashboard: it shows the fleet to who knows the address, and nothing to
// others.
func TestDashboard(t *testing.T) {
	f := newTestFleet(t)
	name := f.member(t)
	ctx, interrupt := context.WithCancel(t.Context())
	said := &address{found: make(chan string, 1)}
	over := make(chan int)
	go func() {
		over <- run(ctx, []string{"controller", "dashboard", "--controller", f.socket}, strings.NewReader(""), io.Discard, said)
	}()
	url := <-said.found
	get := func(url string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if strings.HasSuffix(url, "events") {
			b := make([]byte, 1<<16)
			n, _ := io.ReadAtLeast(resp.Body, b, 200)
			return resp.StatusCode, string(b[:n])
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if code, page := get(url); code != http.StatusOK || !strings.Contains(page, "<html") {
		t.Errorf("%d: %s", code, page)
	}
	if code, events := get(url + "events"); code != http.StatusOK || !strings.Contains(events, name) {
		t.Errorf("%d: %s", code, events)
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	if code, _ := get("http://" + host + "/"); code != http.StatusNotFound {
		t.Errorf("without the secret: %d", code)
	}
	interrupt()
	if code := <-over; code != 0 {
		t.Errorf("ended with %d", code)
	}
	if got := f.call(t.Context(), "", "dashboard", "--listen", "0.0.0.0:0"); got.code != int(exitUsage) {
		t.Errorf("for everybody: %+v", got)
	}
}

// address finds the address in what the dashboard says.
type address struct{ found chan string }

func (a *address) Write(b []byte) (int, error) {
	if url := regexp.MustCompile(`http://\S+/`).FindString(string(b)); url != "" {
		a.found <- url
	}
	return len(b), nil
}
