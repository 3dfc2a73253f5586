package identity

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "tfofleet/proto/tfofleet/v1"
)

const (
	// overlap is how long a probe's certificate is good after a newer one was
	// used. It is longer than a session, 60 min + 20 %: a probe that renews need
	// not drop the connections it has. An operator has none: a new certificate is
	// how the key of a lost one is ended.
	overlap = 90 * time.Minute
	// maxRecoveries a day, per probe. One is enough for a probe that was away; the
	// rest is for one whose disk keeps losing what it wrote. More is a thief or
	// a loop.
	maxRecoveries = 5
)

// Config of an Authority.
type Config struct {
	CA    *CA
	Store Store
	// Names are the DNS names and addresses of the controller, for programs
	// that look at them in its certificate. Probes do not.
	Names  []string
	Logger hclog.Logger     // nil means none
	Now    func() time.Time // nil means time.Now; records use the store's clock
}

// Authority decides who is who, for one controller.
type Authority struct {
	cfg    Config
	log    hclog.Logger
	live   *live
	server serverCert
}

// NewAuthority joins a CA and a store. Each must be of the other's fleet.
func NewAuthority(ctx context.Context, cfg Config) (*Authority, error) {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &Authority{cfg: cfg, log: cfg.Logger, live: newLive()}
	err := cfg.Store.Update(ctx, func(tx Tx) error {
		fleet, err := tx.Fleet()
		if errors.Is(err, ErrNotFound) {
			return tx.PutFleet(cfg.CA.Fleet())
		}
		if err == nil && fleet != cfg.CA.Fleet() {
			err = fmt.Errorf("the store is of fleet %s and the CA of fleet %s: give this controller the %s of the others, or restore it from a backup", fleet, cfg.CA.Fleet(), caFile)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	// A name that cannot be in a certificate is found now, not by the first
	// probe.
	if _, err := a.serverCertificate(); err != nil {
		return nil, fmt.Errorf("controller certificate: %w", err)
	}
	return a, nil
}

// Bundle is the roots that members are to trust, DER.
func (a *Authority) Bundle() [][]byte { return a.cfg.CA.Bundle() }

// give is the certificate for a member's key: the one whose reply was lost, or a
// new one after charge agreed.
func (a *Authority) give(tx Tx, m Member, public crypto.PublicKey, charge func() error) (*pb.IssuedCertificate, error) {
	if !m.Banned.IsZero() {
		return nil, banned(m)
	}
	c, err := again(tx, m, public)
	if errors.Is(err, ErrNotFound) {
		if err := charge(); err != nil {
			return nil, err
		}
		c, err = a.issue(tx, m, public)
	}
	if err != nil {
		return nil, err
	}
	return &pb.IssuedCertificate{
		Certificate: c.DER, Bundle: a.cfg.CA.Bundle(), ValidFor: durationpb.New(c.Expires.Sub(tx.Now())),
	}, nil
}

func free() error { return nil }

// again finds the certificate that m was given for the key and has not used, or
// ErrNotFound. A key that had a certificate otherwise is denied: every
// certificate has a key of its own.
func again(r Reader, m Member, public crypto.PublicKey) (Certificate, error) {
	hash, err := keyHash(public)
	if err != nil {
		return Certificate{}, err
	}
	c, err := r.CertificateByKey(hash)
	if err != nil {
		return Certificate{}, err
	}
	if c.Kind == m.Kind && c.Name == m.Name && c.State == Pending && r.Now().Before(c.Expires) {
		return c, nil
	}
	return Certificate{}, deny(KeyReused, "make a new key for every certificate")
}

// issue makes a certificate for a member and records it.
func (a *Authority) issue(tx Tx, m Member, public crypto.PublicKey) (Certificate, error) {
	hash, err := keyHash(public)
	if err != nil {
		return Certificate{}, err
	}
	life := ProbeLife
	if m.Kind == KindOperator {
		life = OperatorLife
	}
	now := tx.Now()
	cert, err := a.cfg.CA.now().issue(m.Kind, m.Name, public, now, life)
	if err != nil {
		return Certificate{}, err
	}
	c := Certificate{
		Serial: serialOf(cert), Kind: m.Kind, Name: m.Name, KeyHash: hash, State: Pending,
		Issued: now, Expires: cert.NotAfter, DER: cert.Raw,
	}
	return c, tx.PutCertificate(c)
}

func banned(m Member) *Denial {
	return deny(Banned, fmt.Sprintf("%s %s was banned: %s", m.Kind, m.Name, m.BanReason))
}
