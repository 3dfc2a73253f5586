package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"google.golang.org/grpc/credentials"
)

// Credential is what a probe or an operator needs to call a controller: where it
// is, whom to trust, certificate and key. It never changes.
type Credential struct {
	addresses []string
	subject   Subject
	cert      *x509.Certificate
	key       privateKey
	bundle    []*x509.Certificate
	// received and renew are by the clock of this machine, which may be wrong:
	// it is only compared with itself.
	received, renew time.Time
}

// Subject is who the credential is for.
func (c *Credential) Subject() Subject { return c.subject }

// Addresses of controllers, host:port.
func (c *Credential) Addresses() []string { return c.addresses }

// TLS is the configuration for a connection to a controller. Now is the clock,
// nil means time.Now.
func (c *Credential) TLS(now func() time.Time) *tls.Config {
	if now == nil {
		now = time.Now
	}
	return dynamicTLS(func() *Credential { return c }, now)
}

// Transport is TLS for gRPC.
func (c *Credential) Transport(now func() time.Time) credentials.TransportCredentials {
	return credentials.NewTLS(c.TLS(now))
}

// dynamicTLS asks for the credential at every handshake: a renewed one is used
// for the next connection.
func dynamicTLS(current func() *Credential, now func() time.Time) *tls.Config {
	t := clientTLS(func(certs []*x509.Certificate) error {
		c := current()
		return verifyController(certs, c.subject.Fleet, c.bundle, now())
	})
	t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		c := current()
		return &tls.Certificate{Certificate: [][]byte{c.cert.Raw}, PrivateKey: c.key.reveal(), Leaf: c.cert}, nil
	}
	return t
}

// credentialJSON is the file: one, so that certificate, key and bundle are
// always of each other.
type credentialJSON struct {
	header
	Addresses   []string  `json:"addresses"`
	Certificate string    `json:"certificate"` // PEM
	Key         string    `json:"key"`         // PKCS #8, PEM
	Bundle      []string  `json:"bundle"`      // PEM
	Received    time.Time `json:"received"`
	Renew       time.Time `json:"renew"`
}

// Save writes the credential to a file.
func (c *Credential) Save(path string) error {
	data, err := c.marshal()
	if err != nil {
		return err
	}
	return replacePrivate(path, data)
}

func (c *Credential) marshal() ([]byte, error) {
	key, err := c.key.pem()
	if err != nil {
		return nil, err
	}
	f := credentialJSON{
		Addresses: c.addresses, Certificate: string(certPEM(c.cert)), Key: string(key),
		Received: c.received, Renew: c.renew,
	}
	for _, b := range c.bundle {
		f.Bundle = append(f.Bundle, string(certPEM(b)))
	}
	return encodeFile(&f)
}

// LoadCredential reads a credential from a file. It is fs.ErrNotExist when there
// is none.
func LoadCredential(path string) (*Credential, error) {
	data, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	c, err := parseCredential(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func parseCredential(data []byte) (*Credential, error) {
	var f credentialJSON
	if err := decodeFile(data, &f); err != nil {
		return nil, err
	}
	c := &Credential{addresses: f.Addresses, received: f.Received, renew: f.Renew}
	var err error
	if err := CheckAddresses(f.Addresses); err != nil {
		return nil, err
	}
	if c.cert, err = parseCertPEM([]byte(f.Certificate)); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if c.key, err = parseKeyPEM([]byte(f.Key)); err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	for _, b := range f.Bundle {
		root, err := parseCertPEM([]byte(b))
		if err != nil {
			return nil, fmt.Errorf("bundle: %w", err)
		}
		c.bundle = append(c.bundle, root)
	}
	return c, c.check()
}

// check is that the parts are of each other.
func (c *Credential) check() (err error) {
	if c.subject, err = subjectOf(c.cert); err != nil {
		return err
	}
	hash, err := keyHash(c.key.reveal().Public())
	if err != nil {
		return err
	}
	if hash != pinOf(c.cert) {
		return errors.New("the key is not the certificate's")
	}
	if len(c.bundle) == 0 {
		return errors.New("there is no CA certificate")
	}
	return nil
}

func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
