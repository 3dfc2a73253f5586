package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/credentials"

	pb "tfofleet/proto/tfofleet/v1"
)

// The files of a probe's identity in its directory.
const (
	identityFile   = "identity.key"
	credentialFile = "credential.json"
)

// ErrNotEnrolled: the probe has to join first.
var ErrNotEnrolled = errors.New("this probe belongs to no fleet yet: run it once with a join token")

// ProbeConfig is the configuration of a Probe.
type ProbeConfig struct {
	Dir    string           // its own, for the probe's keys
	Logger hclog.Logger     // nil means none
	Now    func() time.Time // nil means time.Now
}

// Probe is the identity of a probe, on its own machine: the identity key, made
// once, and the credential of the day. All methods may be called from several
// goroutines.
type Probe struct {
	cfg        ProbeConfig
	identity   privateKey
	credential atomic.Pointer[Credential] // nil until enrolled

	mu sync.Mutex // held over a change of the credential
	// next is the request for the next certificate. It is kept until that is
	// here, so that asking again is the same question.
	next *Request
}

// OpenProbe opens the probe's identity, and makes the identity key if there is
// none.
func OpenProbe(cfg ProbeConfig) (*Probe, error) {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Probe{cfg: cfg}
	again := "to join again under the same name, remove " + p.credentialPath() + " and run the probe with a valid join token"
	c, err := LoadCredential(p.credentialPath())
	if err != nil && !absent(err) {
		if errors.Is(err, ErrMode) {
			return nil, err
		}
		return nil, fmt.Errorf("%w; %s", err, again)
	}
	if c != nil {
		if c.subject.Kind != KindProbe {
			return nil, fmt.Errorf("%s is of %s", p.credentialPath(), c.subject)
		}
		p.credential.Store(c)
	}
	path := filepath.Join(cfg.Dir, identityFile)
	p.identity, err = readIdentity(path)
	if absent(err) {
		if c != nil {
			return nil, fmt.Errorf("%s is missing, and the probe's certificate is there: restore the key, or remove %s and join as a new probe", path, p.credentialPath())
		}
		p.identity, err = makeIdentity(path)
	}
	return p, err
}

func (p *Probe) credentialPath() string { return filepath.Join(p.cfg.Dir, credentialFile) }

func readIdentity(path string) (privateKey, error) {
	data, err := readPrivate(path)
	if err != nil {
		return privateKey{}, err
	}
	k, err := parseKeyPEM(data)
	if err == nil {
		if _, ok := k.reveal().(ed25519.PrivateKey); !ok {
			err = errors.New("not an Ed25519 key")
		}
	}
	if err != nil {
		return privateKey{}, fmt.Errorf("%s: %w; restore it from a backup, or remove it and join as a new probe", path, err)
	}
	return k, nil
}

func makeIdentity(path string) (privateKey, error) {
	k, err := newIdentityKey()
	if err != nil {
		return privateKey{}, err
	}
	data, err := k.pem()
	if err != nil {
		return privateKey{}, err
	}
	if err := createPrivate(path, data); err != nil && !errors.Is(err, fs.ErrExist) {
		return privateKey{}, err
	}
	return readIdentity(path) // perhaps that of a faster process
}

// Enrolled says whether the probe belongs to a fleet.
func (p *Probe) Enrolled() bool { return p.credential.Load() != nil }

// Subject is who the probe is; zero until it is enrolled.
func (p *Probe) Subject() Subject {
	if c := p.credential.Load(); c != nil {
		return c.subject
	}
	return Subject{}
}

// Addresses of controllers, host:port, to be tried in this order.
func (p *Probe) Addresses() []string {
	if c := p.credential.Load(); c != nil {
		return slices.Clone(c.addresses)
	}
	return nil
}

// TLS is the configuration for connections to a controller. Each handshake uses
// the newest certificate and bundle.
func (p *Probe) TLS() (*tls.Config, error) {
	if !p.Enrolled() {
		return nil, ErrNotEnrolled
	}
	return dynamicTLS(p.credential.Load, p.cfg.Now), nil
}

// Transport is TLS for gRPC.
func (p *Probe) Transport() (credentials.TransportCredentials, error) {
	t, err := p.TLS()
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(t), nil
}

// RenewIn is how long until the certificate should be renewed; 0 means now. A
// clock that was set back counts as now: nobody knows how long ago it was.
func (p *Probe) RenewIn() time.Duration {
	c := p.credential.Load()
	if c == nil {
		return 0
	}
	now := p.cfg.Now()
	if now.Before(c.received) {
		return 0
	}
	return max(0, c.renew.Sub(now))
}

// NeedsRecovery says whether the error of a call means that the certificate is
// of no use any more, so that only Recover helps.
func NeedsRecovery(err error) bool {
	d, ok := DenialOf(err)
	if !ok {
		return false
	}
	switch d.Reason {
	case CertificateExpired, CertificateSuperseded, CertificateUnknown, CertificateUntrusted:
		return true
	}
	return false
}

// Renew gets a certificate for a new key: call is ProbeService.Renew. The new
// one is durable before it is used, and the old one good until then.
func (p *Probe) Renew(ctx context.Context, call func(ctx context.Context, csr []byte) (*pb.IssuedCertificate, error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.credential.Load()
	if c == nil {
		return ErrNotEnrolled
	}
	csr, err := p.ask()
	if err != nil {
		return err
	}
	issued, err := call(ctx, csr)
	return p.take(issued, err, c.addresses)
}

// SetBundle replaces the CA certificates to trust by those that a controller
// sent over a connection of this probe.
func (p *Probe) SetBundle(der [][]byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.credential.Load()
	if c == nil {
		return ErrNotEnrolled
	}
	bundle, err := parseBundle(der)
	if err != nil {
		return err
	}
	if slices.EqualFunc(bundle, c.bundle, (*x509.Certificate).Equal) {
		return nil
	}
	changed := *c
	changed.bundle = bundle
	return p.keep(&changed)
}

func (p *Probe) keep(c *Credential) error {
	if err := c.Save(p.credentialPath()); err != nil {
		return fmt.Errorf("keep the certificate: %w", err)
	}
	p.credential.Store(c)
	return nil
}

// ask is the CSR for the next certificate.
func (p *Probe) ask() ([]byte, error) {
	if p.next == nil {
		r, err := NewRequest()
		if err != nil {
			return nil, err
		}
		p.next = r
	}
	return p.next.CSR()
}

// take checks and keeps what ask was for, or returns its error.
func (p *Probe) take(issued *pb.IssuedCertificate, err error, addresses []string) error {
	if d, ok := DenialOf(err); ok && d.Reason == KeyReused {
		p.next = nil // the next question is with another key
	}
	if err != nil {
		return err
	}
	c, err := p.next.Credential(issued, addresses, p.cfg.Now())
	if err == nil && c.subject.Kind != KindProbe {
		err = fmt.Errorf("a certificate of %s", c.subject)
	}
	if err != nil {
		return fmt.Errorf("the controller's answer: %w", err)
	}
	if err := p.keep(c); err != nil {
		return err
	}
	p.next = nil
	p.cfg.Logger.Info("certificate received", "subject", c.subject, "serial", serialOf(c.cert), "renew", c.renew)
	return nil
}
