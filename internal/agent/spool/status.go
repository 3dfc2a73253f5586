package spool

import (
	"encoding/binary"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Status is what `probe spool`, heartbeats and readiness tell.
type Status struct {
	ID          ID            `json:"id"`          // of the present run
	Depth       int           `json:"depth"`       // records not acknowledged, durable or not
	Unwritten   int           `json:"unwritten"`   // of these, in memory only
	Bytes       int64         `json:"bytes"`       // of all that is stored
	Limit       int64         `json:"limit"`       // for Bytes
	OldestAge   time.Duration `json:"oldest_ns"`   // of the oldest record not acknowledged
	Spooled     uint64        `json:"spooled"`     // highest sequence number that is durable
	Acked       uint64        `json:"acked"`       // no record up to here is left to be acknowledged
	Leases      int           `json:"leases"`      // in the journal
	Dropped     uint64        `json:"dropped"`     // records, ever
	Quarantined int           `json:"quarantined"` // records put aside now
	Refused     uint64        `json:"refused"`     // leases refused for want of room, ever
	Trouble     string        `json:"trouble"`     // why the file cannot be written; empty when it can
	Broken      bool          `json:"broken"`      // and never will, by this process
}

// creditShare of the limit may be taken when leases are asked for.
const creditShare = 0.8

// Credit reports whether there is room for more leases.
func (s *Spool) Credit() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unusable() == nil && s.trouble == nil && float64(s.bytes()) < creditShare*float64(s.cfg.Limit)
}

// bytes is called with the lock held.
func (s *Spool) bytes() int64 { return s.durable.bytes + s.weight }

// Status tells how the spool is.
func (s *Spool) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.durable.status()
	st.Limit, st.Bytes = s.cfg.Limit, s.bytes()
	st.Depth += len(s.fresh)
	st.Unwritten = len(s.fresh)
	st.Refused += s.refused
	if st.OldestAge == 0 && len(s.fresh) > 0 {
		st.OldestAge = time.Since(s.fresh[0].time)
	}
	if err := orElse(s.broken, s.trouble); err != nil {
		st.Trouble, st.Broken = err.Error(), s.broken != nil
	}
	return st
}

func (s *state) status() Status {
	st := Status{
		Depth: s.depth, Bytes: s.bytes, Spooled: s.last, Acked: s.last, Leases: len(s.leases),
		Dropped: s.counters.Dropped, Quarantined: s.quarantined, Refused: s.counters.Refused,
	}
	if n := len(s.runs); n > 0 {
		st.ID = s.runs[n-1].ID
	}
	if s.depth > 0 {
		st.Acked = s.first - 1
		st.OldestAge = max(0, time.Since(s.oldest)) // the clock may have been set back
	}
	return st
}

// Rejected is a record in quarantine.
type Rejected struct {
	Record Record
	Time   time.Time // of the rejection
	Reason string    // as the controller gave it
}

func rejectedBytes(at time.Time, reason string, record []byte) []byte {
	b := binary.AppendVarint(nil, at.UnixNano())
	b = binary.AppendUvarint(b, uint64(len(reason)))
	return seal(append(append(b, reason...), record...))
}

func rejectedOf(k, v []byte) (Rejected, error) {
	b, err := unseal(v)
	if err != nil {
		return Rejected{}, err
	}
	d := decoder{b: b}
	at := d.varint()
	reason := string(d.take(d.uvarint(1 << 62)))
	if d.err != nil {
		return Rejected{}, d.err
	}
	r, err := recordOf(k, d.b)
	return Rejected{r, time.Unix(0, at), reason}, err
}

// quarantined lists the rejected records, oldest first.
func quarantined(tx *bolt.Tx, st *state) (all []Rejected, err error) {
	for c, k, v := first(tx.Bucket(bucketQuarantine)); k != nil; k, v = c.Next() {
		r, err := rejectedOf(k, v)
		if err != nil {
			return nil, &badValue{bucketQuarantine, slices.Clone(k), err}
		}
		r.Record.Key.Spool = st.idOf(r.Record.Key.Sequence)
		all = append(all, r)
	}
	return all, nil
}

// Inspect reads the spool of a probe that does not run. While one runs the
// error is [ErrLocked], and the probe itself has to be asked. Limit and Trouble
// are not known.
func Inspect(path string) (st Status, rejected []Rejected, err error) {
	err = readFile(path, func(tx *bolt.Tx) error {
		s, err := load(tx)
		if err != nil {
			return err
		}
		st = s.status()
		rejected, err = quarantined(tx, s)
		return err
	})
	return st, rejected, err
}
