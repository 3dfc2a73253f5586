package spool

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// state is what of the file is kept in memory: all but offers and records.
type state struct {
	runs        []run // by first
	leases      map[Lease]*lease
	queued      map[Lease]int // records in the queue, also of leases that are not in the journal
	depth       int           // records in the queue
	quarantined int           // records put aside
	bytes       int64         // keys and values of the queue, the quarantine and the leases
	first       uint64        // of the queue, 0 when it is empty
	oldest      time.Time
	last        uint64 // highest sequence number given
	counters    counters
}

// counters are what would be forgotten otherwise.
type counters struct {
	Acked   uint64 `json:"acked"` // highest sequence number acknowledged
	Dropped uint64 `json:"dropped"`
	Refused uint64 `json:"refused"`
}

// run is the time from one opening of the file to the next. Its records have
// its id.
type run struct {
	First  uint64 `json:"-"` // sequence number of its first record
	ID     ID     `json:"id"`
	Boot   string `json:"boot"`   // boot id of the machine
	Closed bool   `json:"closed"` // by Close
}

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) error {
	if len(b) != 2*len(id) {
		return errors.New("not a spool id")
	}
	_, err := hex.Decode(id[:], b)
	return err
}

// ParseID is the inverse of String.
func ParseID(s string) (id ID, err error) {
	err = id.UnmarshalText([]byte(s))
	return id, err
}

func sequenceKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
func sequenceOf(k []byte) uint64  { return binary.BigEndian.Uint64(k) }

func sealJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // numbers and strings
	}
	return seal(b)
}

func unsealJSON(b []byte, v any) error {
	b, err := unseal(b)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// idOf is the id of the run that a sequence number belongs to.
func (s *state) idOf(sequence uint64) ID {
	i, ok := slices.BinarySearchFunc(s.runs, sequence, func(r run, n uint64) int {
		switch {
		case r.First < n:
			return -1
		case r.First > n:
			return 1
		}
		return 0
	})
	if !ok {
		i--
	}
	if i < 0 {
		return ID{}
	}
	return s.runs[i].ID
}

// size is what a key and a value count for.
func size(key, value []byte) int { return len(key) + len(value) }

// load reads the whole file. The error is a *badValue or ErrNewer.
func load(tx *bolt.Tx) (*state, error) {
	for _, name := range buckets {
		if tx.Bucket(name) == nil {
			return nil, &badValue{name, nil, errors.New("the bucket is missing")}
		}
	}
	if v, err := unseal(tx.Bucket(bucketState).Get(formatKey)); err != nil {
		return nil, &badValue{bucketState, formatKey, err}
	} else if len(v) != 1 || v[0] != format {
		return nil, fmt.Errorf("format %x: %w", v, ErrNewer)
	}
	s := &state{leases: make(map[Lease]*lease), queued: make(map[Lease]int), last: tx.Bucket(bucketQueue).Sequence()}
	each := func(bucket []byte, f func(k, v []byte) error) error {
		return tx.Bucket(bucket).ForEach(func(k, v []byte) error {
			if err := f(k, v); err != nil {
				return &badValue{bucket, slices.Clone(k), err}
			}
			return nil
		})
	}
	return s, errors.Join(
		each(bucketState, func(k, v []byte) error {
			if bytes.Equal(k, counterKey) {
				return unsealJSON(v, &s.counters)
			}
			return nil
		}),
		each(bucketRuns, func(k, v []byte) error {
			if len(k) != 8 {
				return errors.New("not a sequence number")
			}
			r := run{First: sequenceOf(k)}
			s.runs = append(s.runs, r)
			return unsealJSON(v, &s.runs[len(s.runs)-1])
		}),
		each(bucketLeases, func(k, v []byte) error {
			name, err := leaseOf(k)
			if err != nil {
				return err
			}
			l := &lease{}
			if l.targets, _, err = parseOffer(v); err != nil {
				return err
			}
			marks := tx.Bucket(bucketMarks).Get(k)
			l.bytes = size(k, v) + size(k, marks)
			s.bytes += int64(l.bytes)
			s.leases[name] = l
			return l.setMarks(marks)
		}),
		each(bucketQueue, func(k, v []byte) error {
			r, err := recordOf(k, v)
			if err != nil {
				return err
			}
			if s.depth == 0 {
				s.first, s.oldest = r.Key.Sequence, r.Time
			}
			s.depth++
			s.bytes += int64(size(k, v))
			s.queued[r.Lease]++
			return nil
		}),
		each(bucketQuarantine, func(k, v []byte) error {
			_, err := rejectedOf(k, v)
			s.quarantined++
			s.bytes += int64(size(k, v))
			return err
		}),
	)
}

// recordOf reads a record of the queue, without the id of its key.
func recordOf(k, v []byte) (Record, error) {
	var r Record
	if len(k) != 8 {
		return r, errors.New("not a sequence number")
	}
	err := r.unmarshal(v)
	r.Key.Sequence = sequenceOf(k)
	return r, err
}
