package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// Lease names a lease: a chunk of a survey, at one epoch.
type Lease struct {
	Survey string
	Chunk  uint32
	Epoch  uint64
}

func (l Lease) String() string { return fmt.Sprintf("%s/%d/%d", l.Survey, l.Chunk, l.Epoch) }

// key is the lease as a key of a bucket.
func (l Lease) key() []byte {
	b := make([]byte, 0, 12+len(l.Survey))
	b = binary.BigEndian.AppendUint32(b, l.Chunk)
	b = binary.BigEndian.AppendUint64(b, l.Epoch)
	return append(b, l.Survey...)
}

func leaseOf(key []byte) (Lease, error) {
	if len(key) < 12 {
		return Lease{}, errors.New("a lease without a name")
	}
	return Lease{Survey: string(key[12:]), Chunk: binary.BigEndian.Uint32(key), Epoch: binary.BigEndian.Uint64(key[4:])}, nil
}

// maxIndex bounds the index of a target in its chunk.
const maxIndex = 1 << 16

// set is a set of indexes, one bit each.
type set []byte

func newSet(size int) set { return make(set, (size+7)/8) }

func (s set) has(i uint32) bool { return int(i/8) < len(s) && s[i/8]&(1<<(i%8)) != 0 }
func (s set) add(i uint32)      { s[i/8] |= 1 << (i % 8) }

// covers reports whether every member of t is one of s. Both have one length.
func (s set) covers(t set) bool {
	for i, b := range t {
		if b&^s[i] != 0 {
			return false
		}
	}
	return true
}

// list returns the members for which keep is true, ascending.
func (s set) list(keep func(uint32) bool) []uint32 {
	var out []uint32
	for i, b := range s {
		for ; b != 0; b &= b - 1 {
			if n := uint32(8*i + bits.TrailingZeros8(b)); keep(n) {
				out = append(out, n)
			}
		}
	}
	return out
}

// lease is what the journal knows of a lease.
type lease struct {
	targets set
	started set
	settled set  // has a record
	dirty   bool // started or settled has changed
	bytes   int  // in the file
}

func (l *lease) clone() *lease {
	c := *l
	c.started, c.settled = append(set(nil), l.started...), append(set(nil), l.settled...)
	return &c
}

// marks is the part of a lease that changes.
func (l *lease) marks() []byte {
	return seal(append(append(make([]byte, 0, 2*len(l.started)+4), l.started...), l.settled...))
}

func (l *lease) setMarks(b []byte) error {
	b, err := unseal(b)
	if err != nil {
		return err
	}
	n := len(l.targets)
	if len(b) != 2*n {
		return errors.New("the marks of a lease do not fit it")
	}
	l.started, l.settled = append(set(nil), b[:n]...), append(set(nil), b[n:]...)
	return nil
}

// offerBytes holds the targets of a lease and the offer, which do not change.
func offerBytes(targets set, offer []byte) []byte {
	b := binary.AppendUvarint(make([]byte, 0, len(targets)+len(offer)+8), uint64(len(targets)))
	return seal(append(append(b, targets...), offer...))
}

func parseOffer(b []byte) (targets set, offer []byte, err error) {
	b, err = unseal(b)
	if err != nil {
		return nil, nil, err
	}
	n, w := binary.Uvarint(b)
	if w <= 0 || n > maxIndex/8 || int(n) > len(b)-w {
		return nil, nil, errors.New("a lease without its targets")
	}
	return append(set(nil), b[w:w+int(n)]...), append([]byte(nil), b[w+int(n):]...), nil
}
