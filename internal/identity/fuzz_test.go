package identity

import (
	"bytes"
	"crypto/x509"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "tfofleet/proto/tfofleet/v1"
)

// Whole certificates and files would keep the fuzzer busy with the DER of
// crypto/x509 and with checksums. It gets to choose what they are made of
// instead; single flipped bits are TestFlippedBits.

var fuzzTime = time.Date(2026, 11, 20, 22, 0, 0, 0, time.UTC)

func openCA(t testing.TB) *CA {
	t.Helper()
	ca, err := OpenCA(t.TempDir(), fuzzTime)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// issueAny signs whatever it is told to, as a CA must not.
func issueAny(t testing.TB, ca *CA, uri *url.URL, usage x509.ExtKeyUsage) *x509.Certificate {
	t.Helper()
	serial, err := newSerial()
	if err != nil {
		t.Fatal(err)
	}
	s := ca.now()
	c, err := sign(&x509.Certificate{
		SerialNumber: serial, NotBefore: fuzzTime, NotAfter: fuzzTime.Add(day),
		URIs: []*url.URL{uri}, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}, s.current.cert, s.current.key.reveal().Public(), s.current.key)
	if err != nil {
		return nil // x509 does not make such a certificate
	}
	return c
}

// FuzzSubjectOf: whatever URI a certificate of the CA has, it speaks for a
// member of this fleet by exactly that name, or for nobody.
func FuzzSubjectOf(f *testing.F) {
	ca := openCA(f)
	f.Add("tfofleet://another/controller", false)
	for _, rest := range []string{"/probe/fra-1", "/operator/anna", "/controller", "/../another/controller", "/probe/a/b", "/probe/%61", "@x/probe/a", ":1/probe/a", "?/probe/a", "/probe/a#"} {
		f.Add("tfofleet://FLEET"+rest, true)
		f.Add("tfofleet://FLEET"+rest, false)
	}
	f.Fuzz(func(t *testing.T, text string, client bool) {
		u, err := url.Parse(string(bytes.ReplaceAll([]byte(text), []byte("FLEET"), []byte(ca.Fleet()))))
		if err != nil {
			return
		}
		usage := x509.ExtKeyUsageServerAuth
		if client {
			usage = x509.ExtKeyUsageClientAuth
		}
		c := issueAny(t, ca, u, usage)
		if c == nil {
			return
		}
		h, d := ca.now().verify([]*x509.Certificate{c})
		switch s := h.subject; {
		case d != nil:
		case !client, s.Fleet != ca.Fleet(), s.Kind != KindProbe && s.Kind != KindOperator, !ValidName(s.Name), s.String() != u.String():
			t.Errorf("%q speaks for %+v", u, s)
		}
		s, err := ParseSubject(u.String())
		controller := err == nil && s.Kind == KindController && !client
		for _, fleet := range []string{"", ca.Fleet(), "another"} {
			err := verifyController([]*x509.Certificate{c}, fleet, ca.now().trusted(), fuzzTime)
			if want := controller && (fleet == "" || fleet == s.Fleet); (err == nil) != want {
				t.Errorf("%q as a controller of fleet %q: %v", u, fleet, err)
			}
		}
	})
}

// pick takes the next piece that the fuzzer has chosen.
func pick[T any](choice *[]byte, pieces []T) T {
	if len(*choice) == 0 {
		return pieces[0]
	}
	i := int((*choice)[0]) % len(pieces)
	*choice = (*choice)[1:]
	return pieces[i]
}

// FuzzIssued: no answer of a controller breaks a probe, or is kept in a form
// that cannot be read again.
func FuzzIssued(f *testing.F) {
	ca, other := openCA(f), openCA(f)
	key := hide(edKey(f))
	issue := func(ca *CA, kind Kind, key privateKey) []byte {
		c, err := ca.now().issue(kind, "x", key.reveal().Public(), fuzzTime, ProbeLife)
		if err != nil {
			f.Fatal(err)
		}
		return c.Raw
	}
	good := issue(ca, KindProbe, key)
	pieces := [][]byte{
		nil, good, ca.Bundle()[0], other.Bundle()[0], issue(ca, KindOperator, key), issue(ca, KindController, key), issue(other, KindProbe, key),
		issue(ca, KindProbe, hide(edKey(f))), good[:len(good)/2], append(bytes.Clone(good), 0),
	}
	f.Add([]byte{1, 2}, []byte{}, int64(ProbeLife/time.Second))
	f.Add([]byte{6, 2, 3}, []byte{}, int64(1))
	f.Add([]byte{4, 2, 2}, []byte{0x30}, int64(1<<62))
	f.Add([]byte{}, []byte{}, int64(-1))
	f.Fuzz(func(t *testing.T, choice, raw []byte, seconds int64) {
		pieces := append(pieces, raw)
		issued := &pb.IssuedCertificate{Certificate: pick(&choice, pieces), ValidFor: &durationpb.Duration{Seconds: seconds}}
		for len(choice) > 0 {
			issued.Bundle = append(issued.Bundle, pick(&choice, pieces))
		}
		c, err := (&Request{key}).Credential(issued, []string{"a:1"}, fuzzTime)
		if err != nil {
			return
		}
		data, err := c.marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseCredential(data)
		if err != nil || again.subject != c.subject || !again.renew.Equal(c.renew) || len(again.bundle) != len(c.bundle) {
			t.Errorf("%v: %v", again, err)
		}
		if c.renew.Before(fuzzTime) || c.subject.Fleet != ca.Fleet() && c.subject.Fleet != other.Fleet() {
			t.Errorf("%v renews at %v", c.subject, c.renew)
		}
	})
}

// FuzzCAFile: a file is read as what it says, or not at all.
func FuzzCAFile(f *testing.F) {
	a, b := switchedCA(f), switchedCA(f)
	pieces := []string{
		"", a.Current.Certificate, a.Current.Key, a.Current.Cross, a.Previous, b.Current.Certificate, b.Current.Key, b.Current.Cross, b.Previous,
	}
	f.Add(a.Fleet, uint8(Switched), []byte{1, 2, 3, 4}, "")
	f.Add(a.Fleet, uint8(Steady), []byte{1, 2, 3, 4}, "")
	f.Add(a.Fleet, uint8(Steady), []byte{1, 2}, "")
	f.Add(a.Fleet, uint8(Prepared), []byte{5, 6, 0, 0, 1, 2, 3}, "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----")
	f.Fuzz(func(t *testing.T, fleet string, stage uint8, choice []byte, raw string) {
		pieces := append(pieces, raw)
		one := func() rootJSON {
			return rootJSON{Certificate: pick(&choice, pieces), Key: pick(&choice, pieces), Cross: pick(&choice, pieces)}
		}
		file := caJSON{Fleet: fleet, Stage: Stage(stage), Current: one(), Previous: pick(&choice, pieces)}
		if len(choice) > 0 {
			next := one()
			file.Next = &next
		}
		data, err := encodeFile(&file)
		if err != nil {
			t.Fatal(err)
		}
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
		// Whatever was read works: it issues what it trusts, in every stage to come.
		for range 3 {
			c, err := s.issue(KindProbe, "x", edKey(t).Public(), fuzzTime, ProbeLife)
			if err != nil {
				t.Fatal(err)
			}
			if _, d := s.verify([]*x509.Certificate{c}); d != nil {
				t.Fatal(d)
			}
			if err := s.advance(fuzzTime, true); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzCredentialFile: the same for a probe's or an operator's file.
func FuzzCredentialFile(f *testing.F) {
	ca := openCA(f)
	pieces := []string{""}
	for _, kind := range []Kind{KindProbe, KindOperator, KindController} {
		key := hide(edKey(f))
		c, err := ca.now().issue(kind, "x", key.reveal().Public(), fuzzTime, ProbeLife)
		if err != nil {
			f.Fatal(err)
		}
		text, err := key.pem()
		if err != nil {
			f.Fatal(err)
		}
		pieces = append(pieces, string(certPEM(c)), string(text))
	}
	pieces = append(pieces, string(certPEM(ca.now().current.cert)))
	f.Add("a:1", []byte{1, 2, 7}, "")
	f.Add("a:1", []byte{3, 4, 7}, "")
	f.Add("a", []byte{3, 2, 7}, "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----")
	f.Fuzz(func(t *testing.T, address string, choice []byte, raw string) {
		pieces := append(pieces, raw)
		file := credentialJSON{Addresses: []string{address}, Certificate: pick(&choice, pieces), Key: pick(&choice, pieces)}
		for len(choice) > 0 {
			file.Bundle = append(file.Bundle, pick(&choice, pieces))
		}
		data, err := encodeFile(&file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseCredential(data)
		if err != nil {
			return
		}
		written, err := c.marshal()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseCredential(written); err != nil || again.subject != c.subject || again.addresses[0] != address {
			t.Errorf("%v", err)
		}
		if _, err := newCSR(c.key); err != nil {
			t.Errorf("the key does not sign: %v", err)
		}
	})
}

// FuzzDecodeFile: bytes that are none of ours.
func FuzzDecodeFile(f *testing.F) {
	f.Add([]byte(`{"format":1,"check":""}`))
	f.Add([]byte(`{"format":1,"current":{},"next":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := parseCA(data); err == nil {
			t.Errorf("%q is a CA", data)
		}
		if _, err := parseCredential(data); err == nil {
			t.Errorf("%q is a credential", data)
		}
	})
}

// TestFlippedBits: a certificate with a wrong bit is nobody's.
func TestFlippedBits(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	ca := openCA(t)
	for _, kind := range []Kind{KindProbe, KindOperator, KindController} {
		genuine, err := ca.now().issue(kind, "x", edKey(t).Public(), fuzzTime, ProbeLife)
		if err != nil {
			t.Fatal(err)
		}
		for range 500 {
			der := bytes.Clone(genuine.Raw)
			der[r.IntN(len(der))] ^= 1 << r.IntN(8)
			c, err := x509.ParseCertificate(der)
			if err != nil {
				continue
			}
			if h, d := ca.now().verify([]*x509.Certificate{c}); d == nil {
				t.Errorf("it speaks for %v", h.subject)
			}
			if err := verifyController([]*x509.Certificate{c}, "", ca.now().trusted(), fuzzTime); err == nil {
				t.Error("it is a controller's")
			}
		}
	}
}

// TestCAEnds: a certificate cannot outlast its CA, and it is said in time.
func TestCAEnds(t *testing.T) {
	ca := openCA(t)
	key := edKey(t).Public()
	if _, err := ca.now().issue(KindProbe, "x", key, fuzzTime.Add(rootLife-ProbeLife), ProbeLife); err != nil {
		t.Error(err)
	}
	_, err := ca.now().issue(KindProbe, "x", key, fuzzTime.Add(rootLife-ProbeLife+time.Second), ProbeLife)
	if err == nil || !strings.Contains(err.Error(), "rotate") {
		t.Errorf("%v", err)
	}
}
