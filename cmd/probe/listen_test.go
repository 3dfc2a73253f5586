package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/tfo"
)

// newNetNS makes a network namespace that lives as long as the test.
func newNetNS(t *testing.T) tfo.NetNS {
	t.Helper()
	labtest.Need(t)
	ns, closer, err := tfo.NewNetNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closer.Close() })
	return ns
}

// process is a probe that runs.
type process struct {
	*exec.Cmd
	reader io.Closer
	out    *bufio.Reader
	stderr bytes.Buffer
}

// start starts a probe in a namespace.
func start(t *testing.T, ns tfo.NetNS, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command("probe", args...)}
	p.Stderr = &p.stderr
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.reader, p.out = out, bufio.NewReader(out)
	// The child gets the namespace of the thread that makes it.
	if err := ns.Do(p.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Process.Kill() // it has ended, unless the test failed
		p.Wait()
	})
	return p
}

// line returns the next line of standard output.
func (p *process) line(t *testing.T) string {
	t.Helper()
	s, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("%v; standard error: %s", err, &p.stderr)
	}
	return s
}

// end sends a signal and returns the rest of standard output.
func (p *process) end(t *testing.T, sig os.Signal, code int) string {
	t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	return p.rest(t, code)
}

func (p *process) rest(t *testing.T, code int) string {
	t.Helper()
	rest, err := io.ReadAll(p.out)
	if err != nil {
		t.Fatal(err)
	}
	p.Wait()
	if got := p.ProcessState.ExitCode(); got != code {
		t.Errorf("exit code %d, want %d; standard error: %s", got, code, &p.stderr)
	}
	return string(rest)
}

var listeningOn = regexp.MustCompile(`^listening on \[::\]:(\d+), up to \d+ pending Fast Open connections\n$`)

// port reads the first line of a listener.
func (p *process) port(t *testing.T) netip.AddrPort {
	t.Helper()
	s := p.line(t)
	m := listeningOn.FindStringSubmatch(s)
	if m == nil {
		t.Fatalf("first line %q", s)
	}
	return netip.MustParseAddrPort("127.0.0.1:" + m[1])
}

// attempts is a sequence of attempts known from the start.
type attempts struct {
	remote   netip.AddrPort
	list     []tfo.Attempt
	evidence []*tfo.Evidence
	over     chan struct{}
}

func (s *attempts) Remote() netip.AddrPort { return s.remote }
func (s *attempts) Over(bool)              { close(s.over) }

func (s *attempts) Next(last *tfo.Evidence) (tfo.Attempt, bool) {
	if last != nil {
		s.evidence = append(s.evidence, last)
	}
	if n := len(s.evidence); n < len(s.list) {
		return s.list[n], true
	}
	return tfo.Attempt{}, false
}

// attempt makes one attempt of each kind.
func attempt(t *testing.T, ns tfo.NetNS, to netip.AddrPort, kinds ...tfo.Kind) []*tfo.Evidence {
	t.Helper()
	e, err := tfo.NewEngine(tfo.Config{Concurrency: 1, NetNS: ns})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Stop()
	s := &attempts{remote: to, over: make(chan struct{})}
	for _, k := range kinds {
		s.list = append(s.list, tfo.Attempt{Kind: k, Payload: []byte("HEAD / HTTP/1.0\r\n\r\n"), Timeout: 10 * time.Second})
	}
	e.Start(s)
	<-s.over
	return s.evidence
}

// normalise replaces what differs from run to run.
func normalise(s, port string) string {
	s = strings.ReplaceAll(s, port, "PORT")
	for _, r := range []struct{ re, with string }{
		{`\d\d:\d\d:\d\d\.\d{3}`, "TIME"},
		{`127\.0\.0\.1:\d+ to`, "CLIENT to"},
		{`\d+(\.\d+)?(µs|ms|s)\b`, "SOON"},
		{`wscale \d+`, "wscale N"},
		{`, handshake complete SOON after the accept`, ""},
		{`(before|after|at about the time of) the client's ACK`, "WHEN"},
		{`(?m)^ +1 answered WHEN\n`, ""}, // on a busy machine the answer is faster
	} {
		s = regexp.MustCompile(r.re).ReplaceAllString(s, r.with)
	}
	return s
}

