package identity

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strings"
	"time"
)

// How long certificates are good for.
const (
	rootLife = 10 * 365 * 24 * time.Hour
	// ServerLife is that of a controller's certificate, which it renews by itself
	// at half of it.
	ServerLife = 30 * 24 * time.Hour
	// ProbeLife is short because a probe renews by itself: a stolen key is good
	// for a week.
	ProbeLife = 7 * 24 * time.Hour
	// OperatorLife is longer, a person has to do something about it.
	OperatorLife = 90 * 24 * time.Hour
	// backdate: a certificate is valid on machines whose clock is that far
	// behind, and after a step back of our own.
	backdate = time.Hour
)

// lower is base32 in lower case: no character that a shell, a URL or a double
// click treats specially.
var lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// random is n random bytes as a name.
func random(n int) (string, error) {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	return lower.EncodeToString(b), nil
}

func newFleet() (string, error) { return random(10) }

// newSerial is 127 random bits: nobody can guess one, or make a second one.
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return n.Add(n, big.NewInt(1)), nil // RFC 5280: positive
}

// serialOf is the serial as it is kept: hexadecimal.
func serialOf(c *x509.Certificate) string { return c.SerialNumber.Text(16) }

// newRoot makes a root and its key.
func newRoot(fleet string, now time.Time) (root, error) {
	key, err := newTLSKey()
	if err != nil {
		return root{}, err
	}
	template, err := rootTemplate(fleet, key.reveal().Public(), now)
	if err != nil {
		return root{}, err
	}
	// One more CA may stand between it and a certificate: its successor.
	template.MaxPathLen = 1
	cert, err := sign(template, template, key.reveal().Public(), key)
	return root{cert: cert, key: key}, err
}

// crossSign makes the certificate that leads from the root by to r.
func crossSign(r root, by root, now time.Time) (*x509.Certificate, error) {
	template, err := rootTemplate("", r.cert.PublicKey, now)
	if err != nil {
		return nil, err
	}
	// The same name and key: both certificates are good above the same leaves.
	template.RawSubject, template.SubjectKeyId = r.cert.RawSubject, r.cert.SubjectKeyId
	template.MaxPathLenZero = true
	template.NotAfter = by.cert.NotAfter
	return sign(template, by.cert, r.cert.PublicKey, by.key)
}

func rootTemplate(fleet string, public crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	hash, err := keyHash(public)
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial,
		// The name has the key's hash in it: roots of one fleet must differ.
		Subject:      pkix.Name{Organization: []string{scheme}, CommonName: fmt.Sprintf("%s %x", fleet, hash[:4])},
		SubjectKeyId: hash[:20],
		NotBefore:    now.Add(-24 * time.Hour), // before all it will sign, clocks of other controllers included
		NotAfter:     now.Add(rootLife),
		KeyUsage:     x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:         true, BasicConstraintsValid: true,
	}, nil
}

// issue signs a certificate for a subject. Server certificates get the names as
// well, for programs that look at nothing else; our own look at the subject.
func (s *caState) issue(kind Kind, name string, public crypto.PublicKey, now time.Time, life time.Duration, names ...string) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	notAfter := now.Add(life)
	if end := s.current.cert.NotAfter; notAfter.After(end) {
		return nil, fmt.Errorf("the CA's own certificate ends at %s: rotate it", end.Format(time.RFC3339))
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    now.Add(-backdate),
		NotAfter:     notAfter,
		URIs:         []*url.URL{Subject{s.fleet, kind, name}.uri()},
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	if kind == KindOperator {
		// For the person whom a browser asks which certificate to show.
		template.Subject = pkix.Name{CommonName: name}
	}
	if kind == KindController {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	for _, n := range names {
		if ip := net.ParseIP(strings.Trim(n, "[]")); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	return sign(template, s.current.cert, public, s.current.key)
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key privateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key.reveal())
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// tokenHash is what is kept of a token's secret. It is 128 random bits, so
// there is nothing that a slow hash would protect.
func tokenHash(secret []byte) Hash { return sha256.Sum256(secret) }
