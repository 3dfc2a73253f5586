package identity

import (
	"context"
	"errors"
	"fmt"
)

// IssueOperator makes a credential for an operator on another host. It is the
// only copy of its key: save it, and take it there. An operator has one at a
// time; the first use of a new one ends the one before.
func (a *Authority) IssueOperator(ctx context.Context, name string, addresses []string) (*Credential, error) {
	if !ValidName(name) {
		return nil, fmt.Errorf("%.80q cannot be an operator's name: a to z, 0 to 9 and -", name)
	}
	if err := checkAddresses(addresses); err != nil {
		return nil, err
	}
	key, err := newTLSKey()
	if err != nil {
		return nil, err
	}
	bundle, err := parseBundle(a.cfg.CA.Bundle())
	if err != nil {
		return nil, err
	}
	c := &Credential{addresses: addresses, key: key, bundle: bundle}
	err = a.cfg.Store.Update(ctx, func(tx Tx) error {
		m, err := tx.Member(KindOperator, name)
		if errors.Is(err, ErrNotFound) {
			m = Member{Kind: KindOperator, Name: name, Created: tx.Now()}
			err = tx.PutMember(m)
		}
		if err != nil {
			return err
		}
		if !m.Banned.IsZero() {
			return banned(m)
		}
		c.received = tx.Now()
		_, c.cert, err = a.issue(tx, m, key.reveal().Public(), OperatorLife)
		return err
	})
	if err != nil {
		return nil, err
	}
	a.log.Info("operator certificate made", "operator", name, "serial", serialOf(c.cert), "expires", c.cert.NotAfter)
	return c, c.check()
}