// A listener as a person uses it: a real process, connected to, interrupted,
// and what it printed.
func TestListenTellsWhatArrived(t *testing.T) {
	ns := newNetNS(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("000102030405060708090a0b0c0d0e0f\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, ns, "listen", "0", "--key-file", key)
	to := p.port(t)
	attempt(t, ns, to, tfo.KindPlain, tfo.KindRequest, tfo.KindData)
	got := normalise(p.end(t, os.Interrupt, 0), to.String()[len("127.0.0.1:"):])
	want := `
1  TIME  CLIENT to 127.0.0.1:PORT
   < SYN       no TFO option, no data, mss 65495, sack, timestamps, wscale N, ttl 64
   · kernel    an ordinary connection
   < request   HTTP, 19 bytes, SOON after the accept
   > answer    102 bytes, WHEN, all acknowledged
   · end       served after SOON
   = shows     no Fast Open asked for, or the option was taken out on the way

2  TIME  CLIENT to 127.0.0.1:PORT
   < SYN       TFO kind 34, cookie request, no data, mss 65495, sack, timestamps, wscale N, ttl 64
   · kernel    an ordinary connection
   < request   HTTP, 19 bytes, SOON after the accept
   > answer    102 bytes, WHEN, all acknowledged
   · end       served after SOON
   = shows     a cookie asked for; the kernel grants one unless its queue is full

3  TIME  CLIENT to 127.0.0.1:PORT
   < SYN       TFO kind 34, cookie COOKIE, 19 bytes of data, mss 65495, sack, timestamps, wscale N, ttl 64
   · kernel    a TFO child (TFO_CHILD, SYN_DATA), 19 bytes of SYN data taken
   < request   HTTP, 19 bytes, SOON after the accept
   > answer    102 bytes, WHEN, all acknowledged
   · end       served after SOON
   = shows     Fast Open: a valid cookie, and data in the SYN

3 connections
       1 without a TFO option
       1 asked for a cookie
       1 with a valid cookie
       1 had their SYN data taken

kernel counters of this network namespace, change since the start
       1 TCPFastOpenActive
       0 TCPFastOpenActiveFail
       1 TCPFastOpenPassive
       0 TCPFastOpenPassiveFail
       0 TCPFastOpenListenOverflow
       1 TCPFastOpenCookieReqd
       0 TCPFastOpenBlackhole
       0 TCPFastOpenPassiveAltKey
`
	keys, err := tfo.ParseKeys("000102030405060708090a0b0c0d0e0f")
	if err != nil {
		t.Fatal(err)
	}
	cookie := keys[0].Cookie(to.Addr(), to.Addr())
	want = strings.ReplaceAll(want, "COOKIE", hex.EncodeToString(cookie[:]))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if p.stderr.Len() > 0 {
		t.Errorf("standard error: %s", &p.stderr)
	}
}

// The same for a program: each line by itself, with names that stay.
func TestListenJSON(t *testing.T) {
	ns := newNetNS(t)
	p := start(t, ns, "listen", "-p", "0", "--json", "--key", "000102030405060708090a0b0c0d0e0f,ff0102030405060708090a0b0c0d0e0f", "--qlen", "5000")
	var first struct {
		Event   string
		Address netip.AddrPort
		Queue   int
	}
	decode := func(line string, into any) {
		t.Helper()
		if err := json.Unmarshal([]byte(line), into); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
	decode(p.line(t), &first)
	if first.Event != "listening" || first.Queue != 4096 || first.Address.Port() == 0 {
		t.Errorf("%+v", first)
	}
	var alarm jsonAlarm
	decode(p.line(t), &alarm)
	if alarm.Event != "alarm" || alarm.Kind != "queue_capped" || alarm.Count != 5000 || alarm.Queue != 4096 || !strings.Contains(alarm.Hint, "somaxconn=5000") {
		t.Errorf("%+v", alarm)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), first.Address.Port())
	evs := attempt(t, ns, to, tfo.KindRequest, tfo.KindData)
	var conns [2]map[string]any
	for i := range conns {
		decode(p.line(t), &conns[i])
	}
	c := conns[1]
	for name, want := range map[string]any{
		"event": "connection", "peer": evs[1].Local.String(), "local": to.String(), "option_kind": 34.0, "cookie": hex.EncodeToString(evs[1].CookieBefore.Bytes),
		"claim": "valid", "child": "yes", "tfo_child": true, "syn_data": true, "syn_bytes": 19.0, "syn_bytes_taken": 19.0, "bytes_at_accept": 19.0,
		"request_kind": "http", "request_bytes": 19.0, "request": hex.EncodeToString([]byte("HEAD / HTTP/1.0\r\n\r\n")),
		"response_bytes": 102.0, "response_bytes_acked": 102.0, "end": "served", "errno": "",
	} {
		if c[name] != want {
			t.Errorf("%s is %v, want %v", name, c[name], want)
		}
	}
	for _, name := range []string{"time", "answered_early", "handshake_ns", "request_ns", "total_ns", "tcp_info_accept", "tcp_info_final"} {
		if _, there := c[name]; !there {
			t.Errorf("no %s", name)
		}
	}
	syn, _ := c["syn"].(map[string]any)
	for _, name := range []string{"raw", "ttl", "tos", "seq", "flags", "window", "mss", "window_scale", "sack_permitted", "timestamps", "malformed"} {
		if _, there := syn[name]; !there {
			t.Errorf("no syn.%s", name)
		}
	}
	if conns[0]["claim"] != "request" || conns[0]["child"] != "no" {
		t.Errorf("the request: %v", conns[0])
	}
	var end struct {
		Event       string
		Connections int
		Requests    int `json:"cookie_requests"`
		Valid       int `json:"cookies_valid"`
		Counters    map[string]int64
	}
	decode(p.end(t, syscall.SIGTERM, 0), &end)
	if end.Event != "end" || end.Connections != 2 || end.Requests != 1 || end.Valid != 1 || end.Counters["TCPFastOpenPassive"] != 1 || len(end.Counters) != tfo.Counters {
		t.Errorf("%+v", end)
	}
	if !strings.Contains(p.stderr.String(), "--key-file") {
		t.Errorf("a key for all to see, and no word of it: %s", &p.stderr)
	}
}

// A connection under way is served after the signal; a second signal does not
// wait for it.
func TestListenDrains(t *testing.T) {
	ns := newNetNS(t)
	dial := func(to netip.AddrPort) net.Conn {
		var c net.Conn
		err := ns.Do(func() (err error) {
			c, err = net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(to))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	p := start(t, ns, "listen", "0")
	to := p.port(t)
	c := dial(to)
	c.Write([]byte("GET / HTTP/1.0\r\n"))
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	// Nobody is taken in any more once the signal has been seen.
	for {
		var late net.Conn
		if err := ns.Do(func() (err error) {
			late, err = net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(to))
			return err
		}); err != nil {
			break
		}
		late.Close()
	}
	c.Write([]byte("\r\n"))
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasSuffix(string(answer), "tfofleet listener\n") {
		t.Errorf("answer %q, %v", answer, err)
	}
	if out := p.rest(t, 0); !strings.Contains(out, "served after") {
		t.Errorf("output %s", out)
	}
}

// Listeners get no Fast Open where bit 0x2 is clear, and the kernel does not
// say so: we must.
func TestListenWithoutServerBit(t *testing.T) {
	ns := newNetNS(t)
	setSysctl(t, ns, "1")
	p := start(t, ns, "listen", "0")
	to := p.port(t)
	attempt(t, ns, to, tfo.KindRequest)
	p.end(t, os.Interrupt, 0)
	const want = `probe: warning: bit 0x2 of net.ipv4.tcp_fastopen is clear: the kernel gives listeners no Fast Open, and no error
probe: hint: sysctl -w net.ipv4.tcp_fastopen=0x3
`
	if got := p.stderr.String(); got != want {
		t.Errorf("standard error %q", got)
	}
}

// Whatever goes wrong before it listens: the words, the next step, the code,
// and nothing on standard output.
func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const key = "000102030405060708090a0b0c0d0e0f"
	open := file("open", key, 0o644)
	for _, tt := range []struct {
		args string
		code exitCode
		says string
		hint string
	}{
		{"listen", exitUsage, "no port to listen on", "probe listen 8080"},
		{"listen x", exitUsage, `"x" is not a port`, "[2001:db8::1]:8080"},
		{"listen 65536", exitUsage, `"65536" is not a port`, ""},
		{"listen host:80", exitUsage, `"host" is not an address`, ""},
		{"listen 2001:db8::1:80", exitUsage, `"2001:db8::1" is not an address`, "[2001:db8::1]:8080"},
		{"listen [192.0.2.1]:80", exitUsage, `"[192.0.2.1]" is not an address`, ""},
		{"listen 1 2", exitUsage, "takes one argument, got 2", ""},
		{"listen 1 --bogus", exitUsage, "--bogus", "lists the flags"},
		{"listen 1 --qlen -1", exitUsage, "--qlen -1", ""},
		{"listen 1 --allow x", exitUsage, `--allow "x"`, ""},
		{"listen 1 --key 00", exitUsage, "key 1 of 1 is not 32 hexadecimal digits", "openssl rand -hex 16"},
		{"listen 1 --key " + key + " --key-file " + open, exitUsage, "exclude each other", ""},
		{"listen 1 --key-file " + open, exitUsage, "can be read by others (mode 0644)", "chmod 600 " + open},
		{"listen 1 --key-file " + file("group", key, 0o640), exitUsage, "(mode 0640)", "chmod 600"},
		{"listen 1 --key-file " + file("empty", "", 0o600), exitUsage, "holds nothing", "openssl"},
		{"listen 1 --key-file " + file("bad", "secret", 0o600), exitUsage, "not 32 hexadecimal digits", "openssl"},
		{"listen 1 --key-file " + filepath.Join(dir, "none"), exitUsage, "no such file", ""},
		{"listen 1 --key-file " + dir, exitUsage, "not a regular file", ""},
		{"listen 192.0.2.77:4000", exitFailure, "cannot assign requested address", "ip address"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"probe"}, strings.Fields(tt.args)...), strings.NewReader(""), &out, &errs)
		if code != int(tt.code) || !strings.Contains(errs.String(), tt.says) || !strings.Contains(errs.String(), tt.hint) || out.Len() > 0 {
			t.Errorf("%s: exit code %d\n%s%s", tt.args, code, &out, &errs)
		}
		for line := range strings.Lines(errs.String()) {
			if !strings.HasPrefix(line, "probe: error: ") && !strings.HasPrefix(line, "probe: hint: ") && !strings.HasPrefix(line, "probe: warning: ") {
				t.Errorf("%s: %q", tt.args, line)
			}
		}
		if strings.Contains(errs.String(), key) || strings.Contains(errs.String(), "secret") {
			t.Errorf("%s: the key is in %s", tt.args, &errs)
		}
	}
}

