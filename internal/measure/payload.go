package measure

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
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

// Payload is what an attempt offers and how to tell that the response to it is
// complete. Every payload is idempotent: a SYN may arrive twice (RFC 7413,
// section 2.1).
type Payload struct {
	Bytes    []byte
	Complete func(response []byte) bool // nil: any byte will do
}

// UserAgent names the study in every HTTP payload.
const UserAgent = "tfofleet/1 (TCP Fast Open measurement)"

// PayloadFor makes the payload for a target.
func PayloadFor(kind PayloadKind, given []byte, t Target) Payload {
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
		return httpPayload(t)
	case PayloadTLS:
		return Payload{clientHello(t.Hostname), tlsComplete}
	case PayloadDNS:
		return Payload{dnsQuery, dnsComplete}
	case PayloadBytes:
		return Payload{Bytes: given}
	}
	return Payload{}
}

func httpPayload(t Target) Payload {
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
	return Payload{
		fmt.Appendf(nil, "HEAD / HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nConnection: close\r\n\r\n", host, UserAgent),
		func(b []byte) bool { return bytes.Contains(b, []byte("\r\n\r\n")) },
	}
}

// tlsComplete wants one whole TLS record (RFC 8446, section 5.1).
func tlsComplete(b []byte) bool {
	return len(b) >= 5 && len(b) >= 5+int(binary.BigEndian.Uint16(b[3:]))
}

// dnsComplete wants one whole message over TCP (RFC 1035, section 4.2.2).
func dnsComplete(b []byte) bool {
	return len(b) >= 2 && len(b) >= 2+int(binary.BigEndian.Uint16(b))
}

var dnsQuery = func() []byte {
	b := dnsmessage.NewBuilder(make([]byte, 2, 64), dnsmessage.Header{ID: 0x7413})
	err := errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{
		Name: dnsmessage.MustNewName("."), Type: dnsmessage.TypeNS, Class: dnsmessage.ClassINET,
	}))
	msg, err2 := b.Finish()
	if err := errors.Join(err, err2); err != nil {
		panic(err) // a constant message
	}
	binary.BigEndian.PutUint16(msg, uint16(len(msg)-2))
	return msg
}()

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
