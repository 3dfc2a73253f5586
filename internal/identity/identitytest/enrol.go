package identitytest

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"testing"
	"time"

	"tfofleet/internal/identity"
	pb "tfofleet/proto/tfofleet/v1"
)

// What the store is for: enrolments that happen at once.

func authority(t testing.TB, s identity.Store) (*identity.Authority, identity.JoinToken) {
	t.Helper()
	ca, err := identity.OpenCA(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a, err := identity.NewAuthority(context.Background(), identity.Config{CA: ca, Store: s})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := a.CreateToken(context.Background(), identity.TokenSpec{Addresses: []string{"controller.example:443"}, Uses: 1, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return a, tok
}

// request is what a probe with the identity key sends, by the description in
// enrollment.proto.
func request(t testing.TB, tok identity.JoinToken, key ed25519.PrivateKey) *pb.EnrollRequest {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(csr)
	text := append([]byte("tfofleet enroll v1\x00"+tok.ID+"\x00"), sum[:]...)
	return &pb.EnrollRequest{
		Token: tok.ID, Secret: tok.Secret.Reveal(), Csr: csr,
		IdentityKey: key.Public().(ed25519.PublicKey), IdentitySignature: ed25519.Sign(key, text),
	}
}

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func testOneUse(t *testing.T, open Opener) {
	s := open()
	a, tok := authority(t, s)
	var reqs []*pb.EnrollRequest
	for range 16 {
		reqs = append(reqs, request(t, tok, newKey(t)))
	}
	enrolled(t, a, s, reqs, 1)
}

func testOneKey(t *testing.T, open Opener) {
	s := open()
	a, tok := authority(t, s)
	req := request(t, tok, newKey(t))
	var reqs []*pb.EnrollRequest
	for range 16 {
		reqs = append(reqs, req)
	}
	enrolled(t, a, s, reqs, 16)
}

// enrolled sends the requests at once, of which want are to be granted, all with
// the same certificate; the others meet an exhausted token.
func enrolled(t *testing.T, a *identity.Authority, s identity.Store, reqs []*pb.EnrollRequest, want int) {
	t.Helper()
	issued := make([]*pb.IssuedCertificate, len(reqs))
	var granted int
	certificates := make(map[string]bool)
	for i, err := range together(len(reqs), func(i int) (err error) {
		issued[i], err = a.Enroll(context.Background(), reqs[i])
		return err
	}) {
		if err == nil {
			granted++
			certificates[string(issued[i].Certificate)] = true
		} else if d, ok := identity.DenialOf(err); !ok || d.Reason != identity.TokenExhausted {
			t.Error(err)
		}
	}
	if granted != want || len(certificates) != 1 {
		t.Errorf("%d requests granted with %d certificates, want %d with 1", granted, len(certificates), want)
	}
	view(t, s, func(r identity.Reader) error {
		members, err := r.Members(identity.KindProbe)
		if err != nil {
			return err
		}
		tok, err := r.Token(reqs[0].Token)
		if len(members) != 1 || tok.Used != 1 {
			t.Errorf("%d members and %d uses, want 1 and 1", len(members), tok.Used)
		}
		return err
	})
}
