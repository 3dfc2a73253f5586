package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Kind says what the holder of a certificate is. The values are stored.
type Kind uint8

const (
	KindController Kind = 1
	KindProbe      Kind = 2
	KindOperator   Kind = 3
)

func (k Kind) String() string {
	switch k {
	case KindController:
		return "controller"
	case KindProbe:
		return "probe"
	case KindOperator:
		return "operator"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

const scheme = "tfofleet"

// Subject is who a certificate speaks for, its only URI:
//
//	tfofleet://<fleet>/probe/<name>
//	tfofleet://<fleet>/operator/<name>
//	tfofleet://<fleet>/controller
type Subject struct {
	Fleet string
	Kind  Kind
	Name  string // empty for controllers: they are all alike
}

func (s Subject) String() string { return s.uri().String() }

func (s Subject) uri() *url.URL {
	u := &url.URL{Scheme: scheme, Host: s.Fleet, Path: "/" + s.Kind.String()}
	if s.Kind != KindController {
		u.Path += "/" + s.Name
	}
	return u
}

// ParseSubject takes the URI only as String writes it: two spellings of one
// name would be two names somewhere.
func ParseSubject(uri string) (Subject, error) {
	bad := fmt.Errorf("%.200q is not the name of a member of a fleet", uri)
	rest, ok := strings.CutPrefix(uri, scheme+"://")
	if !ok {
		return Subject{}, bad
	}
	fleet, rest, _ := strings.Cut(rest, "/")
	kind, name, hasName := strings.Cut(rest, "/")
	s := Subject{Fleet: fleet, Name: name}
	switch kind {
	case "controller":
		s.Kind = KindController
	case "probe":
		s.Kind = KindProbe
	case "operator":
		s.Kind = KindOperator
	default:
		return Subject{}, bad
	}
	if !ValidName(fleet) || hasName == (s.Kind == KindController) || hasName && !ValidName(name) {
		return Subject{}, bad
	}
	return s, nil
}

// subjectOf is who the certificate speaks for. Nothing is said of whether it
// may, see caState.verify.
func subjectOf(c *x509.Certificate) (Subject, error) {
	if len(c.URIs) != 1 {
		return Subject{}, errors.New("the certificate does not have exactly one URI")
	}
	return ParseSubject(c.URIs[0].String())
}

// ValidName says whether s can name a probe, an operator or a fleet: a DNS
// label in lower case.
func ValidName(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
