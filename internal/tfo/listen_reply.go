package tfo

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/net/dns/dnsmessage"
)

// The answers of a listener. They are small, end the exchange, and never
// repeat what the client said, but for the question of a DNS query, which its
// answer must name.
var (
	httpHead = []byte("HTTP/1.1 200 OK\r\nServer: tfofleet\r\nContent-Type: text/plain\r\nContent-Length: 18\r\nConnection: close\r\n\r\n")
	httpGet  = append(bytes.Clone(httpHead), "tfofleet listener\n"...)
	// tlsAlert is a fatal handshake_failure (RFC 8446, section 6.2).
	tlsAlert  = []byte{21, 3, 3, 0, 2, 2, 40}
	plainLine = []byte("tfofleet listener\n")
)

// requestLimit is how many bytes of a request are waited for; a longer one is
// answered as it stands.
const requestLimit = 4096

// respond answers a request. Kind is RequestNone, and the answer nil, as long
// as more must come.
func respond(req []byte) (kind RequestKind, answer []byte) {
	if len(req) == 0 {
		return RequestNone, nil
	}
	full := len(req) >= requestLimit
	switch {
	case req[0] == 22 && (len(req) < 2 || req[1] == 3): // handshake record (RFC 8446, section 5.1)
		if full || len(req) >= 5 && len(req) >= 5+int(binary.BigEndian.Uint16(req[3:])) {
			return RequestTLS, tlsAlert
		}
		return RequestNone, nil
	case req[0] <= 3: // the length before a DNS query of up to 1 kB (RFC 1035, section 4.2.2)
		if len(req) < 2 {
			return RequestNone, nil
		}
		if n := int(binary.BigEndian.Uint16(req)); n >= dnsHeaderLen {
			if len(req) < 2+n {
				return RequestNone, nil
			}
			return respondDNS(req[2 : 2+n])
		}
	case begins(req, "HEAD "), begins(req, "GET "):
		if !full && !bytes.Contains(req, []byte("\r\n\r\n")) && !bytes.Contains(req, []byte("\n\n")) {
			return RequestNone, nil
		}
		if req[0] == 'G' {
			return RequestHTTP, httpGet
		}
		return RequestHTTP, httpHead
	}
	return RequestOther, plainLine
}

// begins reports whether req begins with word, or may yet.
func begins(req []byte, word string) bool {
	n := min(len(req), len(word))
	return string(req[:n]) == word[:n]
}

const dnsHeaderLen = 12

// respondDNS refuses a query: REFUSED with its question.
func respondDNS(query []byte) (RequestKind, []byte) {
	var p dnsmessage.Parser
	head, err := p.Start(query)
	if err != nil || head.Response {
		return RequestOther, plainLine
	}
	b := dnsmessage.NewBuilder(make([]byte, 2, 64), dnsmessage.Header{
		ID: head.ID, Response: true, OpCode: head.OpCode, RecursionDesired: head.RecursionDesired, RCode: dnsmessage.RCodeRefused,
	})
	if q, err := p.Question(); err == nil {
		// Neither call can fail: one question into an empty builder.
		_ = b.StartQuestions()
		_ = b.Question(q)
	}
	msg, err := b.Finish()
	if err != nil {
		return RequestOther, plainLine
	}
	binary.BigEndian.PutUint16(msg, uint16(len(msg)-2))
	return RequestDNS, msg
}
