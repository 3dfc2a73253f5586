package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// browser is one that has imported the file of --p12.
func (f *testFleet) browser(t *testing.T, file, password string) *http.Client {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	key, cert, roots, err := pkcs12.DecodeChain(data, password)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// TestDashboardOnThePort: with what "operator create" wrote a browser sees what
// there is, down to the evidence, and nobody else does.
func TestDashboardOnThePort(t *testing.T) {
	f := newTestFleet(t)
	name := f.member(t)
	made := f.call(t.Context(), "8.8.8.8:443\n8.8.4.4:443\n", "survey", "--targets", "-", "--detach")
	if got := f.call(t.Context(), "", "surveys", "watch", made.out, "--quiet"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	id := strings.TrimSpace(made.out)
	dir := t.TempDir()
	p12 := filepath.Join(dir, "alice.p12")
	created := f.call(t.Context(), "", "operator", "create", "alice", "--p12", p12, "--out", filepath.Join(dir, "alice.json"), "--address", f.address)
	if created.code != 0 || !strings.Contains(created.err, "https://"+f.address+"/") {
		t.Fatalf("%+v", created)
	}
	if info, err := os.Stat(p12); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	browser := f.browser(t, p12, strings.TrimSpace(created.out))
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := browser.Get("https://" + f.address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b := make([]byte, 4<<20)
		n := 0
		for n < len(b) && !(path == "/events" && strings.Contains(string(b[:n]), name) && strings.Contains(string(b[:n]), id)) {
			k, err := resp.Body.Read(b[n:])
			n += k
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v after %q", path, err, b[:n])
			}
		}
		return resp.StatusCode, string(b[:n])
	}
	if code, page := get("/"); code != http.StatusOK || !strings.Contains(page, "<html") {
		t.Errorf("%d: %s", code, page)
	}
	if code, events := get("/events"); code != http.StatusOK || !strings.Contains(events, name) || !strings.Contains(events, id) {
		t.Errorf("%d: %s", code, events)
	}
	code, list := get("/surveys/" + id + "/measurements")
	var rows struct {
		Rows []struct {
			Chunk   uint32
			Probe   string
			Item    uint64
			Verdict string
		}
	}
	if err := json.Unmarshal([]byte(list), &rows); err != nil || code != http.StatusOK || len(rows.Rows) != 2 {
		t.Fatalf("%d, %v: %s", code, err, list)
	}
	r := rows.Rows[0]
	q := url.Values{"chunk": {strconv.FormatUint(uint64(r.Chunk), 10)}, "probe": {r.Probe}, "item": {strconv.FormatUint(r.Item, 10)}}
	if code, evidence := get("/surveys/" + id + "/evidence?" + q.Encode()); code != http.StatusOK || !strings.Contains(evidence, r.Verdict) || r.Probe != name {
		t.Errorf("%d: %s", code, evidence)
	}
	if code, report := get("/surveys/" + id + "/report.html"); code != http.StatusOK || !strings.Contains(report, "</html>") {
		t.Errorf("the report: %d", code)
	}
	for path, want := range map[string]int{"/nothing": 404, "/surveys/none/measurements": 404, "/surveys/..%2f..%2fstate.db/evidence": 404} {
		if code, _ := get(path); code != want {
			t.Errorf("%s: %d", path, code)
		}
	}
	if resp, err := browser.Post("https://"+f.address+"/", "", nil); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("another method: %v, %v", resp, err)
	}
	// The same certificate, for the commands.
	there := *f
	there.socket = filepath.Join(dir, "alice.json")
	if got := there.call(t.Context(), "", "surveys", "list"); got.code != 0 || !strings.Contains(got.out, id) {
		t.Errorf("%+v", got)
	}

	if got := f.call(t.Context(), "", "operator", "list"); got.code != 0 || !strings.Contains(got.out, "alice") || !strings.Contains(got.out, "  20") {
		t.Errorf("%+v", got)
	}
	if got := f.call(t.Context(), "", "operator", "ban", "alice", "--reason", "left"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	if code, text := get("/"); code != http.StatusForbidden || !strings.HasPrefix(text, "banned: ") || !strings.Contains(text, "operator create") {
		t.Errorf("%d %q", code, text)
	}
	if got := there.call(t.Context(), "", "surveys", "list"); got.code != int(exitFailure) || !strings.Contains(got.err, "banned: left") {
		t.Errorf("%+v", got)
	}
	if got := f.call(t.Context(), "", "operator", "list"); got.code != 0 || !strings.Contains(got.out, " left") {
		t.Errorf("%+v", got)
	}
	again := f.call(t.Context(), "", "operator", "create", "alice", "--out", filepath.Join(dir, "again.json"))
	if _, err := os.Stat(filepath.Join(dir, "again.json")); again.code != int(exitFailure) || !strings.Contains(again.err, "banned") || !os.IsNotExist(err) {
		t.Errorf("%+v, %v", again, err)
	}
}

// TestOperatorBan: what a ban needs.
func TestOperatorBan(t *testing.T) {
	f := newTestFleet(t)
	for args, want := range map[string]struct {
		code exitCode
		says string
	}{
		"ban bob":               {exitUsage, "--reason TEXT"},
		"ban --reason left":     {exitUsage, "one operator's name"},
		"ban bob --reason left": {exitFailure, "operator bob: not found"},
	} {
		if got := f.call(t.Context(), "", append([]string{"operator"}, strings.Fields(args)...)...); got.code != int(want.code) || !strings.Contains(got.err, want.says) {
			t.Errorf("%s: %+v", args, got)
		}
	}
}

// TestOperatorFiles: which there are to write, and that none is written over.
func TestOperatorFiles(t *testing.T) {
	f := newTestFleet(t)
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil { // whatever the umask
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		code exitCode
	}{
		{nil, exitUsage},
		{[]string{"--p12", there}, exitOutExists},
		{[]string{"--p12", there, "--out", filepath.Join(dir, "new.json")}, exitOutExists},
		{[]string{"--p12", filepath.Join(open, "to-others.p12")}, exitCannotWrite},
	} {
		if got := f.call(t.Context(), "", append([]string{"operator", "create", "bob"}, test.args...)...); got.code != int(test.code) || got.out != "" {
			t.Errorf("%q: %+v", test.args, got)
		}
	}
	for dir, want := range map[string]int{dir: 2, open: 0} {
		if left, err := os.ReadDir(dir); err != nil || len(left) != want {
			t.Errorf("%v, %v", left, err)
		}
	}
}