func TestParseListen(t *testing.T) {
	for s, want := range map[string]string{
		"80": "[::]:80", ":80": "[::]:80", "192.0.2.1:80": "192.0.2.1:80", "[2001:db8::1]:80": "[2001:db8::1]:80", "[::]:0": "[::]:0", "0.0.0.0:7": "0.0.0.0:7",
	} {
		if got, err := parseListen(s); err != nil || got.String() != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
}

// A port that is taken, by a real listener.
func TestListenPortInUse(t *testing.T) {
	ns := newNetNS(t)
	first := start(t, ns, "listen", "0")
	to := first.port(t)
	second := start(t, ns, "listen", to.String()[len("127.0.0.1:"):])
	if out := second.rest(t, int(exitFailure)); out != "" || !strings.Contains(second.stderr.String(), "address already in use") || !strings.Contains(second.stderr.String(), "hint: ") {
		t.Errorf("output %q, standard error %q", out, &second.stderr)
	}
	first.end(t, os.Interrupt, 0)
}

// The flags of the classic example.
func TestExampleListens(t *testing.T) {
	ns := newNetNS(t)
	p := start(t, ns, "-l", "-p", "0")
	if s := p.line(t); !strings.HasPrefix(s, "listening on 127.0.0.1:") {
		t.Errorf("%q", s)
	}
	p.end(t, os.Interrupt, 0)
}

// A reader that goes away ends the listener.
func TestListenWithoutReader(t *testing.T) {
	ns := newNetNS(t)
	p := start(t, ns, "listen", "0", "--json")
	var first jsonListening
	if err := json.Unmarshal([]byte(p.line(t)), &first); err != nil {
		t.Fatal(err)
	}
	p.reader.Close()
	attempt(t, ns, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), first.Address.Port()), tfo.KindPlain)
	if err := p.Wait(); err == nil {
		t.Error("ended as if all had been read")
	}
}

