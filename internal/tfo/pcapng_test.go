package tfo

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// pcapAttempts are two attempts with packets around one that was not seen.
func pcapAttempts() []Evidence {
	attempt := func(kind Kind, option uint8, syn, synAck []byte) Evidence {
		w := &Wire{Acked: NotKnown}
		for i, b := range [][]byte{syn, synAck} {
			var p packet
			if !decodePacket(b, &p) {
				panic("not a packet")
			}
			if i == 0 {
				w.sawSYN(&p)
			} else {
				w.sawAnswer(&p)
			}
			at := time.Date(2026, 7, 1, 12, 0, int(kind), i*1500, time.UTC)
			w.keep(&frame{length: len(b), time: at}, p.headers)
		}
		return Evidence{Kind: kind, OptionKind: option, Wire: w, End: EndResponse, TotalNS: 1234567}
	}
	cookie := []byte("ABCDEFGH")
	us6, them6 := port(us6, 1001), port(them6, 443)
	return []Evidence{
		attempt(KindRequest, 34, seg(us, them, isn, 0, flagSYN, tfo34(), 0), seg(them, us, irs, isn+1, flagSYN|flagACK, tfo34(cookie...), 0)),
		{Kind: KindData, End: EndTimeout, WireAbsent: WireUnseen},
		attempt(KindData, 34, seg(us6, them6, isn, 0, flagSYN, tfo34(cookie...), 300), seg(them6, us6, irs, isn+1+300, flagSYN|flagACK, linuxSYN[:4], 0)),
	}
}

var pcapComment = func(i int) string {
	if i == 2 {
		return "verdict: supported"
	}
	return ""
}

func TestWritePCAPNG(t *testing.T) {
	attempts := pcapAttempts()
	var buf bytes.Buffer
	if err := WritePCAPNG(&buf, "a target", attempts, pcapComment); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(&buf, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	if r.LinkType() != layers.LinkTypeRaw || r.SectionInfo().Comment != "a target" {
		t.Errorf("link type %v, comment %q", r.LinkType(), r.SectionInfo().Comment)
	}
	want := [][]string{
		{"attempt 1: request, SYN with empty option 34; SYN-ACK with cookie 4142434445464748 in option 34, 0 of 0 bytes acknowledged; response after 1.235ms"},
		nil,
		{"attempt 3: data, SYN with cookie 4142434445464748 in option 34 and 300 bytes; SYN-ACK without TFO option, 300 of 300 bytes acknowledged; response after 1.235ms", "verdict: supported"},
		nil,
	}
	packets := append(append([]Packet(nil), attempts[0].Wire.Packets...), attempts[2].Wire.Packets...)
	for i := range want {
		data, ci, opts, err := r.ReadPacketDataWithOptions()
		if err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		if !bytes.Equal(data, packets[i].Data) || ci.Length != packets[i].Length || !ci.Timestamp.Equal(packets[i].Time) {
			t.Errorf("packet %d: %d of %d bytes at %v, want %d of %d at %v", i, len(data), ci.Length, ci.Timestamp, len(packets[i].Data), packets[i].Length, packets[i].Time)
		}
		if strings.Join(opts.Comments, "|") != strings.Join(want[i], "|") {
			t.Errorf("packet %d: comments %q, want %q", i, opts.Comments, want[i])
		}
	}
	if _, _, err := r.ReadPacketData(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last packet: %v", err)
	}
}

func TestWritePCAPNGOddComments(t *testing.T) {
	long := strings.Repeat("ä", maxComment) + "\xff"
	var buf bytes.Buffer
	if err := WritePCAPNG(&buf, long, pcapAttempts()[:1], func(int) string { return long }); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(&buf, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		_, _, opts, err := r.ReadPacketDataWithOptions()
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 && (len(opts.Comments) != 2 || len(opts.Comments[1]) != maxComment-1) {
			t.Errorf("%d comments", len(opts.Comments))
		}
	}
}

func TestWritePCAPNGFailures(t *testing.T) {
	for n := range 400 {
		if err := WritePCAPNG(&fullAfter{n}, "a target", pcapAttempts(), nil); !errors.Is(err, errFull) {
			t.Fatalf("a disk full after %d bytes: %v", n, err)
		}
	}
}

var errFull = errors.New("full")

// fullAfter takes so many bytes and no more.
type fullAfter struct{ n int }

func (w *fullAfter) Write(b []byte) (int, error) {
	if len(b) > w.n {
		n := w.n
		w.n = 0
		return n, errFull
	}
	w.n -= len(b)
	return len(b), nil
}

// TestWiresharkReads asks the program the files are for.
func TestWiresharkReads(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		if os.Getenv("TFOFLEET_REQUIRE_KERNEL") == "1" {
			t.Fatal(err)
		}
		t.Skip("no tshark on this machine")
	}
	file := filepath.Join(t.TempDir(), "attempts.pcapng")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(WritePCAPNG(f, "a target", pcapAttempts(), pcapComment), f.Close()); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tshark, "-r", file, "-T", "fields", "-E", "separator=;", "-E", "aggregator=|",
		"-e", "frame.len", "-e", "tcp.flags.syn", "-e", "tcp.options.tfo.cookie", "-e", "frame.comment").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	want := []string{"44;", "52;", "372;", "64;"}
	if len(lines) != len(want) {
		t.Fatalf("tshark says:\n%s", out)
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("packet %d: %q", i, lines[i])
		}
	}
	if !strings.Contains(lines[1], "41:42:43:44") && !strings.Contains(lines[1], "41424344") {
		t.Errorf("no cookie in %q", lines[1])
	}
	if !strings.Contains(lines[0], "attempt 1: request") || !strings.Contains(lines[2], "verdict: supported") || strings.Contains(lines[3], "attempt") {
		t.Errorf("comments: %q", lines)
	}
}
