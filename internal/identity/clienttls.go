package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// clockTolerance is how far a probe's clock may be off the validity of a
// controller's certificate: clocks of probes are wrong, and the probe must get
// through to be told so. What it costs: a stolen controller key is good for a
// day longer.
const clockTolerance = 24 * time.Hour

// ClockError: by this machine's clock the controller's certificate is not valid,
// by more than a clock may be off.
type ClockError struct{ Now, From, To time.Time }

func (e *ClockError) Error() string {
	const f = time.RFC3339
	return fmt.Sprintf("the clock of this machine says %s and the controller's certificate is valid from %s to %s: set the clock",
		e.Now.UTC().Format(f), e.From.UTC().Format(f), e.To.UTC().Format(f))
}

var errNotController = errors.New("the certificate is not one of this fleet's controllers")

// clientTLS leaves the verification to verify. The standard one compares the
// certificate with the address that was dialled; a controller behind a load
// balancer, a port forward or a changed address has none that fits. Ours asks
// for the fleet's controller, whatever its address; nobody else can have such a
// certificate.
func clientTLS(verify func(certs []*x509.Certificate) error) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true,
		VerifyConnection:   func(s tls.ConnectionState) error { return verify(s.PeerCertificates) },
	}
}

// pinnedTLS is for a probe that knows only the pin of its join token: the CA is
// the certificate in the chain with the pinned key.
func pinnedTLS(pin Hash, now func() time.Time) *tls.Config {
	return clientTLS(func(certs []*x509.Certificate) error {
		for _, c := range certs[min(1, len(certs)):] {
			if pinOf(c) == pin {
				return verifyController(certs, "", []*x509.Certificate{c}, now())
			}
		}
		return errors.New("the controller's CA is not the one that the join token pins")
	})
}

// verifyController is the check of a controller's certificate. Fleet is empty
// while the probe does not know it.
func verifyController(certs []*x509.Certificate, fleet string, roots []*x509.Certificate, now time.Time) error {
	if len(certs) == 0 {
		return errNotController
	}
	cert := certs[0]
	s, err := subjectOf(cert)
	if err != nil || s.Kind != KindController || fleet != "" && s.Fleet != fleet {
		return errNotController
	}
	at, err := tolerate(cert, now)
	if err != nil {
		return err
	}
	_, err = cert.Verify(x509.VerifyOptions{
		Roots: poolOf(roots), Intermediates: poolOf(certs[1:]), CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// tolerate is the time at which to verify: now, or the nearest at which the
// certificate is valid.
func tolerate(c *x509.Certificate, now time.Time) (time.Time, error) {
	at := now
	if at.Before(c.NotBefore) {
		at = c.NotBefore
	} else if at.After(c.NotAfter) {
		at = c.NotAfter
	}
	if at.Sub(now).Abs() > clockTolerance {
		return at, &ClockError{now, c.NotBefore, c.NotAfter}
	}
	return at, nil
}
