package identity

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "tfofleet/proto/tfofleet/v1"
)

var fuzzTime = time.Date(2026, 11, 20, 22, 0, 0, 0, time.UTC)

// FuzzVerify: no bytes of a client become somebody whom this CA did not make.
func FuzzVerify(f *testing.F) {
	ca, err := OpenCA(f.TempDir(), fuzzTime)
	if err != nil {
		f.Fatal(err)
	}
	issue := func(kind Kind, names ...string) []byte {
		c, err := ca.issue(kind, "x", edKey(f).Public(), fuzzTime, ProbeLife, names...)
		if err != nil {
			f.Fatal(err)
		}
		return c.Raw
	}
	genuine := [][]byte{issue(KindProbe), issue(KindOperator), issue(KindController, "localhost")}
	for _, der := range genuine {
		f.Add(der)
	}
	f.Add(ca.Bundle()[0])
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		h, d := ca.now().verify([]*x509.Certificate{c})
		if d == nil && !bytes.Equal(der, genuine[0]) && !bytes.Equal(der, genuine[1]) {
			t.Errorf("%v was verified", h.subject)
		}
		// As a controller's, to a probe.
		if err := verifyController([]*x509.Certificate{c}, "", ca.now().trusted(), fuzzTime); err == nil && !bytes.Equal(der, genuine[2]) {
			t.Error("it was verified as a controller's")
		}
	})
}

// FuzzIssued: no answer of a controller breaks a probe, or is kept in a form
// that cannot be read again.
func FuzzIssued(f *testing.F) {
	ca, err := OpenCA(f.TempDir(), fuzzTime)
	if err != nil {
		f.Fatal(err)
	}
	key := hide(edKey(f))
	cert, err := ca.issue(KindProbe, "x", key.reveal().Public(), fuzzTime, ProbeLife)
	if err != nil {
		f.Fatal(err)
	}
	good, err := proto.Marshal(&pb.IssuedCertificate{Certificate: cert.Raw, Bundle: ca.Bundle(), ValidFor: durationpb.New(ProbeLife)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	path := filepath.Join(f.TempDir(), "credential.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		issued := new(pb.IssuedCertificate)
		if proto.Unmarshal(data, issued) != nil {
			return
		}
		p := &Probe{cfg: ProbeConfig{Now: func() time.Time { return fuzzTime }}, next: &key}
		c, err := p.accept(issued, []string{"a:1"})
		if err != nil {
			return
		}
		if err := c.Save(path); err != nil {
			t.Fatal(err)
		}
		again, err := LoadCredential(path)
		if err != nil || again.subject != c.subject || !again.renew.Equal(c.renew) || len(again.bundle) != len(c.bundle) {
			t.Errorf("%v: %v", again, err)
		}
	})
}

// FuzzCAFile: a file is read as what it says, or not at all.
func FuzzCAFile(f *testing.F) {
	ca, err := OpenCA(f.TempDir(), fuzzTime)
	if err != nil {
		f.Fatal(err)
	}
	for range 3 {
		data, err := os.ReadFile(ca.path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		if err := ca.Advance(fuzzTime, true); err != nil {
			f.Fatal(err)
		}
	}
	f.Add([]byte(`{"format":1,"current":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseCA(data)
		if err != nil {
			return
		}
		written, err := s.marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseCA(written)
		if err != nil || again.fleet != s.fleet || again.stage != s.stage || pinOf(again.current.cert) != pinOf(s.current.cert) {
			t.Errorf("%v", err)
		}
		if len(s.trusted()) == 0 || len(s.chain()) == 0 {
			t.Error("there is no root")
		}
	})
}

// FuzzCredentialFile: the same for a probe's or an operator's file.
func FuzzCredentialFile(f *testing.F) {
	ca, err := OpenCA(f.TempDir(), fuzzTime)
	if err != nil {
		f.Fatal(err)
	}
	key := hide(edKey(f))
	cert, err := ca.issue(KindOperator, "x", key.reveal().Public(), fuzzTime, ProbeLife)
	if err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(f.TempDir(), "credential.json")
	c := &Credential{addresses: []string{"a:1"}, cert: cert, key: key, bundle: ca.now().trusted()}
	if err := c.Save(path); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseCredential(data)
		if err != nil {
			return
		}
		if err := c.Save(path); err != nil {
			t.Fatal(err)
		}
		if again, err := LoadCredential(path); err != nil || again.subject != c.subject {
			t.Errorf("%v", err)
		}
	})
}
