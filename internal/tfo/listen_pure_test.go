package tfo

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestParseKeys(t *testing.T) {
	const hexKey = "000102030405060708090a0b0c0d0e0f"
	k := Key{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	back := Key{0xff, 15: 1}
	for _, tt := range []struct {
		in   string
		want []Key
	}{
		{hexKey, []Key{k}},
		{strings.ToUpper(hexKey) + "\n", []Key{k}},
		{"03020100-07060504-0b0a0908-0f0e0d0c", []Key{k}},
		{hexKey + ",ff000000000000000000000000000001", []Key{k, back}},
		{hexKey + "\nff000000000000000000000000000001\n", []Key{k, back}},
		{k.String() + "," + back.String(), []Key{k, back}},
		{"", nil},
		{"\n", nil},
		{hexKey[1:], nil},
		{hexKey + "00", nil},
		{"x" + hexKey[1:], nil},
		{"0001-02030405060708090a0b0c0d0e0f", nil},
		{"03020100-07060504-0b0a0908-0f0e0d0", nil},
		{hexKey + "," + hexKey + "," + hexKey, nil},
	} {
		got, err := ParseKeys(tt.in)
		if (err == nil) != (tt.want != nil) || len(got) != len(tt.want) {
			t.Errorf("%q: %v, %v", tt.in, got, err)
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%q: key %d is %v, want %v", tt.in, i, got[i], tt.want[i])
			}
		}
		if err != nil && len(tt.in) > 8 && strings.Contains(err.Error(), tt.in[:8]) {
			t.Errorf("%q: the error repeats the key: %v", tt.in, err)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add("03020100-07060504-0b0a0908-0f0e0d0c,000102030405060708090a0b0c0d0e0f")
	f.Add("--------")
	f.Fuzz(func(t *testing.T, s string) {
		keys, err := ParseKeys(s)
		if err != nil {
			return
		}
		for _, k := range keys {
			if again, err := ParseKeys(k.String()); err != nil || len(again) != 1 || again[0] != k {
				t.Fatalf("%v read again is %v, %v", k, again, err)
			}
		}
	})
}

// What older kernels, which have no TFO_CHILD bit, still tell.
func TestChildMade(t *testing.T) {
	tells := kernelTellsChild
	defer func() { kernelTellsChild = tells }()
	const established = 1
	for _, tt := range []struct {
		name     string
		options  uint8
		state    uint8
		claim    CookieClaim
		syn      int
		old, now Tri
	}{
		{"the kernel's own word", OptTFOChild, established, ClaimRequest, 0, Yes, Yes},
		{"SYN data", OptSynData, established, ClaimValid, 5, Yes, Yes},
		{"accepted before its handshake", 0, stateSynRecv, ClaimValid, 0, Yes, Yes},
		{"data refused", 0, established, ClaimValid, 5, No, No},
		{"no option", 0, established, ClaimNone, 0, No, No},
		{"a cookie of no length", 0, established, ClaimMalformed, 0, No, No},
		{"a cookie without data", 0, established, ClaimValid, 0, NotTried, No},
		{"a request", 0, established, ClaimRequest, 0, NotTried, No},
		{"no SYN kept", 0, established, ClaimUnseen, NotKnown, NotTried, No},
	} {
		info := info280(func(b []byte) { b[offOptions], b[offState] = tt.options, tt.state })
		for _, kernelTellsChild = range []bool{false, true} {
			want := tt.old
			if kernelTellsChild {
				want = tt.now
			}
			if got := childMade(info, tt.claim, tt.syn); got != want {
				t.Errorf("%s, a kernel that tells %v: %v, want %v", tt.name, kernelTellsChild, got, want)
			}
		}
	}
	if got := childMade(nil, ClaimNone, 0); got != NotTried {
		t.Errorf("without TCP_INFO: %v", got)
	}
}

func TestRespond(t *testing.T) {
	query := func(op dnsmessage.OpCode, response bool) []byte {
		b := dnsmessage.NewBuilder(make([]byte, 2), dnsmessage.Header{ID: 7, OpCode: op, Response: response, RecursionDesired: true})
		_ = b.StartQuestions()
		_ = b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName("example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET})
		msg, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		binary.BigEndian.PutUint16(msg, uint16(len(msg)-2))
		return msg
	}
	hello := append([]byte{22, 3, 1, 0, 10}, make([]byte, 10)...)
	for _, tt := range []struct {
		name string
		req  []byte
		want RequestKind
		says string
	}{
		{"nothing", nil, RequestNone, ""},
		{"HEAD", []byte("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"), RequestHTTP, "HTTP/1.1 200 OK\r\n"},
		{"GET", []byte("GET / HTTP/1.0\r\n\r\n"), RequestHTTP, "\r\n\r\ntfofleet listener\n"},
		{"GET by hand", []byte("GET /\n\n"), RequestHTTP, "HTTP/1.1 200 OK\r\n"},
		{"part of a method", []byte("HE"), RequestNone, ""},
		{"part of a head", []byte("HEAD / HTTP/1.1\r\nHost: h\r\n"), RequestNone, ""},
		{"a head without end", append([]byte("HEAD "), make([]byte, requestLimit)...), RequestHTTP, "HTTP/1.1 200 OK\r\n"},
		{"another method", []byte("POST / HTTP/1.1\r\n"), RequestOther, "tfofleet listener\n"},
		{"ClientHello", hello, RequestTLS, "\x15\x03\x03\x00\x02\x02\x28"},
		{"part of a ClientHello", hello[:14], RequestNone, ""},
		{"first byte of a ClientHello", hello[:1], RequestNone, ""},
		{"not quite TLS", []byte{22, 4}, RequestOther, "tfofleet listener\n"},
		{"DNS", query(0, false), RequestDNS, "\x00\x07\x81\x05"},
		{"part of a DNS query", query(0, false)[:20], RequestNone, ""},
		{"its first byte", query(0, false)[:1], RequestNone, ""},
		{"a DNS response", query(0, true), RequestOther, "tfofleet listener\n"},
		{"not quite DNS", []byte{0, 5, 1, 2, 3, 4, 5}, RequestOther, "tfofleet listener\n"},
		{"anything else", []byte("secret"), RequestOther, "tfofleet listener\n"},
	} {
		kind, answer := respond(tt.req)
		if kind != tt.want || (kind == RequestNone) != (answer == nil) || !bytes.Contains(answer, []byte(tt.says)) {
			t.Errorf("%s: %v, %q", tt.name, kind, answer)
		}
	}
	var p dnsmessage.Parser
	_, answer := respond(query(0, false))
	if _, err := p.Start(answer[2:]); err != nil || int(binary.BigEndian.Uint16(answer)) != len(answer)-2 {
		t.Errorf("the DNS answer %x: %v", answer, err)
	}
	if q, err := p.AllQuestions(); err != nil || len(q) != 1 || q[0].Name.String() != "example." {
		t.Errorf("the DNS answer's question: %v, %v", q, err)
	}
}

func FuzzRespond(f *testing.F) {
	f.Add([]byte("HEAD / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{22, 3, 1, 0, 1, 0})
	f.Add([]byte{0, 12, 0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, req []byte) {
		kind, answer := respond(req)
		if (kind == RequestNone) != (answer == nil) {
			t.Fatalf("%v with %q", kind, answer)
		}
		if kind == RequestNone && len(req) >= requestLimit {
			t.Fatal("waits for more of a request that is long enough")
		}
		if len(answer) > 512 {
			t.Fatalf("%d bytes of answer", len(answer))
		}
	})
}

func FuzzDecodeSYN(f *testing.F) {
	f.Add(synPacket())
	f.Add(ip(us4, them4, 6, tcpHeader(1, 2, 3, 0, flagSYN, tfo34(1, 2, 3, 4)), 24))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSYN(b)
		if err != nil {
			return
		}
		if s.Payload < 0 || s.Flags&flagSYN == 0 || !s.Src.IsValid() || !s.Dst.IsValid() {
			t.Fatalf("%+v", s)
		}
		judge(&s, []Key{{1}, {2}})
	})
}

func TestParseMIB(t *testing.T) {
	const text = "TcpExt: SyncookiesSent ListenOverflows Other TCPFastOpenActive TCPFastOpenListenOverflow\n" +
		"TcpExt: 1 2 3 4 18446744073\nIpExt: InNoRoutes\nIpExt: 5\n"
	m, err := parseMIB([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var want MIB
	for i := range want {
		want[i] = NotKnown
	}
	want[CountSyncookies], want[CountAcceptOverflow], want[CountActive], want[CountListenOverflow] = 1, 2, 4, 18446744073
	if m != want {
		t.Errorf("%v, want %v", m, want)
	}
	moved := m.Since(MIB{CountActive: 3, CountSyncookies: NotKnown})
	if moved[CountActive] != 1 || moved[CountSyncookies] != NotKnown || moved[CountPassive] != NotKnown {
		t.Errorf("moved by %v", moved)
	}
	for _, bad := range []string{"", "IpExt: A\nIpExt: 1\n", "TcpExt: ListenDrops\n", "TcpExt: A B\nTcpExt: 1\n", "TcpExt: ListenDrops\nTcpExt: -1\n", "TcpExt: ListenDrops\nTcpExt: x\n"} {
		if m, err := parseMIB([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, m)
		}
	}
}

func FuzzParseMIB(f *testing.F) {
	f.Add([]byte("TcpExt: ListenDrops TCPFastOpenPassive\nTcpExt: 1 2\n"))
	f.Add([]byte("TcpExt:\nTcpExt:"))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseMIB(text)
		for c, v := range m {
			if v < NotKnown || err != nil && v != 0 {
				t.Fatalf("%v is %d, error %v", Counter(c), v, err)
			}
		}
	})
}

// The names are stored and printed: each value has one, and no two the same.
func TestListenNames(t *testing.T) {
	seen := map[string]bool{}
	check := func(s string) {
		t.Helper()
		if s == "unknown" || seen[s] {
			t.Errorf("%q is unknown or taken", s)
		}
		seen[s] = true
	}
	for c := ClaimUnseen; c <= ClaimUnjudged; c++ {
		check("claim " + c.String())
	}
	for e := ArrivalServed; e <= ArrivalCut; e++ {
		check(e.String())
	}
	for k := RequestNone; k <= RequestOther; k++ {
		check("request " + k.String())
	}
	for k := AlarmServerOff; k <= AlarmShortage; k++ {
		check(k.String())
	}
	for c := Counter(0); int(c) < Counters; c++ {
		check(c.String())
	}
	for _, s := range []string{CookieClaim(99).String(), ArrivalEnd(99).String(), RequestKind(99).String(), AlarmKind(99).String(), Counter(99).String(), Counter(-1).String()} {
		if s != "unknown" {
			t.Errorf("a value that is none is %q", s)
		}
	}
}
