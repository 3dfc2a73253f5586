package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "tfofleet/proto/tfofleet/v1"
)

// IssueOperator gives a certificate to an operator, who has made the CSR with
// NewRequest on his own machine. An operator has one certificate at a time: the
// first use of a new one ends those before at once.
func (a *Authority) IssueOperator(ctx context.Context, name string, csr []byte) (*pb.IssuedCertificate, error) {
	if !ValidName(name) {
		return nil, invalid{fmt.Errorf("%.80q cannot be an operator's name: a to z, 0 to 9 and -", name)}
	}
	public, err := parseCSR(csr)
	if err != nil {
		return nil, deny(CSRInvalid, err.Error())
	}
	var reply *pb.IssuedCertificate
	err = a.cfg.Store.Update(ctx, func(tx Tx) error {
		m, err := tx.Member(KindOperator, name)
		if errors.Is(err, ErrNotFound) {
			m = Member{Kind: KindOperator, Name: name, Created: tx.Now()}
			err = tx.PutMember(m)
		}
		if err != nil {
			return err
		}
		reply, err = a.give(tx, m, public, free)
		return err
	})
	if err != nil {
		return nil, err
	}
	a.log.Info("operator certificate issued", "operator", name)
	return reply, nil
}

// Operator is an operator elsewhere.
type Operator struct {
	Member
	// Expires is the end of the certificate in use, zero until one was used.
	Expires time.Time
}

// Operators is all of them by name.
func (a *Authority) Operators(ctx context.Context) (all []Operator, err error) {
	err = a.cfg.Store.View(ctx, func(r Reader) error {
		members, err := r.Members(KindOperator)
		if err != nil {
			return err
		}
		all = nil
		for _, m := range members {
			o := Operator{Member: m}
			if m.Serial != "" {
				c, err := r.Certificate(m.Serial)
				if err != nil {
					return err
				}
				o.Expires = c.Expires
			}
			all = append(all, o)
		}
		return nil
	})
	return all, err
}
