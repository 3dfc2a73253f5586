package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
)

// connectTo runs probe connect against the n-th host of a path of the lab. A
// host of its own for every test: without privileges a cookie once granted
// cannot be deleted.
func connectTo(t *testing.T, l *lab.Lab, path string, n int, v6 bool, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p, ok := l.Target(path)
	if !ok {
		t.Fatalf("no path %s", path)
	}
	addr := p.Addrs4(n)[n-1]
	if v6 {
		addr = p.Addrs6(n)[n-1]
	}
	var out, errs bytes.Buffer
	args = append([]string{"probe", "connect", netip.AddrPortFrom(addr, p.Port).String(), "--netns", l.ClientNetNS()}, args...)
	code = run(t.Context(), args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// TestConnectTells reads the trace of paths whose truth is known: the cookie
// request, the cookie, the data and the verdict must all be told, as seen on
// the wire.
func TestConnectTells(t *testing.T) {
	l := labtest.New(t, lab.Config{})
	tests := []struct {
		path string
		args []string
		want []string
	}{
		{"clean", nil, []string{"cookie request, no data (seen)", "TFO kind 34, cookie ", "bytes of SYN data acknowledged", "SYN_DATA yes", "verdict: supported", "because 2 of 2 attempts"}},
		{"mirrored", nil, []string{"TFO kind 34, empty (seen)", "verdict: unsupported"}},
		{"data-dropped", nil, []string{"sent again after a timeout", "without option and data (seen)", "client_fail 3 (SYN retransmitted)", "verdict: data_dropped"}},
		{"data-icmp", nil, []string{"type 3 code 13 from", "verdict: reset"}},
		{"clean", []string{"--no-cookie"}, []string{"bytes of data (seen)", "< SYN-ACK   no TFO option (seen), 0 of 1", "verdict: unsupported", "tfo.cookieless.refused"}},
		{"cookieless", []string{"--no-cookie"}, []string{"verdict: supported", "tfo.cookieless.accepted"}},
		{"clean", []string{"--repeat", "2"}, []string{"2 measurements: supported 2"}},
	}
	for i, tt := range tests {
		t.Run(tt.path+strings.Join(tt.args, ""), func(t *testing.T) {
			code, stdout, stderr := connectTo(t, l, tt.path, 1+i, false, tt.args...)
			if code != 0 || stderr != "" {
				t.Errorf("exit %d, stderr %q", code, stderr)
			}
			for _, w := range tt.want {
				if !strings.Contains(stdout, w) {
					t.Errorf("%q is not told in\n%s", w, stdout)
				}
			}
		})
	}
}

func TestConnectJSON(t *testing.T) {
	l := labtest.New(t, lab.Config{})
	_, stdout, _ := connectTo(t, l, "clean", 1, true, "--json", "--repeat", "2")
	dec := json.NewDecoder(strings.NewReader(stdout))
	for range 2 {
		var m struct {
			Verdict  string
			Family   int
			Attempts []struct{ Kind string }
		}
		if err := dec.Decode(&m); err != nil {
			t.Fatal(err)
		}
		if m.Verdict != "supported" || m.Family != 6 || len(m.Attempts) < 4 { // 4 with the cookie of the time before
			t.Errorf("%+v", m)
		}
	}
	if dec.More() {
		t.Error("more than two objects")
	}
}

// TestConnectPCAP reads the file back with a reader that is not ours.
func TestConnectPCAP(t *testing.T) {
	l := labtest.New(t, lab.Config{})
	file := filepath.Join(t.TempDir(), "out.pcapng")
	if code, _, stderr := connectTo(t, l, "clean", 1, false, "--pcap", file); code != 0 {
		t.Fatal(stderr)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	packets := 0
	for {
		if _, _, err := r.ReadPacketData(); err != nil {
			break
		}
		packets++
	}
	if packets != 10 { // five SYNs and five SYN-ACKs
		t.Errorf("%d packets", packets)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte("verdict: supported; because")) {
		t.Error("no verdict among the comments")
	}
	if code, _, stderr := connectTo(t, l, "clean", 2, false, "--pcap", file); code == 0 || !strings.Contains(stderr, "hint: ") {
		t.Errorf("an existing file was taken: exit %d, %q", code, stderr)
	}
}

func TestConnectRefusesNonsense(t *testing.T) {
	for _, args := range []string{"connect", "connect a b", "connect 192.0.2.1:0", "connect 192.0.2.1 -s 192.0.2.2", "connect 192.0.2.1 --plan some",
		"connect 192.0.2.1 --payload file:/nonexistent", "connect 192.0.2.1 --repeat 0", "connect 192.0.2.1 --timeout 0s", "connect 192.0.2.1 -4 -6",
		"connect 192.0.2.1 -p 70000", "check extra"} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"probe"}, strings.Fields(args)...), strings.NewReader(""), &out, &errs)
		if code != int(exitUsage) || !strings.HasPrefix(errs.String(), "probe: error: ") || !strings.Contains(errs.String(), "\nprobe: hint: ") || strings.Contains(errs.String(), "strconv") || out.Len() > 0 {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", args, code, out.String(), errs.String())
		}
	}
}
