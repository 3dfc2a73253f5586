package measure

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// MaxPayload is the largest payload in bytes: what fits into a SYN on every
// path beside the largest cookie.
const MaxPayload = 500

// PayloadKind names the bytes offered to a target. The values are append-only.
type PayloadKind uint8

const (
	PayloadAuto  PayloadKind = 1 // by port: 443, 853, 8443 TLS; 53 DNS; everything else HTTP
	PayloadHTTP  PayloadKind = 2 // HEAD /, with a User-Agent that names the study
	PayloadTLS   PayloadKind = 3 // a ClientHello, with the host name if there is one
	PayloadDNS   PayloadKind = 4 // a query for the root's name servers
	PayloadBytes PayloadKind = 5 // bytes the operator gave
	PayloadNone  PayloadKind = 6 // nothing: tests cookies only
)

// LoadPayload understands what people write for a payload: auto, http, tls,
// dns, none, or file:PATH, which is read.
func LoadPayload(s string) (PayloadKind, []byte, error) {
	path, isFile := strings.CutPrefix(s, "file:")
	if !isFile {
		kind, ok := map[string]PayloadKind{"auto": PayloadAuto, "http": PayloadHTTP, "tls": PayloadTLS, "dns": PayloadDNS, "none": PayloadNone}[s]
		if !ok {
			return 0, nil, fmt.Errorf("unknown payload %q: want auto, http, tls, dns, file:PATH or none", s)
		}
		return kind, nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxPayload+1))
	switch {
	case err != nil:
		return 0, nil, err
	case len(b) == 0:
		return 0, nil, fmt.Errorf("the payload file %s is empty: for no payload use none", path)
	case len(b) > MaxPayload:
		return 0, nil, fmt.Errorf("the payload file %s holds more than %d bytes, the most that fits into a SYN on every path", path, MaxPayload)
	}
	return PayloadBytes, b, nil
}

// Payload is what an attempt offers and how to tell that the response to it is
// complete. Every payload is idempotent: a SYN may arrive twice (RFC 7413,
// section 2.1).
type Payload struct {
	Bytes    []byte
	Complete func(response []byte) bool // nil: any byte will do

	pad func(n int) []byte // the payload made at least n bytes long; nil: cannot
}

// Padded is the payload made at least n bytes long where its protocol allows,
// and as it is where not.
func (p Payload) Padded(n int) Payload {
	if len(p.Bytes) < n && p.pad != nil {
		p.Bytes = p.pad(n)
	}
	return p
}

// UserAgent names the study in every HTTP payload.
const UserAgent = "tfofleet/1 (TCP Fast Open measurement)"

// PayloadFor makes the payload for a target.
func PayloadFor(kind PayloadKind, given []byte, t Target) Payload {
	return payloadFor(kind, given, t, nil)
}

// TaggedPayload is PayloadFor with the tag of an attempt in it, for a listener
// of our own. Bytes the operator gave have no room for one.
func TaggedPayload(kind PayloadKind, given []byte, t Target, tag Tag) Payload {
	return payloadFor(kind, given, t, &tag)
}

func payloadFor(kind PayloadKind, given []byte, t Target, tag *Tag) Payload {
	if kind == PayloadAuto {
		switch t.Port {
		case 443, 853, 8443:
			kind = PayloadTLS
		case 53:
			kind = PayloadDNS
		default:
			kind = PayloadHTTP
		}
	}
	switch kind {
	case PayloadHTTP:
		return httpPayload(t, tag.path())
	case PayloadTLS:
		hello := tag.stamp(clientHello(t.Hostname))
		return Payload{hello, tlsComplete, func(n int) []byte { return padHello(hello, n) }}
	case PayloadDNS:
		// Several queries on one connection are several times the same query
		// (RFC 7766, section 6.2.1).
		query := rootQuery
		if tag != nil {
			query = dnsQuery(tag.name())
		}
		return Payload{query, dnsComplete, func(n int) []byte { return bytes.Repeat(query, (n+len(query)-1)/len(query)) }}
	case PayloadBytes:
		return Payload{Bytes: given}
	}
	return Payload{}
}

func httpPayload(t Target, path string) Payload {
	host := t.Hostname
	if host == "" {
		host = t.Addr.String()
		if t.Addr.Is6() {
			host = "[" + host + "]"
		}
	}
	if t.Port != 80 && t.Port != 443 {
		host = fmt.Sprintf("%s:%d", host, t.Port)
	}
	head := func(pad int) []byte {
		b := fmt.Appendf(nil, "HEAD %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\n", path, host, UserAgent)
		if pad > 0 {
			b = fmt.Appendf(b, "X-Padding: %s\r\n", strings.Repeat("-", pad))
		}
		return append(b, "Connection: close\r\n\r\n"...)
	}
	bare := head(0)
	return Payload{bare,
		func(b []byte) bool { return bytes.Contains(b, []byte("\r\n\r\n")) },
		func(n int) []byte { return head(n - len(bare)) },
	}
}

