package identitytest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tfofleet/internal/identity"
)

// Opener opens the same database every time it is called. It closes the one
// that it opened before.
type Opener func() identity.Store

// RunStoreTests runs the suite. Factory makes an empty database.
func RunStoreTests(t *testing.T, factory func(testing.TB) Opener) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Opener)
	}{
		{"records come back as they went in", testRecords},
		{"what is not there is ErrNotFound", testNotFound},
		{"a put replaces", testReplace},
		{"lists are in order", testOrder},
		{"an update is all or nothing", testAtomic},
		{"an update reads what it wrote", testOwnWrites},
		{"records are the caller's own", testIsolation},
		{"the clock stands still in a transaction and else does not go back", testClock},
		{"a context that has ended", testContext},
		{"updates are one after the other", testSerial},
		{"updates that rely on an absence are one after the other", testAbsence},
		{"one use and many keys", testOneUse},
		{"one key and many requests", testOneKey},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, factory(t)) })
	}
}

// at is a time as a store keeps it. Each is another one.
func at(n int) time.Time {
	return time.Date(2026, 11, 20, 22, 0, n, 123456000, time.UTC)
}

func hash(n byte) identity.Hash { return identity.Hash{0: n, 31: 255 - n} }

func token(n int) identity.Token {
	return identity.Token{
		ID: fmt.Sprintf("token%d", n), SecretHash: hash(byte(n)), Uses: 3, Used: 2, Labels: identity.Labels{"region": "fra", "a": "B"},
		Prefix: "fra", Created: at(n), Expires: at(n + 1), Revoked: at(n + 2),
	}
}

func probe(n int) identity.Member {
	key := hash(byte(n))
	return identity.Member{
		Kind: identity.KindProbe, Name: fmt.Sprintf("probe-%d", n), Created: at(n), Serial: "abcdef", Banned: at(n + 1), BanReason: "stolen; 'quoted' \"twice\" ü",
		IdentityKey: key[:], Token: "token", Labels: identity.Labels{"region": "fra"}, Recoveries: 7, RecoveriesToday: 3, RecoveryDay: at(n + 2),
	}
}

func certificate(n int) identity.Certificate {
	return identity.Certificate{
		Serial: fmt.Sprintf("%032x", n), Kind: identity.KindProbe, Name: "probe-1", KeyHash: hash(byte(n)), State: identity.Superseded,
		Issued: at(n), Expires: at(n + 1), Superseded: at(n + 2), DER: []byte{0, 1, 2, 255},
	}
}

func update(t testing.TB, s identity.Store, do func(identity.Tx) error) {
	t.Helper()
	if err := s.Update(context.Background(), do); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func view(t testing.TB, s identity.Store, do func(identity.Reader) error) {
	t.Helper()
	if err := s.View(context.Background(), do); err != nil {
		t.Fatalf("view: %v", err)
	}
}

// same compares records; no labels and no bytes are the same as none.
func same[T any](t testing.TB, what string, got T, want T) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func testRecords(t *testing.T, open Opener) {
	tokens := []identity.Token{token(1), {ID: "bare", Uses: 1, Created: at(2), Expires: at(3)}}
	members := []identity.Member{probe(1), {Kind: identity.KindProbe, Name: "bare", Created: at(1), IdentityKey: []byte{1}}}
	// Same name, other kind; two operators without an identity key.
	operators := []identity.Member{
		{Kind: identity.KindOperator, Name: "bare", Created: at(1)},
		{Kind: identity.KindOperator, Name: "probe-1", Created: at(1)},
	}
	certificates := []identity.Certificate{certificate(1), {Serial: "00", Kind: identity.KindOperator, Name: "bare", State: identity.Pending, Issued: at(1), Expires: at(2)}}
	update(t, open(), func(tx identity.Tx) error {
		err := tx.PutFleet("fleet1")
		for _, r := range tokens {
			err = errors.Join(err, tx.PutToken(r))
		}
		for _, r := range append(members, operators...) {
			err = errors.Join(err, tx.PutMember(r))
		}
		for _, r := range certificates {
			err = errors.Join(err, tx.PutCertificate(r))
		}
		return err
	})
	view(t, open(), func(r identity.Reader) error { // durable: it is opened again
		fleet, err := r.Fleet()
		same(t, "fleet", fleet, "fleet1")
		for _, want := range tokens {
			got, e := r.Token(want.ID)
			same(t, "token", got, want)
			err = errors.Join(err, e)
		}
		for _, want := range append(members, operators...) {
			got, e := r.Member(want.Kind, want.Name)
			same(t, "member", got, want)
			err = errors.Join(err, e)
		}
		for _, want := range members {
			got, e := r.MemberByIdentity(want.IdentityKey)
			same(t, "member by identity", got, want)
			err = errors.Join(err, e)
		}
		for _, want := range certificates {
			got, e := r.Certificate(want.Serial)
			same(t, "certificate", got, want)
			err = errors.Join(err, e)
			got, e = r.CertificateByKey(want.KeyHash)
			same(t, "certificate by key", got, want)
			err = errors.Join(err, e)
		}
		return err
	})
}

func testNotFound(t *testing.T, open Opener) {
	s := open()
	update(t, s, func(tx identity.Tx) error {
		return tx.PutMember(identity.Member{Kind: identity.KindOperator, Name: "anna"})
	})
	view(t, s, func(r identity.Reader) error {
		_, fleet := r.Fleet()
		_, tok := r.Token("x")
		_, member := r.Member(identity.KindProbe, "anna")
		_, byIdentity := r.MemberByIdentity([]byte{1})
		_, noIdentity := r.MemberByIdentity(nil)
		_, cert := r.Certificate("x")
		_, byKey := r.CertificateByKey(identity.Hash{})
		for what, err := range map[string]error{
			"fleet": fleet, "token": tok, "member": member, "member by identity": byIdentity,
			"member by no identity": noIdentity, "certificate": cert, "certificate by key": byKey,
		} {
			if !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("%s: %v, want ErrNotFound", what, err)
			}
		}
		tokens, err := r.Tokens()
		members, err2 := r.Members(identity.KindProbe)
		if len(tokens)+len(members) > 0 {
			t.Errorf("%v and %v in an empty store", tokens, members)
		}
		return errors.Join(err, err2)
	})
}