// What a connection comes to, in words: one line for each thing that can have
// happened.
func TestShowsText(t *testing.T) {
	syn := tfo.SavedSYN{Raw: []byte{1}}
	cookie := syn
	cookie.Options.FastOpenKind, cookie.Options.TFO = tfo.OptionKindTFO, tfo.FastOpenOption{Count: 1, Cookie: []byte{1, 2, 3}}
	seen := map[string]bool{}
	for _, tt := range []struct {
		a    tfo.Arrival
		want string
	}{
		{tfo.Arrival{}, "SYN cookies"},
		{tfo.Arrival{SYN: syn, Claim: tfo.ClaimNone, Child: tfo.No}, "taken out on the way"},
		{tfo.Arrival{SYN: syn, Claim: tfo.ClaimNone, Child: tfo.No, SynBytes: 5}, "without a cookie, refused"},
		{tfo.Arrival{SYN: syn, Claim: tfo.ClaimNone, Child: tfo.Yes, SynBytes: 5, SynTaken: 5}, "without a cookie, taken"},
		{tfo.Arrival{SYN: cookie, Claim: tfo.ClaimRequest, Child: tfo.No}, "a cookie asked for;"},
		{tfo.Arrival{SYN: cookie, Claim: tfo.ClaimRequest, Child: tfo.Yes}, "where none is required"},
		{tfo.Arrival{SYN: cookie, Claim: tfo.ClaimMalformed, Child: tfo.No}, "a cookie of 3 bytes"},
		{tfo.Arrival{SYN: cookie, Claim: tfo.ClaimStale, Child: tfo.No}, "no key here makes"},
		{tfo.Arrival{SYN: cookie, Claim: tfo.ClaimUnjudged, Child: tfo.No}, "a cookie, refused"},
		{tfo.Arrival{SYN: cookie, Claim: tfo.ClaimUnjudged}, "not known"},
		{tfo.Arrival{SYN: cookie, Claim: tfo.ClaimValid, Child: tfo.No, SynBytes: 5}, "refused all the same"},
		{tfo.Arrival{SYN: cookie, Claim: tfo.ClaimValid, Child: tfo.Yes, SynBytes: 5, SynTaken: 5}, "Fast Open: a valid cookie"},
		{tfo.Arrival{SYN: cookie, Claim: tfo.ClaimBackup, Child: tfo.Yes, SynBytes: 5, SynTaken: 5}, "backup key"},
		{tfo.Arrival{SYN: cookie, Claim: tfo.ClaimValid, Child: tfo.Yes}, "without data"},
	} {
		got := showsText(&tt.a)
		if !strings.Contains(got, tt.want) || seen[got] {
			t.Errorf("%v, child %v: %q, want %q", tt.a.Claim, tt.a.Child, got, tt.want)
		}
		seen[got] = true
	}
}

// No value is left without a word.
func TestListenWords(t *testing.T) {
	for e := tfo.ArrivalServed; e <= tfo.ArrivalCut; e++ {
		if s := endText(&tfo.Arrival{End: e}); strings.HasPrefix(s, " ") {
			t.Errorf("%v: %q", e, s)
		}
	}
	for k := tfo.RequestHTTP; k <= tfo.RequestOther; k++ {
		if s := requestText(&tfo.Arrival{RequestKind: k}); strings.HasPrefix(s, ",") {
			t.Errorf("%v: %q", k, s)
		}
	}
	for k := tfo.AlarmServerOff; k <= tfo.AlarmShortage; k++ {
		if s, _ := alarmText(tfo.Alarm{Kind: k, Count: 1}); s == k.String() {
			t.Errorf("%v has no words", k)
		}
	}
}
