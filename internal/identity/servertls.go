package identity

import (
	"crypto/tls"
	"sync"
	"time"
)

// serverCert is the controller's own certificate. Its key lives in memory only:
// at every start, at half life and after a rotation there is a new one.
type serverCert struct {
	mu    sync.Mutex
	by    *caState
	renew time.Time
	cert  *tls.Certificate
}

// ServerTLS is for the controller's port. It asks for a client certificate and
// takes whatever it is given, or none: what a caller may do is decided for every
// method, see Guard, so that a probe is told why it is refused and one without a
// certificate can enrol.
func (a *Authority) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequestClientCert,
		NextProtos: []string{"h2"},
		Time:       a.cfg.Now,
		// A resumed connection would show the certificate of the one before.
		SessionTicketsDisabled: true,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return a.serverCertificate() },
	}
}

func (a *Authority) serverCertificate() (*tls.Certificate, error) {
	s := &a.server
	s.mu.Lock()
	defer s.mu.Unlock()
	now, by := a.cfg.Now(), a.cfg.CA.now()
	if s.by == by && now.Before(s.renew) {
		return s.cert, nil
	}
	key, err := newTLSKey()
	if err != nil {
		return nil, err
	}
	cert, err := by.issue(KindController, "", key.reveal().Public(), now, ServerLife, a.cfg.Names...)
	if err != nil {
		return nil, err
	}
	s.by, s.renew = by, now.Add(ServerLife/2)
	s.cert = &tls.Certificate{Certificate: append([][]byte{cert.Raw}, by.chain()...), PrivateKey: key.reveal(), Leaf: cert}
	a.log.Info("controller certificate made", "serial", serialOf(cert), "expires", cert.NotAfter)
	return s.cert, nil
}
