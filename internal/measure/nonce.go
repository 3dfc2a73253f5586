package measure

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Nonce names one measurement at both of its ends: it travels in the payload,
// where no translation of addresses or ports reaches it. The zero Nonce names
// none.
type Nonce [16]byte

// NewNonce makes a nonce that nobody can guess.
func NewNonce() (n Nonce) {
	_, _ = rand.Read(n[:]) // never fails
	return n
}

func (n Nonce) String() string { return hex.EncodeToString(n[:]) }

// ParseNonce is the inverse of String.
func ParseNonce(s string) (n Nonce, err error) {
	if len(s) != hex.EncodedLen(len(n)) {
		return n, errors.New("a nonce is 32 hexadecimal digits")
	}
	_, err = hex.Decode(n[:], []byte(s))
	return n, err
}

// Tag names one attempt of a measurement.
type Tag struct {
	Nonce   Nonce
	Attempt int // counted from 0, as in Measurement.Attempts
}

// Where a tag stands: in the path of an HTTP request, in the session id of a
// ClientHello (which a server repeats and nobody interprets, RFC 8446, section
// 4.1.2), in the name a DNS query asks for.
const (
	tagPath    = "/tfofleet/"
	tagSession = "tfofleet"
	tagDomain  = ".tfofleet."

	helloSession = 5 + 4 + 2 + 32 // offset of the session id's length in a ClientHello record
	sessionLen   = 32
)

// path is the path of an HTTP request; "/" without a tag.
func (t *Tag) path() string {
	if t == nil {
		return "/"
	}
	return fmt.Sprintf("%s%v/%d", tagPath, t.Nonce, t.Attempt)
}

// name is the name of a DNS query.
func (t *Tag) name() string { return fmt.Sprintf("%d.%v%s", t.Attempt, t.Nonce, tagDomain) }

// stamp is a ClientHello with the tag in it; the same one without a tag.
func (t *Tag) stamp(hello []byte) []byte {
	if t == nil || len(hello) <= helloSession+sessionLen || hello[helloSession] != sessionLen {
		return hello
	}
	hello = bytes.Clone(hello)
	id := hello[helloSession+1:]
	copy(id, t.Nonce[:])
	copy(id[len(t.Nonce):], tagSession)
	binary.BigEndian.PutUint64(id[sessionLen-8:], uint64(t.Attempt))
	return hello
}

// maxTag bounds the number of an attempt; no measurement has so many.
const maxTag = 999

// TagOf finds the tag in what a listener heard. It takes any bytes whatever; of
// a request that was cut off it may find none.
func TagOf(request []byte) (Tag, bool) {
	switch {
	case len(request) > helloSession+sessionLen && request[0] == 22:
		return tagOfHello(request)
	case bytes.Contains(request, []byte(tagPath)):
		return tagOfHTTP(request)
	case len(request) > 2 && request[0] <= 3:
		return tagOfDNS(request[2:])
	}
	return Tag{}, false
}

func tagOfHello(b []byte) (t Tag, ok bool) {
	id := b[helloSession+1 : helloSession+1+sessionLen]
	n := binary.BigEndian.Uint64(id[sessionLen-8:])
	if b[helloSession] != sessionLen || string(id[16:24]) != tagSession || n > maxTag {
		return t, false
	}
	return Tag{Nonce(id[:16]), int(n)}, true
}

// tagOfHTTP reads "/tfofleet/<nonce>/<attempt> ". A proxy may have put the
// scheme and the host before it (RFC 9112, section 3.2.2).
func tagOfHTTP(b []byte) (Tag, bool) {
	line, _, _ := bytes.Cut(b, []byte("\r\n"))
	_, rest, ok := strings.Cut(string(line), tagPath)
	if !ok {
		return Tag{}, false
	}
	nonce, rest, _ := strings.Cut(rest, "/")
	attempt, _, ended := strings.Cut(rest, " ")
	return makeTag(nonce, attempt, ended)
}

func tagOfDNS(msg []byte) (Tag, bool) {
	var p dnsmessage.Parser
	if _, err := p.Start(msg); err != nil {
		return Tag{}, false
	}
	q, err := p.Question()
	if err != nil {
		return Tag{}, false
	}
	// Resolvers on the way may change the case of letters.
	name, ok := strings.CutSuffix(strings.ToLower(q.Name.String()), tagDomain)
	attempt, nonce, _ := strings.Cut(name, ".")
	return makeTag(nonce, attempt, ok)
}

func makeTag(nonce, attempt string, ok bool) (Tag, bool) {
	n, err := ParseNonce(nonce)
	i, err2 := strconv.ParseUint(attempt, 10, 16)
	if !ok || err != nil || err2 != nil || i > maxTag || strconv.FormatUint(i, 10) != attempt {
		return Tag{}, false
	}
	return Tag{n, int(i)}, true
}
