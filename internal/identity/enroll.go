package identity

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"maps"

	pb "tfofleet/proto/tfofleet/v1"
)

// Enroll lets a probe in by a join token. Use, member and certificate are one
// transaction, and it is the identity key that takes the use: the same probe
// may ask as often as it needs to get its reply, also when the token has ended
// since; another one may not.
func (a *Authority) Enroll(ctx context.Context, req *pb.EnrollRequest) (*pb.IssuedCertificate, error) {
	public, err := parseCSR(req.Csr)
	if err != nil {
		return nil, deny(CSRInvalid, err.Error())
	}
	if !proven(req.IdentityKey, enrollProof(req.Token, req.Csr), req.IdentitySignature) {
		return nil, deny(ProofInvalid, "")
	}
	var reply *pb.IssuedCertificate
	var member Member
	err = a.cfg.Store.Update(ctx, func(tx Tx) error {
		t, err := tx.Token(req.Token)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		// An unknown token is compared too, with a hash that nothing has.
		if sum := tokenHash(req.Secret); subtle.ConstantTimeCompare(sum[:], t.SecretHash[:]) != 1 {
			return deny(TokenUnknown, "")
		}
		charge := free
		m, err := tx.MemberByIdentity(req.IdentityKey)
		if errors.Is(err, ErrNotFound) {
			m, err = admit(tx, t, req.IdentityKey)
		} else {
			charge = func() error { return countRecovery(tx, m) }
		}
		if err != nil {
			return err
		}
		member = m
		reply, err = a.give(tx, m, public, charge)
		return err
	})
	if err != nil {
		return nil, err
	}
	a.log.Info("probe enrolled", "probe", member.Name, "token", member.Token, "labels", member.Labels)
	return reply, nil
}

// admit makes the member and takes a use of the token.
func admit(tx Tx, t Token, identity []byte) (Member, error) {
	if d := t.refuses(tx.Now()); d != nil {
		return Member{}, d
	}
	name, err := freeName(tx, t.Prefix, identity)
	if err != nil {
		return Member{}, err
	}
	m := Member{
		Kind: KindProbe, Name: name, Created: tx.Now(),
		IdentityKey: identity, Token: t.ID, Labels: maps.Clone(t.Labels), RecoveryDay: tx.Now(),
	}
	t.Used++
	if err := tx.PutToken(t); err != nil {
		return Member{}, err
	}
	return m, tx.PutMember(m)
}

// freeName is the prefix and as much of the identity key's hash as it takes to
// be the only one.
func freeName(r Reader, prefix string, identity []byte) (string, error) {
	sum := sha256.Sum256(identity)
	hash := lower.EncodeToString(sum[:])
	for n := 8; ; n += 4 {
		name := prefix + "-" + hash[:n]
		_, err := r.Member(KindProbe, name)
		if errors.Is(err, ErrNotFound) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
	}
}
