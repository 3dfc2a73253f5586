package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
)

// Hash is a SHA-256. Of a key it is that of the SubjectPublicKeyInfo, the pin
// of RFC 7469 section 2.4.
type Hash [sha256.Size]byte

// privateKey hides a key as Secret hides bytes.
type privateKey struct{ reveal func() crypto.Signer }

func hide(k crypto.Signer) privateKey { return privateKey{func() crypto.Signer { return k }} }

// newTLSKey makes a key for a certificate.
func newTLSKey() (privateKey, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return privateKey{}, err
	}
	return hide(k), nil
}

// newIdentityKey makes the key that a probe keeps for life. It is no TLS key,
// so that a signature made for one can never pass for the other.
func newIdentityKey() (privateKey, error) {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return privateKey{}, err
	}
	return hide(k), nil
}

// keyHash is the hash of a public key that x509 can encode.
func keyHash(public crypto.PublicKey) (Hash, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return Hash{}, err
	}
	return sha256.Sum256(der), nil
}

// supported says whether a certificate may be given to the key. One list, so
// that no weak kind gets in by the choice of who asks.
func supported(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	}
	return errors.New("the key is neither P-256 nor Ed25519")
}

func (k privateKey) pem() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.reveal())
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// parsePEM returns the only block of the text, which must be of the type.
func parsePEM(text []byte, kind string) ([]byte, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != kind || len(rest) != 0 {
		return nil, errors.New("not one " + kind + " in PEM")
	}
	return block.Bytes, nil
}

func parseKeyPEM(text []byte) (privateKey, error) {
	der, err := parsePEM(text, "PRIVATE KEY")
	if err != nil {
		return privateKey{}, err
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		// The text of the error is about the structure only.
		return privateKey{}, err
	}
	signer, ok := k.(crypto.Signer)
	if !ok {
		return privateKey{}, errors.New("the key cannot sign")
	}
	if err := supported(signer.Public()); err != nil {
		return privateKey{}, err
	}
	return hide(signer), nil
}

func parseCertPEM(text []byte) (*x509.Certificate, error) {
	der, err := parsePEM(text, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