func testReplace(t *testing.T, open Opener) {
	s := open()
	put := func(tok identity.Token, m identity.Member, c identity.Certificate) {
		update(t, s, func(tx identity.Tx) error {
			return errors.Join(tx.PutFleet("a"), tx.PutFleet("b"), tx.PutToken(tok), tx.PutMember(m), tx.PutCertificate(c))
		})
	}
	put(token(1), probe(1), certificate(1))
	tok, m, c := token(1), probe(1), certificate(1)
	tok.Used, tok.Revoked, tok.Labels = 3, time.Time{}, nil
	m.Banned, m.BanReason, m.Labels, m.Recoveries = time.Time{}, "", identity.Labels{"x": "y"}, 8
	c.State, c.DER, c.Superseded = identity.Active, nil, time.Time{}
	put(tok, m, c)
	view(t, s, func(r identity.Reader) error {
		gotFleet, err1 := r.Fleet()
		gotToken, err2 := r.Token(tok.ID)
		gotMember, err3 := r.MemberByIdentity(m.IdentityKey)
		gotCertificate, err4 := r.CertificateByKey(c.KeyHash)
		same(t, "fleet", gotFleet, "b")
		same(t, "token", gotToken, tok)
		same(t, "member", gotMember, m)
		same(t, "certificate", gotCertificate, c)
		return errors.Join(err1, err2, err3, err4)
	})
}

func testOrder(t *testing.T, open Opener) {
	s := open()
	update(t, s, func(tx identity.Tx) error {
		var err error
		for _, n := range []int{3, 1, 2} {
			tok := token(n)
			tok.ID = fmt.Sprintf("token%d", 9-n)
			err = errors.Join(err, tx.PutToken(tok), tx.PutMember(probe(n)))
		}
		return err
	})
	view(t, s, func(r identity.Reader) error {
		tokens, err := r.Tokens()
		members, err2 := r.Members(identity.KindProbe)
		var ids, names []string
		for _, tok := range tokens {
			ids = append(ids, tok.ID)
		}
		for _, m := range members {
			names = append(names, m.Name)
		}
		same(t, "tokens, oldest first", ids, []string{"token8", "token7", "token6"})
		same(t, "members, by name", names, []string{"probe-1", "probe-2", "probe-3"})
		return errors.Join(err, err2)
	})
}

