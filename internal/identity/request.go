package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	pb "tfofleet/proto/tfofleet/v1"
)

// Request is a new key that is to get a certificate. The key never leaves the
// machine; the CSR does.
type Request struct{ key privateKey }

// NewRequest makes a key.
func NewRequest() (*Request, error) {
	k, err := newTLSKey()
	return &Request{k}, err
}

// CSR asks for a certificate for the key.
func (r *Request) CSR() ([]byte, error) { return newCSR(r.key) }

// Credential joins the key with what a controller issued for it. All is checked:
// what would not work must not replace what does. Now is the clock that renewal
// goes by.
func (r *Request) Credential(issued *pb.IssuedCertificate, addresses []string, now time.Time) (*Credential, error) {
	cert, err := x509.ParseCertificate(issued.GetCertificate())
	if err != nil {
		return nil, err
	}
	bundle, err := parseBundle(issued.Bundle)
	if err != nil {
		return nil, err
	}
	if err := CheckAddresses(addresses); err != nil {
		return nil, err
	}
	life := issued.ValidFor.AsDuration()
	if life <= 0 || life > rootLife {
		return nil, fmt.Errorf("a certificate that is valid for %v", life)
	}
	// Half its life, 10 % more or less: a fleet that joined at once does not
	// renew at once.
	half := time.Duration(float64(life) * (0.45 + 0.1*rand.Float64()))
	c := &Credential{addresses: addresses, cert: cert, key: r.key, bundle: bundle, received: now.UTC(), renew: now.Add(half).UTC()}
	if err := c.check(); err != nil {
		return nil, err
	}
	if _, err := cert.Verify(x509.VerifyOptions{
		Roots: poolOf(bundle), CurrentTime: cert.NotAfter, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return nil, err
	}
	return c, nil
}

// maxBundle is more roots than a rotation ever has.
const maxBundle = 8

func parseBundle(der [][]byte) ([]*x509.Certificate, error) {
	if len(der) == 0 || len(der) > maxBundle {
		return nil, fmt.Errorf("%d CA certificates", len(der))
	}
	var bundle []*x509.Certificate
	for _, d := range der {
		c, err := x509.ParseCertificate(d)
		if err != nil {
			return nil, err
		}
		if !c.IsCA {
			return nil, errors.New("a CA certificate that is none")
		}
		bundle = append(bundle, c)
	}
	return bundle, nil
}
