package measure

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// TestTags: every payload with a tag is still what it claims, is no longer than
// a SYN takes, and gives its tag back, bare, padded and with the longest name.
func TestTags(t *testing.T) {
	long := on(80)
	long.Hostname = strings.Repeat(strings.Repeat("a", 62)+".", 4)[:251]
	seen := map[string]bool{}
	for _, tt := range []struct {
		target Target
		parse  func([]byte) error
	}{{on(80), parseHTTP}, {on(8080), parseHTTP}, {on(443), parseTLS}, {on(8443), parseTLS}, {on(53), parseDNS}, {long, nil}} {
		nonce := NewNonce()
		for _, attempt := range []int{0, 1, maxAttempts, maxTag} {
			tag := Tag{nonce, attempt}
			p := TaggedPayload(PayloadAuto, nil, tt.target, tag)
			if len(p.Bytes) > MaxPayload || seen[string(p.Bytes)] {
				t.Errorf("port %d: %d bytes, or twice the same", tt.target.Port, len(p.Bytes))
			}
			seen[string(p.Bytes)] = true
			for _, n := range []int{0, 400, MaxSized} {
				b := p.Padded(n).Bytes
				if got, ok := TagOf(b); !ok || got != tag {
					t.Errorf("port %d, padded to %d: tag %v, %v", tt.target.Port, n, got, ok)
				}
				if tt.parse != nil {
					if err := tt.parse(b); err != nil {
						t.Errorf("port %d, padded to %d: %v", tt.target.Port, n, err)
					}
				}
			}
		}
		if tag, ok := TagOf(PayloadFor(PayloadAuto, nil, tt.target).Bytes); ok {
			t.Errorf("port %d: a payload without a tag has %v", tt.target.Port, tag)
		}
	}
	if b := TaggedPayload(PayloadBytes, []byte("given"), web, Tag{NewNonce(), 1}).Bytes; string(b) != "given" {
		t.Errorf("the operator's bytes became %q", b)
	}
}

// A tag that was cut off is none: half a number would be another attempt's.
func TestTagCut(t *testing.T) {
	tag := Tag{NewNonce(), 17}
	for _, target := range []Target{on(80), on(443), on(53)} {
		whole := TaggedPayload(PayloadAuto, nil, target, tag).Bytes
		for n := range whole {
			if got, ok := TagOf(whole[:n]); ok && got != tag {
				t.Fatalf("port %d, %d bytes of %d: %v", target.Port, n, len(whole), got)
			}
		}
	}
}

func TestParseNonce(t *testing.T) {
	n := NewNonce()
	if got, err := ParseNonce(n.String()); err != nil || got != n {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", n.String()[1:], n.String() + "0", "x" + n.String()[1:]} {
		if _, err := ParseNonce(bad); err == nil {
			t.Errorf("%q is taken for a nonce", bad)
		}
	}
}

func FuzzTagOf(f *testing.F) {
	tag := Tag{Nonce{1, 2, 3}, 4}
	for _, port := range []uint16{80, 443, 53} {
		f.Add(TaggedPayload(PayloadAuto, nil, Target{Addr: netip.MustParseAddr("192.0.2.1"), Port: port}, tag).Bytes)
	}
	f.Add([]byte("HEAD http://h/tfofleet/00000000000000000000000000000000/07 HTTP/1.1\r\n"))
	f.Add([]byte{22, 3, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		tag, ok := TagOf(b)
		if !ok {
			return
		}
		if tag.Attempt < 0 || tag.Attempt > maxTag {
			t.Fatalf("attempt %d", tag.Attempt)
		}
		again, ok := TagOf(TaggedPayload(PayloadHTTP, nil, web, tag).Bytes)
		if !ok || again != tag {
			t.Fatalf("%v became %v", tag, again)
		}
	})
}

// A DNS name of a tag is one whatever the nonce.
func TestTagName(t *testing.T) {
	tag := Tag{Nonce(bytes.Repeat([]byte{0xff}, 16)), maxTag}
	if _, err := dnsmessage.NewName(tag.name()); err != nil {
		t.Error(err)
	}
}
