package identity

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// JoinToken is all that a probe needs to join a fleet. It prints redacted;
// Encode is what the operator is shown once.
type JoinToken struct {
	// Addresses of controllers, host:port, to be tried in this order.
	Addresses []string
	// Pin is the hash of the CA's key.
	Pin Hash
	// ID names the token in lists and to revoke it.
	ID     string
	Secret Secret
}

// The text of a token is the prefix and, in base32, the pin, the id, the
// secret, the addresses each after its length, and the beginning of the SHA-256
// of all that. A new format gets a new prefix.
const (
	tokenPrefix = "tfojoin1_"
	tokenFamily = "tfojoin"

	idSize       = 10
	secretSize   = 16
	checkSize    = 4
	maxAddress   = 255
	maxAddresses = 8
	maxTokenText = 4096
)

var errNoToken = errors.New("this is not a join token")

// Encode is the token as text, the secret included: letters, digits and one
// underscore, so that it survives a shell, a URL and a double click.
func (t JoinToken) Encode() (string, error) {
	id, err := lower.DecodeString(t.ID)
	if err != nil || len(id) != idSize || len(t.Secret.Reveal()) != secretSize {
		return "", errNoToken
	}
	if err := CheckAddresses(t.Addresses); err != nil {
		return "", err
	}
	var b bytes.Buffer
	b.Write(t.Pin[:])
	b.Write(id)
	b.Write(t.Secret.Reveal())
	for _, a := range t.Addresses {
		b.WriteByte(byte(len(a)))
		b.WriteString(a)
	}
	sum := sha256.Sum256(b.Bytes())
	b.Write(sum[:checkSize])
	return tokenPrefix + lower.EncodeToString(b.Bytes()), nil
}

// ParseJoinToken reads the text of a token. White space, as a terminal adds
// where it breaks a line, and the case of letters do not count. The errors
// never quote the text.
func ParseJoinToken(text string) (JoinToken, error) {
	if len(text) > maxTokenText {
		return JoinToken{}, errNoToken
	}
	text = strings.ToLower(strings.Join(strings.Fields(text), ""))
	body, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		if strings.HasPrefix(text, tokenFamily) {
			return JoinToken{}, errors.New("the join token is of another version of this program, or its beginning is damaged")
		}
		return JoinToken{}, errNoToken
	}
	damaged := errors.New("the join token is damaged: was all of it copied?")
	b, err := lower.DecodeString(body)
	// Bits that do not fill a byte are ignored by the decoder; here they are damage.
	if err != nil || lower.EncodeToString(b) != body || len(b) < len(Hash{})+idSize+secretSize+checkSize {
		return JoinToken{}, damaged
	}
	b, check := b[:len(b)-checkSize], b[len(b)-checkSize:]
	if sum := sha256.Sum256(b); !bytes.Equal(check, sum[:checkSize]) {
		return JoinToken{}, damaged
	}
	var t JoinToken
	b = b[copy(t.Pin[:], b):]
	t.ID, b = lower.EncodeToString(b[:idSize]), b[idSize:]
	t.Secret, b = NewSecret(bytes.Clone(b[:secretSize])), b[secretSize:]
	for len(b) > 0 {
		n := int(b[0])
		if len(b) < 1+n {
			return JoinToken{}, damaged
		}
		t.Addresses, b = append(t.Addresses, string(b[1:1+n])), b[1+n:]
	}
	if err := CheckAddresses(t.Addresses); err != nil {
		return JoinToken{}, fmt.Errorf("in the join token: %w", err)
	}
	return t, nil
}

// String is the id; it is no secret.
func (t JoinToken) String() string { return "join token " + t.ID }

// CheckAddresses says what is wrong with the addresses of controllers that a
// join token or a credential is to have.
func CheckAddresses(addresses []string) error {
	if len(addresses) == 0 || len(addresses) > maxAddresses {
		return fmt.Errorf("%d controller addresses; there must be 1 to %d", len(addresses), maxAddresses)
	}
	for _, a := range addresses {
		if err := checkAddress(a); err != nil {
			return err
		}
	}
	return nil
}

func checkAddress(a string) error {
	bad := fmt.Errorf("controller address %.80q is not host:port", a)
	host, port, err := net.SplitHostPort(a)
	if err != nil || len(a) > maxAddress || host == "" {
		return bad
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return bad
	}
	// It becomes a gRPC target, where a scheme or a path would mean something
	// else than an address.
	for _, c := range []byte(host) {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '.', c == '-', c == '_', c == ':':
		default:
			return bad
		}
	}
	return nil
}