func testAtomic(t *testing.T, open Opener) {
	s := open()
	update(t, s, func(tx identity.Tx) error { return tx.PutToken(token(1)) })
	broken := errors.New("broken")
	err := s.Update(context.Background(), func(tx identity.Tx) error {
		tok := token(1)
		tok.Used = 99
		if err := errors.Join(tx.PutToken(tok), tx.PutMember(probe(1)), tx.PutCertificate(certificate(1)), tx.PutFleet("f")); err != nil {
			return err
		}
		return fmt.Errorf("wrapped: %w", broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("%v, want the error of do", err)
	}
	view(t, s, func(r identity.Reader) error {
		tok, err := r.Token("token1")
		same(t, "token", tok, token(1))
		_, member := r.Member(identity.KindProbe, "probe-1")
		_, cert := r.CertificateByKey(hash(1))
		_, fleet := r.Fleet()
		for what, err := range map[string]error{"member": member, "certificate": cert, "fleet": fleet} {
			if !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("%s: %v, want ErrNotFound", what, err)
			}
		}
		return err
	})
}

func testOwnWrites(t *testing.T, open Opener) {
	update(t, open(), func(tx identity.Tx) error {
		if err := errors.Join(tx.PutToken(token(1)), tx.PutMember(probe(1)), tx.PutCertificate(certificate(1))); err != nil {
			return err
		}
		tok, err1 := tx.Token("token1")
		m, err2 := tx.MemberByIdentity(probe(1).IdentityKey)
		c, err3 := tx.CertificateByKey(hash(1))
		members, err4 := tx.Members(identity.KindProbe)
		same(t, "token", tok, token(1))
		same(t, "member", m, probe(1))
		same(t, "certificate", c, certificate(1))
		same(t, "members", members, []identity.Member{probe(1)})
		return errors.Join(err1, err2, err3, err4)
	})
}

func testIsolation(t *testing.T, open Opener) {
	s := open()
	tok, m, c := token(1), probe(1), certificate(1)
	update(t, s, func(tx identity.Tx) error {
		return errors.Join(tx.PutToken(tok), tx.PutMember(m), tx.PutCertificate(c))
	})
	tok.Labels["region"], m.IdentityKey[0], c.DER[0] = "x", 99, 99
	for range 2 { // the second time after the first has changed what it got
		view(t, s, func(r identity.Reader) error {
			tok, err1 := r.Token("token1")
			m, err2 := r.Member(identity.KindProbe, "probe-1")
			c, err3 := r.CertificateByKey(hash(1))
			same(t, "token", tok, token(1))
			same(t, "member", m, probe(1))
			same(t, "certificate", c, certificate(1))
			if err := errors.Join(err1, err2, err3); err != nil {
				return err
			}
			tok.Labels["region"], m.Labels["region"], m.IdentityKey[0], c.DER[0] = "x", "x", 99, 99
			return nil
		})
	}
}

func testClock(t *testing.T, open Opener) {
	s := open()
	var last time.Time
	for range 3 {
		update(t, s, func(tx identity.Tx) error {
			now := tx.Now()
			if now != tx.Now() {
				t.Error("the clock went on inside a transaction")
			}
			if now.IsZero() || now.Location() != time.UTC || now != now.Truncate(time.Microsecond) {
				t.Errorf("%v is not UTC to the microsecond", now)
			}
			if now.Before(last) {
				t.Errorf("%v came after %v", now, last)
			}
			last = now
			return nil
		})
	}
	view(t, s, func(r identity.Reader) error {
		if r.Now().Before(last) {
			t.Errorf("%v came after %v", r.Now(), last)
		}
		return nil
	})
}

func testContext(t *testing.T, open Opener) {
	s := open()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Update(ctx, func(tx identity.Tx) error { return tx.PutFleet("f") }); !errors.Is(err, context.Canceled) {
		t.Errorf("update: %v", err)
	}
	if err := s.View(ctx, func(identity.Reader) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("view: %v", err)
	}
	view(t, s, func(r identity.Reader) error {
		if fleet, err := r.Fleet(); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("%q was stored", fleet)
		}
		return nil
	})
}

// together runs do n times at once.
func together(n int, do func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = do(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

func testSerial(t *testing.T, open Opener) {
	const n = 32
	s := open()
	tok := token(1)
	tok.Used = 0
	update(t, s, func(tx identity.Tx) error { return tx.PutToken(tok) })
	for _, err := range together(n, func(int) error {
		return s.Update(context.Background(), func(tx identity.Tx) error {
			tok, err := tx.Token("token1")
			if err != nil {
				return err
			}
			tok.Used++
			return tx.PutToken(tok)
		})
	}) {
		if err != nil {
			t.Error(err)
		}
	}
	view(t, s, func(r identity.Reader) error {
		tok, err := r.Token("token1")
		if tok.Used != n {
			t.Errorf("%d of %d updates are there", tok.Used, n)
		}
		return err
	})
}

func testAbsence(t *testing.T, open Opener) {
	s := open()
	taken := errors.New("taken")
	var won int
	for _, err := range together(16, func(i int) error {
		return s.Update(context.Background(), func(tx identity.Tx) error {
			_, err := tx.MemberByIdentity([]byte("key"))
			if err == nil {
				return taken
			}
			if !errors.Is(err, identity.ErrNotFound) {
				return err
			}
			return tx.PutMember(identity.Member{Kind: identity.KindProbe, Name: fmt.Sprintf("probe-%d", i), IdentityKey: []byte("key")})
		})
	}) {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, taken):
			t.Error(err)
		}
	}
	view(t, s, func(r identity.Reader) error {
		members, err := r.Members(identity.KindProbe)
		if won != 1 || len(members) != 1 {
			t.Errorf("%d updates won and %d members are there", won, len(members))
		}
		return err
	})
}
