package identity_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"software.sslmate.com/src/go-pkcs12"
)

// TestPKCS12: what a browser imports is the operator's key, certificate and
// roots, to nobody without the password.
func TestPKCS12(t *testing.T) {
	c := newController(t)
	path := filepath.Join(t.TempDir(), "keys", "anna.p12")
	password, err := c.operator("anna").SavePKCS12(path)
	ok(t, err)
	info, err := os.Stat(path)
	ok(t, err)
	if info.Mode().Perm() != 0o600 || len(password) < 20 {
		t.Errorf("mode %04o, password %q", info.Mode().Perm(), password)
	}
	data, err := os.ReadFile(path)
	ok(t, err)
	key, cert, roots, err := pkcs12.DecodeChain(data, password)
	ok(t, err)
	if k, isEC := key.(*ecdsa.PrivateKey); !isEC || !k.PublicKey.Equal(cert.PublicKey) {
		t.Error("the key is not the certificate's")
	}
	if cert.Subject.CommonName != "anna" || cert.URIs[0].String() != "tfofleet://"+c.ca.Fleet()+"/operator/anna" {
		t.Errorf("it is of %v, %v", cert.Subject, cert.URIs)
	}
	if len(roots) != 1 || string(roots[0].Raw) != string(c.ca.Bundle()[0]) {
		t.Errorf("%d roots", len(roots))
	}
	name, err := command(dial(t, c.address, bare(&tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key})))
	if err != nil || name != "anna" {
		t.Errorf("it lets in %q, %v", name, err)
	}
	if _, _, _, err := pkcs12.DecodeChain(data, ""); !errors.Is(err, pkcs12.ErrIncorrectPassword) {
		t.Errorf("without the password: %v", err)
	}
	if _, err := c.operator("anna").SavePKCS12(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file that is there: %v", err)
	}
	if other, err := c.operator("anna").SavePKCS12(path + "2"); err != nil || other == password {
		t.Errorf("a second file has the same password: %v", err)
	}
}
