package identity

import (
	"crypto/sha256"
	"fmt"
	"time"
)

// Stage is where a rotation of the CA stands. The values are in its file.
type Stage uint8

const (
	// Steady: one root.
	Steady Stage = 1
	// Prepared: the next root is trusted and does not sign yet. It lasts until
	// every controller has the file.
	Prepared Stage = 2
	// Switched: the new root signs, the old one is still trusted. It lasts until
	// the last certificate of the old one has run out.
	Switched Stage = 3
)

func (s Stage) String() string {
	switch s {
	case Steady:
		return "steady"
	case Prepared:
		return "prepared"
	case Switched:
		return "switched"
	}
	return fmt.Sprintf("Stage(%d)", uint8(s))
}

// TooEarlyError: certificates of the old root are still good.
type TooEarlyError struct{ Until time.Time }

func (e *TooEarlyError) Error() string {
	return "certificates of the old root are good until " + e.Until.UTC().Format(time.RFC3339)
}

// Stage is where the rotation stands, and since when.
func (ca *CA) Stage() (Stage, time.Time) {
	s := ca.now()
	return s.stage, s.since
}

// Advance takes the rotation one step on; three of them exchange the root:
//
//	Steady -> Prepared -> Switched -> Steady
//
// The last one is refused with a TooEarlyError while certificates of the old
// root are good. Stolen drops the old root at once, together with everybody who
// was not connected since Prepared: they have to join again. Without it they
// find the new root by themselves however long they were away, for as long as
// the old one would have lasted.
func (ca *CA) Advance(now time.Time, stolen bool) error {
	ca.write.Lock()
	defer ca.write.Unlock()
	s, err := ca.read() // another process may have been here
	if err != nil {
		return err
	}
	if err := s.advance(now, stolen); err != nil {
		return err
	}
	data, err := s.marshal()
	if err != nil {
		return err
	}
	if err := replacePrivate(ca.path, data); err != nil {
		return err
	}
	s.file = sha256.Sum256(data)
	ca.set(s)
	return nil
}

func (s *caState) advance(now time.Time, stolen bool) error {
	switch s.stage {
	case Steady:
		next, err := newRoot(s.fleet, now)
		if err != nil {
			return err
		}
		if next.cross, err = crossSign(next, s.current, now); err != nil {
			return err
		}
		s.stage, s.next = Prepared, &next
	case Prepared:
		s.stage, s.previous, s.current, s.next = Switched, s.current.cert, *s.next, nil
	case Switched:
		if until := s.since.Add(max(OperatorLife, ProbeLife, ServerLife)); now.Before(until) && !stolen {
			return &TooEarlyError{until}
		}
		s.stage = Steady
		if stolen {
			s.previous, s.current.cross = nil, nil
		}
	}
	s.since = now
	return nil
}
