package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// The format of a CA's file. All of it is one file, so that a root is never
// there without its key, and a rotation is done or not.

type caJSON struct {
	header
	Fleet    string    `json:"fleet"`
	Stage    Stage     `json:"stage"`
	Since    time.Time `json:"since"`
	Current  rootJSON  `json:"current"`
	Next     *rootJSON `json:"next,omitempty"`
	Previous string    `json:"previous,omitempty"` // certificate, PEM
}

type rootJSON struct {
	Certificate string `json:"certificate"` // PEM
	Key         string `json:"key"`         // PKCS #8, PEM
	Cross       string `json:"cross,omitempty"`
}

func (s *caState) marshal() ([]byte, error) {
	f := caJSON{Fleet: s.fleet, Stage: s.stage, Since: s.since}
	var err error
	if f.Current, err = s.current.marshal(); err != nil {
		return nil, err
	}
	if s.next != nil {
		next, err := s.next.marshal()
		if err != nil {
			return nil, err
		}
		f.Next = &next
	}
	if s.previous != nil {
		f.Previous = string(certPEM(s.previous))
	}
	return encodeFile(&f)
}

func (r root) marshal() (rootJSON, error) {
	key, err := r.key.pem()
	if err != nil {
		return rootJSON{}, err
	}
	j := rootJSON{Certificate: string(certPEM(r.cert)), Key: string(key)}
	if r.cross != nil {
		j.Cross = string(certPEM(r.cross))
	}
	return j, nil
}

// parseCA reads a CA's file and checks that its parts belong together. What is
// wrong must be found here: later it would show as probes that trust nobody.
func parseCA(data []byte) (*caState, error) {
	var f caJSON
	if err := decodeFile(data, &f); err != nil {
		return nil, err
	}
	if !ValidName(f.Fleet) {
		return nil, errors.New("there is no valid fleet id in it")
	}
	s := &caState{fleet: f.Fleet, stage: f.Stage, since: f.Since}
	var err error
	if s.current, err = f.Current.parse(); err != nil {
		return nil, fmt.Errorf("current root: %w", err)
	}
	if f.Next != nil {
		next, err := f.Next.parse()
		if err != nil {
			return nil, fmt.Errorf("next root: %w", err)
		}
		s.next = &next
	}
	if f.Previous != "" {
		if s.previous, err = parseCertPEM([]byte(f.Previous)); err != nil {
			return nil, fmt.Errorf("previous root: %w", err)
		}
	}
	return s, s.check()
}

func (j rootJSON) parse() (r root, err error) {
	if r.cert, err = parseCertPEM([]byte(j.Certificate)); err != nil {
		return root{}, err
	}
	if r.key, err = parseKeyPEM([]byte(j.Key)); err != nil {
		return root{}, err
	}
	if j.Cross != "" {
		if r.cross, err = parseCertPEM([]byte(j.Cross)); err != nil {
			return root{}, err
		}
	}
	hash, err := keyHash(r.key.reveal().Public())
	if err != nil {
		return root{}, err
	}
	if hash != pinOf(r.cert) || r.cross != nil && hash != pinOf(r.cross) {
		return root{}, errors.New("the key is not the certificate's")
	}
	return r, r.cert.CheckSignatureFrom(r.cert)
}

// check is about how the roots belong together.
func (s *caState) check() error {
	if s.stage < Steady || s.stage > Switched {
		return fmt.Errorf("stage %d is none", s.stage)
	}
	if (s.stage == Prepared) != (s.next != nil) {
		return errors.New("the next root does not fit the stage")
	}
	if s.stage == Switched && s.previous == nil {
		return errors.New("the previous root is missing")
	}
	if s.previous != nil {
		if err := crossed(s.current, s.previous); err != nil {
			return err
		}
	}
	if s.next != nil {
		return crossed(*s.next, s.current.cert)
	}
	return nil
}

func crossed(r root, by *x509.Certificate) error {
	if r.cross == nil {
		return errors.New("the certificate from the root before is missing")
	}
	return r.cross.CheckSignatureFrom(by)
}
