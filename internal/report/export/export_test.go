package export

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

var update = flag.Bool("update", false, "write the golden files")

func segment(t *testing.T, headers string) tfo.Segment {
	t.Helper()
	raw, err := hex.DecodeString(headers)
	if err != nil {
		t.Fatal(err)
	}
	s, err := tfo.ParseSegment(raw)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sample is a dataset with everything that an export has to tell apart.
func sample(t *testing.T) string {
	t.Helper()
	at := time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC)
	local, remote := netip.MustParseAddrPort("198.51.100.1:40000"), netip.MustParseAddrPort("192.0.2.7:443")
	s := &dataset.Survey{ID: "s1", State: dataset.StateDone, Created: at, Spec: dataset.Spec{Plan: "standard", Seed: 7}}
	w, err := dataset.Create(t.TempDir(), s)
	if err != nil {
		t.Fatal(err)
	}
	wire := &tfo.Wire{
		Syns: 1, Syn: segment(t, "450000a80000400040060000c6336401c00002079c4001bb000003e800000000c002faf000000000020405b40402080a0000000100000000010303072206deadbeef0101"),
		SynAcks: 1, SynAck: segment(t, "4500002c0000400040060000c0000207c633640101bb9c40000013880000044d6012faf000000000020405b4"), Acked: 100, AfterSyns: 1,
	}
	ms := []measure.Measurement{
		{
			Target: measure.Target{Addr: remote.Addr(), Port: 443, Hostname: "www.example"}, Outcome: measure.OutcomeMeasured, Verdict: measure.Supported,
			Conditions: []measure.Condition{measure.CondWorks, measure.CondSynDataAcked}, Started: at, Duration: 1900 * time.Millisecond,
			Attempts: []tfo.Evidence{
				{Kind: tfo.KindPlain, Start: at, Local: local, Remote: remote, End: tfo.EndResponse, ConnectNS: 1e7, FirstByteNS: 2e7, TotalNS: 2e7, WireAbsent: tfo.WireNoRight},
				{Kind: tfo.KindData, Start: at.Add(time.Second), Local: local, Remote: remote, OptionKind: 34, Offered: 100, SynBytes: 100, SynAcked: 100, End: tfo.EndResponse, ConnectNS: 1e7, FirstByteNS: 2e7, TotalNS: 2e7, Wire: wire},
			},
		},
		{Target: measure.Target{Item: 1, Addr: netip.MustParseAddr("2001:db8::7"), Port: 80}, Outcome: measure.OutcomeMeasured, Verdict: measure.Offline, Conditions: []measure.Condition{measure.CondOffline}, Started: at},
		{Target: measure.Target{Item: 2, Port: 443, Hostname: "nowhere.example"}, Outcome: measure.OutcomeMeasured, Verdict: measure.Offline, Conditions: []measure.Condition{measure.CondNameNotFound}, Started: at},
		{Target: measure.Target{Item: 3, Addr: remote.Addr(), Port: 22}, Outcome: measure.OutcomeRefused, Conditions: []measure.Condition{measure.CondRefused("port")}},
		{Target: measure.Target{Item: 4, Addr: remote.Addr(), Port: 81}, Outcome: measure.OutcomeMeasured, Verdict: measure.Unsupported, Started: at},
		{Target: measure.Target{Item: 5, Addr: remote.Addr(), Port: 443, Hostname: "other.example"}, Outcome: measure.OutcomeMeasured, Verdict: measure.Supported, Conditions: []measure.Condition{measure.CondWorks, measure.CondSharedAddress}, Started: at.Add(time.Hour)},
	}
	if err := w.WriteChunk(dataset.ChunkKey{Survey: "s1", Probe: "my probe"}, ms); err != nil {
		t.Fatal(err)
	}
	return w.Dir()
}

func exported(t *testing.T, f Format) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(sample(t), f, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestGolden(t *testing.T) {
	golden(t, "pathspider.ndjson", exported(t, PATHspider))
	golden(t, "pto.ndjson", exported(t, PTO))
}

// What the PTO asks of a file when it is loaded (pto3-go, observation.go): the
// metadata has its three keys, all else in it is strings, an observation is five
// or six strings, its times are RFC 3339, and its condition was declared.
func TestPTOIsWellFormed(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(string(exported(t, PTO))), "\n")
	var head map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &head); err != nil {
		t.Fatal(err)
	}
	var declared []string
	for k, v := range head {
		list, isList := v.([]any)
		if _, isString := v.(string); !isString && !(isList && (k == "_sources" || k == "_conditions")) {
			t.Errorf("%s is %v", k, v)
		}
		if k == "_conditions" {
			for _, c := range list {
				declared = append(declared, c.(string))
			}
		}
	}
	if head["_analyzer"] == "" || head["_sources"] == nil || len(declared) == 0 {
		t.Errorf("%v", head)
	}
	used := map[string]bool{}
	for _, line := range lines[1:] {
		var o []string
		if err := json.Unmarshal([]byte(line), &o); err != nil || len(o) != 6 {
			t.Fatalf("%s: %v", line, err)
		}
		for _, at := range o[1:3] {
			if _, err := time.Parse(time.RFC3339, at); err != nil {
				t.Error(err)
			}
		}
		if !slices.Contains(declared, o[4]) {
			t.Errorf("%s was not declared", o[4])
		}
		used[o[4]] = true
	}
	if len(used) != len(declared) {
		t.Errorf("declared %v, used %v", declared, used)
	}
}

// tshark reads the packets back as they were sent.
func TestPCAPNG(t *testing.T) {
	path := filepath.Join(t.TempDir(), "handshakes.pcapng")
	if err := os.WriteFile(path, exported(t, PCAPNG), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tshark", "-r", path, "-T", "fields", "-e", "frame.time_epoch", "-e", "ip.src", "-e", "ip.dst", "-e", "tcp.flags.syn", "-e", "tcp.flags.ack", "-e", "frame.len").CombinedOutput()
	if err != nil {
		t.Fatalf("tshark, which reads the file back: %v %s", err, out)
	}
	var packets []string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "1795") || strings.HasPrefix(line, "2026") {
			packets = append(packets, strings.TrimSpace(line))
		}
	}
	if len(packets) != 2 || !strings.Contains(packets[0], "198.51.100.1\t192.0.2.7") || !strings.Contains(packets[1], "192.0.2.7\t198.51.100.1") || !strings.HasSuffix(packets[0], "168") {
		t.Errorf("%q", out)
	}
}

func TestErrors(t *testing.T) {
	for _, f := range append(Formats(), "other") {
		if err := Write(t.TempDir(), f, &bytes.Buffer{}); err == nil && f != PATHspider && f != PCAPNG {
			t.Errorf("%s of no dataset", f)
		}
	}
	dir := sample(t)
	tables, err := filepath.Glob(filepath.Join(dir, "attempts", "*.parquet"))
	if err != nil || len(tables) != 1 {
		t.Fatal(tables, err)
	}
	if err := os.Truncate(tables[0], 100); err != nil {
		t.Fatal(err)
	}
	for _, f := range Formats() {
		if err := Write(dir, f, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), filepath.Base(tables[0])) {
			t.Errorf("%s of a damaged dataset: %v", f, err)
		}
	}
}
