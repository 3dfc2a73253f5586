package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"testing"
)

func makeCSR(t testing.TB, key crypto.Signer, template *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func edKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestCSR(t *testing.T) {
	empty := &x509.CertificateRequest{}
	p256 := ecKey(t, elliptic.P256())
	for name, key := range map[string]crypto.Signer{"P-256": p256, "Ed25519": edKey(t)} {
		public, err := parseCSR(makeCSR(t, key, empty))
		if err != nil || !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(public) {
			t.Errorf("%s: %v", name, err)
		}
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := makeCSR(t, p256, empty)
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1
	for name, der := range map[string][]byte{
		"nothing":          nil,
		"a subject":        makeCSR(t, p256, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "probe"}}),
		"a URI":            makeCSR(t, p256, &x509.CertificateRequest{URIs: []*url.URL{Subject{"f", KindProbe, "p"}.uri()}}),
		"a DNS name":       makeCSR(t, p256, &x509.CertificateRequest{DNSNames: []string{"localhost"}}),
		"an address":       makeCSR(t, p256, &x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}),
		"P-384":            makeCSR(t, ecKey(t, elliptic.P384()), empty),
		"RSA":              makeCSR(t, rsaKey, empty),
		"a bad signature":  forged,
		"bytes after it":   append(bytes.Clone(good), 0),
		"half of it":       good[:len(good)/2],
		"more than enough": append(bytes.Clone(good), make([]byte, maxCSR)...),
	} {
		if _, err := parseCSR(der); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// FuzzParseCSR: whatever is taken gets a certificate that names only what the
// controller decided.
func FuzzParseCSR(f *testing.F) {
	f.Add(makeCSR(f, ecKey(f, elliptic.P256()), &x509.CertificateRequest{}))
	f.Add(makeCSR(f, edKey(f), &x509.CertificateRequest{}))
	f.Add(makeCSR(f, edKey(f), &x509.CertificateRequest{DNSNames: []string{"x"}, Subject: pkix.Name{CommonName: "x"}}))
	f.Add([]byte{0x30, 0x80})
	ca := openCA(f)
	f.Fuzz(func(t *testing.T, der []byte) {
		public, err := parseCSR(der)
		if err != nil {
			return
		}
		cert, err := ca.now().issue(KindProbe, "name", public, fuzzTime, ProbeLife)
		if err != nil {
			t.Fatal(err)
		}
		h, d := ca.now().verify([]*x509.Certificate{cert})
		if d != nil || h.subject != (Subject{ca.Fleet(), KindProbe, "name"}) || len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.EmailAddresses) > 0 || cert.IsCA {
			t.Errorf("%v, %v", h.subject, d)
		}
	})
}
