package identity

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
)

// maxCSR is ten times what a CSR for a P-256 key needs.
const maxCSR = 4096

// newCSR asks for a certificate for the key. It names nobody.
func newCSR(k privateKey) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k.reveal())
}

// emptyName is the DER of a name without parts.
var emptyName = []byte{0x30, 0}

// parseCSR returns the key that the CSR is for, proven by its signature.
// A CSR that names somebody is refused, not read selectively: what is asked for
// in it would not be granted.
func parseCSR(der []byte) (crypto.PublicKey, error) {
	if len(der) > maxCSR {
		return nil, fmt.Errorf("%d bytes, more than %d", len(der), maxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(csr.RawSubject, emptyName) || len(csr.Extensions) != 0 {
		return nil, errors.New("it names somebody; the controller decides the name")
	}
	if err := supported(csr.PublicKey); err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, err
	}
	return csr.PublicKey, nil
}
