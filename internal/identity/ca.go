package identity

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// caFile is the file of a CA in its directory.
const caFile = "ca.json"

// CA is the certificate authority of a fleet: one file with the root and its
// key, and during a rotation a second root. Controllers that share a fleet have
// the same file.
type CA struct {
	path  string
	write sync.Mutex // held over a change of the file
	mu    sync.RWMutex
	state *caState // never changed, only exchanged
}

// caState is what the file says.
type caState struct {
	file  Hash // of its bytes
	fleet string
	stage Stage
	since time.Time // of the stage
	// current signs.
	current root
	// next is trusted already, and signs after the next Advance. Stage Prepared
	// only.
	next *root
	// previous signed before; its key is gone. It is trusted in the stage
	// Switched. Later it is still shown, with current.cross, to probes that
	// know nothing newer.
	previous *x509.Certificate
}

// root is a self-signed certificate and its key.
type root struct {
	cert *x509.Certificate
	key  privateKey
	// cross is the same name and key, signed by the root before: it leads those
	// who trust only that one to this one. Nil for the first.
	cross *x509.Certificate
}

// OpenCA opens the CA in the directory, and makes it if there is none.
func OpenCA(dir string, now time.Time) (*CA, error) {
	ca := &CA{path: filepath.Join(dir, caFile)}
	s, err := ca.read()
	if errors.Is(err, fs.ErrNotExist) {
		if err := ca.create(now); err != nil {
			return nil, fmt.Errorf("make the CA: %w", err)
		}
		s, err = ca.read()
	}
	if err != nil {
		return nil, err
	}
	ca.set(s)
	return ca, nil
}

// OpenCAOf is OpenCA for the fleet of a store: where that has one already, a CA
// that is not there is missed, and none is made in its place.
func OpenCAOf(ctx context.Context, store Store, dir string, now time.Time) (*CA, error) {
	path := filepath.Join(dir, caFile)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		err := store.View(ctx, func(r Reader) error {
			fleet, err := r.Fleet()
			if err == nil {
				err = fmt.Errorf("the store is of fleet %s and there is no %s: give this controller the %s of the others, or restore it from a backup", fleet, path, caFile)
			}
			return err
		})
		if !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	return OpenCA(dir, now)
}

// Reload reads the file again, which may have been exchanged for that of another
// controller. On an error the CA stays as it is.
func (ca *CA) Reload() error {
	ca.write.Lock()
	defer ca.write.Unlock()
	s, err := ca.read()
	if err != nil {
		return err
	}
	if s.file == ca.now().file {
		return nil // and the controller's certificate is still the newest
	}
	if fleet := ca.Fleet(); s.fleet != fleet {
		return fmt.Errorf("%s is of fleet %s, this is fleet %s", ca.path, s.fleet, fleet)
	}
	ca.set(s)
	return nil
}

func (ca *CA) read() (*caState, error) {
	data, err := readPrivate(ca.path)
	if err != nil {
		return nil, err
	}
	s, err := parseCA(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; restore it from a backup: with a new one every probe has to join again", ca.path, err)
	}
	s.file = sha256.Sum256(data)
	return s, nil
}

func (ca *CA) create(now time.Time) error {
	fleet, err := newFleet()
	if err != nil {
		return err
	}
	r, err := newRoot(fleet, now)
	if err != nil {
		return err
	}
	data, err := (&caState{fleet: fleet, stage: Steady, since: now, current: r}).marshal()
	if err != nil {
		return err
	}
	if err := createPrivate(ca.path, data); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil // another process was faster; its CA is as good
}

func (ca *CA) now() *caState {
	ca.mu.RLock()
	defer ca.mu.RUnlock()
	return ca.state
}

func (ca *CA) set(s *caState) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.state = s
}

// Fleet is the id of the fleet, a random name.
func (ca *CA) Fleet() string { return ca.now().fleet }

// Pin is what a join token pins: the hash of the signing root's key.
func (ca *CA) Pin() Hash { return pinOf(ca.now().current.cert) }

// Bundle is the roots to trust, DER.
func (ca *CA) Bundle() [][]byte {
	var der [][]byte
	for _, c := range ca.now().trusted() {
		der = append(der, c.Raw)
	}
	return der
}

func pinOf(c *x509.Certificate) Hash { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

func (s *caState) trusted() []*x509.Certificate {
	certs := []*x509.Certificate{s.current.cert}
	if s.next != nil {
		certs = append(certs, s.next.cert)
	}
	if s.stage == Switched {
		certs = append(certs, s.previous)
	}
	return certs
}

func (s *caState) pool() *x509.CertPool { return poolOf(s.trusted()) }

func poolOf(certs []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool
}

// chain is what a controller shows after its own certificate. The roots are in
// it: who has only a pin finds there what the pin is of.
func (s *caState) chain() [][]byte {
	der := [][]byte{s.current.cert.Raw}
	if s.previous != nil {
		der = append(der, s.current.cross.Raw, s.previous.Raw)
	}
	return der
}
