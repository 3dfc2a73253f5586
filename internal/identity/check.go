package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"time"
)

// holder is who a client certificate speaks for.
type holder struct {
	subject Subject
	cert    *x509.Certificate
}

// verify says whom a client's certificate speaks for, by the certificate and the
// CA alone: neither time nor records count yet, they count at every call.
func (s *caState) verify(certs []*x509.Certificate) (holder, *Denial) {
	if len(certs) == 0 {
		return holder{}, deny(CertificateMissing, "")
	}
	cert := certs[0]
	subject, err := subjectOf(cert)
	if err != nil {
		return holder{}, deny(CertificateUntrusted, err.Error())
	}
	if subject.Fleet != s.fleet {
		return holder{}, deny(CertificateWrongFleet, "this is fleet "+s.fleet)
	}
	_, err = cert.Verify(x509.VerifyOptions{
		Roots: s.pool(), CurrentTime: cert.NotAfter,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil || subject.Kind == KindController {
		return holder{}, deny(CertificateUntrusted, "")
	}
	return holder{subject, cert}, nil
}

// standing says whether the holder may call now, and what its certificate's
// record is.
func (h holder) standing(r Reader) (Certificate, Member, error) {
	now := r.Now()
	if now.Before(h.cert.NotBefore) || !now.Before(h.cert.NotAfter) {
		return Certificate{}, Member{}, deny(CertificateExpired, "it is valid from "+h.cert.NotBefore.Format(time.RFC3339)+" to "+h.cert.NotAfter.Format(time.RFC3339))
	}
	unknown := deny(CertificateUnknown, "")
	c, err := r.Certificate(serialOf(h.cert))
	if errors.Is(err, ErrNotFound) {
		return c, Member{}, unknown
	}
	if err != nil {
		return c, Member{}, err
	}
	if c.Kind != h.subject.Kind || c.Name != h.subject.Name || c.KeyHash != pinOf(h.cert) {
		return c, Member{}, unknown
	}
	m, err := r.Member(c.Kind, c.Name)
	switch {
	case err != nil:
		return c, m, err
	case !m.Banned.IsZero():
		return c, m, banned(m)
	case c.State == Superseded && (c.Kind == KindOperator || !now.Before(c.Superseded.Add(overlap))):
		return c, m, deny(CertificateSuperseded, "")
	case c.State != Pending || m.Serial == "":
		return c, m, nil
	}
	// One that was issued before the active one and never used comes from a copy
	// of the probe's disk.
	active, err := r.Certificate(m.Serial)
	if err == nil && active.Issued.After(c.Issued) {
		err = deny(CertificateSuperseded, "")
	}
	return c, m, err
}

// check is standing for a call: the first one makes the certificate the active
// one.
func (a *Authority) check(ctx context.Context, h holder) error {
	var c Certificate
	err := a.cfg.Store.View(ctx, func(r Reader) (err error) {
		c, _, err = h.standing(r)
		return err
	})
	if err != nil || c.State != Pending {
		return err
	}
	return a.cfg.Store.Update(ctx, func(tx Tx) error {
		c, m, err := h.standing(tx)
		if err != nil || c.State != Pending {
			return err
		}
		return activate(tx, c, m)
	})
}

func activate(tx Tx, c Certificate, m Member) error {
	if m.Serial != "" {
		old, err := tx.Certificate(m.Serial)
		if err != nil {
			return err
		}
		old.State, old.Superseded = Superseded, tx.Now()
		if err := tx.PutCertificate(old); err != nil {
			return err
		}
	}
	c.State, c.DER = Active, nil
	m.Serial = c.Serial
	if err := tx.PutCertificate(c); err != nil {
		return err
	}
	return tx.PutMember(m)
}
