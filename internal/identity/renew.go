package identity

import (
	"context"

	pb "tfofleet/proto/tfofleet/v1"
)

// Renew gives the calling probe a certificate for a new key. The one it has
// stays good until the new one is used, so nothing is lost with a reply.
func (a *Authority) Renew(ctx context.Context, caller Caller, csr []byte) (*pb.IssuedCertificate, error) {
	if caller.Class != Probes {
		return nil, deny(NotPermitted, "only a probe has a certificate to renew")
	}
	public, err := parseCSR(csr)
	if err != nil {
		return nil, deny(CSRInvalid, err.Error())
	}
	var reply *pb.IssuedCertificate
	err = a.cfg.Store.Update(ctx, func(tx Tx) error {
		m, err := tx.Member(KindProbe, caller.Name)
		if err != nil {
			return err
		}
		reply, err = a.give(tx, m, public, free)
		return err
	})
	if err != nil {
		return nil, err
	}
	a.log.Debug("certificate renewed", "probe", caller.Name)
	return reply, nil
}
