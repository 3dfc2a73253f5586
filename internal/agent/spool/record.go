package spool

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// ID names a spool, from one opening to the next.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Key is the permanent name of a record. The zero Key is of no record.
type Key struct {
	Spool    ID
	Sequence uint64 // from 1
}

// Kind says what a record is. Values are stored and only ever added.
type Kind uint8

const (
	KindResult Kind = 1 // what became of targets of a lease
	KindEvent  Kind = 2 // something that happened to the probe itself, see Event
	// KindGap stands for records that were dropped. That of a lease has the
	// Items whose results were in them, that of the zero Lease says how many
	// were Lost in all, of every lease and of none.
	KindGap Kind = 3
)

var kindNames = [...]string{KindResult: "result", KindEvent: "event", KindGap: "gap"}

func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Record is what is sent and acknowledged as one: one result, or a batch of
// results of one lease, or one event.
type Record struct {
	Key   Key       // given when it becomes durable
	Time  time.Time // when it was appended, by the clock of the probe
	Kind  Kind
	Lease Lease // zero when it is about none
	// Items are the targets it settles, by index in the chunk, ascending:
	// measured, refused, interrupted, or given back.
	Items []uint32
	Lost  uint64 // of a gap of the zero Lease
	Data  []byte // as it was appended
}

// MaxData bounds Record.Data and the offer of a lease: they travel in one
// message, which has a limit of 4 MiB.
const MaxData = 4<<20 - 64<<10

const recordVersion = 1

var (
	errShort   = errors.New("it ends too early")
	errSum     = errors.New("its checksum is wrong")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// seal appends the checksum of b: bbolt has none for what it stores.
func seal(b []byte) []byte { return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)) }

func unseal(b []byte) ([]byte, error) {
	n := len(b) - 4
	if n < 0 {
		return nil, errShort
	}
	if crc32.Checksum(b[:n], castagnoli) != binary.BigEndian.Uint32(b[n:]) {
		return nil, errSum
	}
	return b[:n], nil
}

// marshal encodes all of the record but its key.
func (r *Record) marshal() []byte {
	b := make([]byte, 0, 64+len(r.Lease.Survey)+3*len(r.Items)+len(r.Data))
	b = append(b, recordVersion, byte(r.Kind))
	b = binary.AppendVarint(b, r.Time.UnixNano())
	b = binary.AppendUvarint(b, uint64(len(r.Lease.Survey)))
	b = append(b, r.Lease.Survey...)
	b = binary.AppendUvarint(b, uint64(r.Lease.Chunk))
	b = binary.AppendUvarint(b, r.Lease.Epoch)
	b = binary.AppendUvarint(b, r.Lost)
	b = binary.AppendUvarint(b, uint64(len(r.Items)))
	before := uint32(0)
	for _, i := range r.Items {
		b = binary.AppendUvarint(b, uint64(i-before))
		before = i
	}
	return seal(append(b, r.Data...))
}

// unmarshal is the inverse of marshal. The record does not share memory with b.
func (r *Record) unmarshal(b []byte) error {
	b, err := unseal(b)
	if err != nil {
		return err
	}
	if len(b) < 2 {
		return errShort
	}
	if b[0] != recordVersion {
		return fmt.Errorf("its version is %d, of a newer probe", b[0])
	}
	kind := Kind(b[1])
	d := decoder{b: b[2:]}
	at := d.varint()
	survey := string(d.take(d.uvarint(MaxData)))
	chunk, epoch := d.uvarint(1<<32-1), d.uvarint(1<<64-1)
	lost := d.uvarint(1<<64 - 1)
	n := d.uvarint(maxIndex)
	items := make([]uint32, 0, min(n, uint64(len(d.b))))
	last := uint64(0)
	for i := uint64(0); i < n && d.err == nil; i++ {
		step := d.uvarint(maxIndex - 1)
		if i > 0 && step == 0 || last+step >= maxIndex {
			return errors.New("its items are not in order")
		}
		last += step
		items = append(items, uint32(last))
	}
	if d.err != nil {
		return d.err
	}
	*r = Record{
		Time: time.Unix(0, at), Kind: kind, Lease: Lease{survey, uint32(chunk), epoch}, Lost: lost,
		Items: items, Data: append([]byte(nil), d.b...),
	}
	return nil
}

// decoder reads from the front of b; after an error everything is zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	return d.checked(v, n, v <= limit)
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	return int64(d.checked(uint64(v), n, true))
}

func (d *decoder) checked(v uint64, n int, within bool) uint64 {
	if d.err == nil && (n <= 0 || !within) {
		d.err = errors.New("a number in it is out of range")
	}
	if d.err != nil {
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) take(n uint64) []byte {
	if d.err == nil && n > uint64(len(d.b)) {
		d.err = errShort
	}
	if d.err != nil {
		return nil
	}
	head := d.b[:n]
	d.b = d.b[n:]
	return head
}
