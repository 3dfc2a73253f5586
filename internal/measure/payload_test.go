package measure

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

var web = Target{Addr: netip.MustParseAddr("192.0.2.1"), Port: 80, Hostname: "www.example.com"}

func on(port uint16) Target { t := web; t.Port = port; return t }

// TestPayloadsAreWhatTheyClaim parses every payload, bare and padded, with a
// parser that is not ours.
func TestPayloadsAreWhatTheyClaim(t *testing.T) {
	for _, n := range []int{0, 300, 512, MaxSized} {
		for _, tt := range []struct {
			target Target
			parse  func([]byte) error
		}{{on(80), parseHTTP}, {on(8080), parseHTTP}, {on(443), parseTLS}, {on(53), parseDNS}} {
			p := PayloadFor(PayloadAuto, nil, tt.target)
			if len(p.Bytes) > MaxPayload {
				t.Errorf("port %d: %d bytes are too many for a SYN", tt.target.Port, len(p.Bytes))
			}
			p = p.Padded(n)
			if len(p.Bytes) < n {
				t.Errorf("port %d: padded to %d bytes, want %d", tt.target.Port, len(p.Bytes), n)
			}
			if err := tt.parse(p.Bytes); err != nil {
				t.Errorf("port %d, %d bytes: %v", tt.target.Port, len(p.Bytes), err)
			}
		}
	}
}

func parseHTTP(b []byte) error {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if err == nil && (r.Method != http.MethodHead || r.UserAgent() != UserAgent || !strings.HasPrefix(r.Host, "www.example.com")) {
		return http.ErrNotSupported
	}
	return err
}

// parseTLS gives the hello to crypto/tls as a server and wants it understood.
func parseTLS(b []byte) error {
	client, server := net.Pipe()
	defer client.Close()
	understood := make(chan string, 1)
	srv := tls.Server(server, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		understood <- h.ServerName
		return nil, http.ErrAbortHandler
	}})
	go func() { client.Write(b); bufio.NewReader(client).ReadByte(); client.Close() }()
	server.SetDeadline(time.Now().Add(5 * time.Second))
	err := srv.Handshake()
	select {
	case name := <-understood:
		if name == web.Hostname {
			return nil
		}
	default:
	}
	return err
}

func parseDNS(b []byte) error {
	for len(b) > 0 {
		n := 2 + int(b[0])<<8 + int(b[1])
		var m dnsmessage.Message
		if err := m.Unpack(b[2:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// TestComplete cuts a whole response short at every byte.
func TestComplete(t *testing.T) {
	for _, tt := range []struct {
		port  uint16
		whole string
	}{
		{80, "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"},
		{443, "\x15\x03\x03\x00\x02\x02\x28"},
		{53, "\x00\x03abc"},
	} {
		p := PayloadFor(PayloadAuto, nil, on(tt.port))
		for n := range len(tt.whole) {
			if p.Complete([]byte(tt.whole[:n])) {
				t.Errorf("port %d: complete after %d of %d bytes", tt.port, n, len(tt.whole))
			}
		}
		if !p.Complete([]byte(tt.whole)) {
			t.Errorf("port %d: a whole response is not complete", tt.port)
		}
	}
}

func TestLoadPayload(t *testing.T) {
	file := func(name string, n int) string {
		p := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(p, bytes.Repeat([]byte("x"), n), 0o600); err != nil {
			t.Fatal(err)
		}
		return "file:" + p
	}
	for s, want := range map[string]PayloadKind{"auto": PayloadAuto, "http": PayloadHTTP, "tls": PayloadTLS, "dns": PayloadDNS, "none": PayloadNone, file("full", MaxPayload): PayloadBytes} {
		if kind, b, err := LoadPayload(s); err != nil || kind != want || (kind == PayloadBytes) != (len(b) == MaxPayload) {
			t.Errorf("%s: %v, %d bytes, %v", s, kind, len(b), err)
		}
	}
	for _, s := range []string{"", "ftp", "file:", "file:/nonexistent", file("empty", 0), file("large", MaxPayload+1)} {
		if kind, _, err := LoadPayload(s); err == nil {
			t.Errorf("%q passed as %v", s, kind)
		}
	}
}

func TestLongHostNamesStillFit(t *testing.T) {
	long := on(443)
	long.Hostname = strings.Repeat(strings.Repeat("a", 60)+".", 4) + "example"
	if n := len(PayloadFor(PayloadAuto, nil, long).Bytes); n > MaxPayload || n == 0 {
		t.Errorf("%d bytes", n)
	}
}

func FuzzComplete(f *testing.F) {
	f.Add([]byte("\x16\x03\x01\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, port := range []uint16{53, 80, 443} {
			PayloadFor(PayloadAuto, nil, on(port)).Complete(b)
		}
	})
}
