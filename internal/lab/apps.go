package lab

import (
	"bytes"
	"encoding/binary"
)

var (
	httpOK  = []byte("HTTP/1.1 200 OK\r\nServer: tfolab\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	httpBad = []byte("HTTP/1.1 400 Bad Request\r\nServer: tfolab\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	// tlsAlert is a fatal handshake_failure (RFC 8446, section 6).
	tlsAlert = []byte{21, 3, 3, 0, 2, 2, 40}
)

// reply is what an application says to the bytes received so far: the answer,
// the bytes still to be completed, and whether the connection is over.
func reply(app App, req []byte, names *names) (answer, rest []byte, over bool) {
	switch app {
	case HTTP:
		if bytes.Contains(req, []byte("\r\n\r\n")) {
			return httpOK, nil, true
		}
		if c := req[0]; c < 'A' || c > 'Z' {
			return httpBad, nil, true
		}
		return nil, req, false
	case TLS:
		// A handshake record says how long it is; anything else is refused at
		// once.
		if req[0] == 22 && (len(req) < 5 || len(req) < 5+int(binary.BigEndian.Uint16(req[3:]))) {
			return nil, req, false
		}
		return tlsAlert, nil, true
	case DNS:
		for len(req) >= 2 {
			n := int(binary.BigEndian.Uint16(req))
			if len(req) < 2+n {
				break
			}
			if a := names.answer(req[2 : 2+n]); a != nil {
				answer = binary.BigEndian.AppendUint16(answer, uint16(len(a)))
				answer = append(answer, a...)
			}
			req = req[2+n:]
		}
		return answer, req, false // the client closes (RFC 7766, section 6.2.3)
	case Hangup:
		return nil, nil, true
	}
	return nil, nil, false // Silent
}