// padHello lengthens a ClientHello record to n bytes with the padding extension
// (RFC 7685), which must then be the last.
func padHello(hello []byte, n int) []byte {
	extra := n - len(hello)
	const header = 4 // type and length of an extension
	if extra < header {
		extra = header
	}
	b := append(bytes.Clone(hello), 0, 21, byte((extra-header)>>8), byte(extra-header))
	b = append(b, make([]byte, extra-header)...)
	// Record, handshake message and extension block each have a length. The
	// extension block ends the message (RFC 8446, section 4.1.2).
	ext := extensionsOffset(hello)
	binary.BigEndian.PutUint16(b[3:], binary.BigEndian.Uint16(b[3:])+uint16(extra))
	binary.BigEndian.PutUint16(b[7:], binary.BigEndian.Uint16(b[7:])+uint16(extra))
	binary.BigEndian.PutUint16(b[ext:], binary.BigEndian.Uint16(b[ext:])+uint16(extra))
	return b
}

// extensionsOffset is where the length of the extension block stands in a
// ClientHello record that crypto/tls wrote.
func extensionsOffset(hello []byte) int {
	off := 5 + 4 + 2 + 32 // record, handshake header, version, random
	off += 1 + int(hello[off])
	off += 2 + int(binary.BigEndian.Uint16(hello[off:]))
	return off + 1 + int(hello[off])
}

// tlsComplete wants one whole TLS record (RFC 8446, section 5.1).
func tlsComplete(b []byte) bool {
	return len(b) >= 5 && len(b) >= 5+int(binary.BigEndian.Uint16(b[3:]))
}

// dnsComplete wants one whole message over TCP (RFC 1035, section 4.2.2).
func dnsComplete(b []byte) bool {
	return len(b) >= 2 && len(b) >= 2+int(binary.BigEndian.Uint16(b))
}

var rootQuery = dnsQuery(".")

// dnsQuery asks for the name servers of a name that is one.
func dnsQuery(name string) []byte {
	b := dnsmessage.NewBuilder(make([]byte, 2, 64), dnsmessage.Header{ID: 0x7413})
	err := errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{
		Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeNS, Class: dnsmessage.ClassINET,
	}))
	msg, err2 := b.Finish()
	if err := errors.Join(err, err2); err != nil {
		panic(err) // a message of ours
	}
	binary.BigEndian.PutUint16(msg, uint16(len(msg)-2))
	return msg
}

// anonymousHello is shared by all targets without a host name: making one costs
// a key pair.
var anonymousHello = sync.OnceValue(func() []byte { return makeHello("") })

func clientHello(host string) []byte {
	if host == "" {
		return anonymousHello()
	}
	if b := makeHello(host); len(b) <= MaxPayload {
		return b
	}
	return anonymousHello()
}

// makeHello lets crypto/tls write a ClientHello. The hybrid key exchange is
// left out: its share alone is larger than a SYN's payload.
func makeHello(host string) []byte {
	var rec recorder
	cfg := &tls.Config{
		ServerName: host, InsecureSkipVerify: true, //nolint:gosec // nothing is ever sent after the hello
		CurvePreferences: []tls.CurveID{tls.X25519},
		NextProtos:       []string{"h2", "http/1.1"},
	}
	_ = tls.Client(&rec, cfg).HandshakeContext(context.Background()) // fails by design: the recorder never answers
	return rec.Bytes()
}

// recorder is a connection that takes what is written and answers nothing.
type recorder struct{ bytes.Buffer }

func (*recorder) Read([]byte) (int, error)         { return 0, net.ErrClosed }
func (*recorder) Close() error                     { return nil }
func (*recorder) LocalAddr() net.Addr              { return net.TCPAddrFromAddrPort(netip.AddrPort{}) }
func (*recorder) RemoteAddr() net.Addr             { return net.TCPAddrFromAddrPort(netip.AddrPort{}) }
func (*recorder) SetDeadline(time.Time) error      { return nil }
func (*recorder) SetReadDeadline(time.Time) error  { return nil }
func (*recorder) SetWriteDeadline(time.Time) error { return nil }

// Write keeps the ClientHello only, not the alert that follows the failure.
func (r *recorder) Write(b []byte) (int, error) {
	if r.Len() == 0 {
		r.Buffer.Write(b)
	}
	return len(b), nil
}
