package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	pb "tfofleet/proto/tfofleet/v1"
)

// Challenge is one attempt of a probe to come back by its identity key.
type Challenge struct {
	a        *Authority
	identity []byte
	nonce    []byte
}

// Challenge begins a recovery. Whether there is such a probe is not said before
// it has proven to be it.
func (a *Authority) Challenge(identity []byte) (*Challenge, error) {
	nonce := make([]byte, nonceSize)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return &Challenge{a, identity, nonce}, nil
}

// Message is what the probe has to sign.
func (c *Challenge) Message() *pb.RecoverChallenge {
	return &pb.RecoverChallenge{Nonce: c.nonce, Fleet: c.a.cfg.CA.Fleet()}
}

// Answer ends a recovery with a new certificate. Only what the identity key
// signed counts against the probe's limit: others cannot use it up.
func (c *Challenge) Answer(ctx context.Context, proof *pb.RecoverProof) (*pb.IssuedCertificate, error) {
	a := c.a
	public, err := parseCSR(proof.GetCsr())
	if err != nil {
		return nil, deny(CSRInvalid, err.Error())
	}
	if !proven(c.identity, recoverProof(a.cfg.CA.Fleet(), c.nonce, proof.Csr), proof.IdentitySignature) {
		return nil, deny(ProofInvalid, "")
	}
	var reply *pb.IssuedCertificate
	var member Member
	err = a.cfg.Store.Update(ctx, func(tx Tx) error {
		m, err := tx.MemberByIdentity(c.identity)
		if errors.Is(err, ErrNotFound) {
			return deny(ProbeUnknown, "join with a token")
		}
		if err != nil {
			return err
		}
		member = m
		reply, err = a.give(tx, m, public, func() error { return countRecovery(tx, m) })
		return err
	})
	if err != nil {
		return nil, err
	}
	a.log.Info("probe recovered", "probe", member.Name, "earlier", member.Recoveries)
	return reply, nil
}

const day = 24 * time.Hour

// countRecovery counts one more recovery, or denies it.
func countRecovery(tx Tx, m Member) error {
	now := tx.Now()
	if end := m.RecoveryDay.Add(day); !now.Before(end) {
		m.RecoveryDay, m.RecoveriesToday = now, 0
	} else if m.RecoveriesToday >= maxRecoveries {
		return &Denial{RecoveryLimit, fmt.Sprintf("%d times in a day", maxRecoveries), end.Sub(now)}
	}
	m.Recoveries++
	m.RecoveriesToday++
	return tx.PutMember(m)
}
