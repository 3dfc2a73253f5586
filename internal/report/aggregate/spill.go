package aggregate

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"io"
	"net/netip"
	"os"
	"slices"

	"tfofleet/internal/measure"
	"tfofleet/internal/report/blame"
)

// A target is the same in several datasets when its port is, and its name or,
// without one, its address. Of a name that one list has more than once, as for
// several addresses of it, the address has to be the same as well. Each list has an order of its own, so what was seen
// is spread over temporary files by target, as in a hash join, and each file is
// small enough to be sorted in memory.

const (
	spillRows  = 200_000 // rows of a part, about
	spillParts = 256     // at most
)

// spill is the files of one scan; each worker writes its own.
type spill struct {
	dir   string
	parts int
	seed  maphash.Seed
}

// newSpill makes a place for about so many rows.
func newSpill(rows int) (*spill, error) {
	dir, err := os.MkdirTemp("", "tfofleet-report-")
	if err != nil {
		return nil, err
	}
	return &spill{dir, min(max(rows/spillRows, 1), spillParts), maphash.MakeSeed()}, nil
}

func (s *spill) remove() { os.RemoveAll(s.dir) }

func (s *spill) path(worker, part int) string {
	return fmt.Sprintf("%s/%d.%d", s.dir, worker, part)
}

// spiller writes the rows of one worker.
type spiller struct {
	s     *spill
	files []*os.File
	parts []*bufio.Writer
	key   []byte
	row   []byte
}

func (s *spill) writer(worker int) (*spiller, error) {
	w := &spiller{s: s}
	for part := range s.parts {
		f, err := os.Create(s.path(worker, part))
		if err != nil {
			w.close()
			return nil, err
		}
		w.files = append(w.files, f)
		w.parts = append(w.parts, bufio.NewWriterSize(f, 32<<10))
	}
	return w, nil
}

// close ends the writing.
func (w *spiller) close() error {
	var first error
	for i, f := range w.files {
		first = cmp.Or(first, w.parts[i].Flush(), f.Close())
	}
	w.files = nil
	return first
}

// add writes what was seen of a target.
func (w *spiller) add(of []seen) error {
	for i := range of {
		s := &of[i]
		w.key = s.name.appendKey(w.key[:0])
		part := maphash.Bytes(w.s.seed, w.key) % uint64(w.s.parts)
		w.row = binary.AppendUvarint(w.row[:0], uint64(len(w.key)))
		w.row = append(w.row, w.key...)
		w.row = binary.AppendUvarint(w.row, uint64(s.dataset))
		w.row = binary.AppendUvarint(w.row, s.item)
		w.row = binary.AppendUvarint(w.row, uint64(s.Vantage))
		w.row = append(w.row, byte(s.Verdict), byte(s.verdict), byte(s.Near), 0)
		if s.Copy {
			w.row[len(w.row)-1] = 1
		}
		w.row = binary.AppendVarint(w.row, s.name.started)
		addr := s.name.Addr.AsSlice() // a name's address is not in its key
		w.row = append(append(w.row, byte(len(addr))), addr...)
		if _, err := w.parts[part].Write(w.row); err != nil {
			return err
		}
	}
	return nil
}

// appendKey writes what makes a target the same everywhere.
func (t *Target) appendKey(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, t.Port)
	if t.Hostname != "" {
		return append(b, t.Hostname...)
	}
	return append(append(b, 0), t.Addr.AsSlice()...) // no name begins with 0
}

// each tells the targets of one part.
func (s *spill) each(workers, part int, tell judge) error {
	var rows []seen
	for w := range workers {
		more, err := s.read(rows, s.path(w, part))
		if err != nil {
			return err
		}
		rows = more
	}
	compare := func(a, b *seen) int {
		return cmp.Or(cmp.Compare(a.name.Port, b.name.Port), cmp.Compare(a.name.Hostname, b.name.Hostname), a.name.listed().Compare(b.name.listed()))
	}
	slices.SortFunc(rows, func(a, b seen) int {
		return cmp.Or(compare(&a, &b), cmp.Compare(a.dataset, b.dataset), cmp.Compare(a.Vantage, b.Vantage), cmp.Compare(a.item, b.item))
	})
	return eachTarget(rows, func(a, b *seen) bool { return compare(a, b) == 0 }, func(of []seen) error { return eachAddress(of, tell) })
}

// eachAddress tells what was seen of one name and port: as one target, or, if
// one dataset has it as several items, by address.
func eachAddress(of []seen, tell judge) error {
	several := false
	for i := range of[1:] {
		several = several || of[i].dataset == of[i+1].dataset && of[i].item != of[i+1].item
	}
	if !several {
		return tell(of)
	}
	// An item is one target, whatever it resolved to for each vantage point.
	type item struct {
		dataset uint32
		number  uint64
	}
	addrs := map[item]netip.Addr{}
	for i := range of {
		k := item{of[i].dataset, of[i].item}
		if a := of[i].name.Addr; a.IsValid() && (!addrs[k].IsValid() || a.Less(addrs[k])) {
			addrs[k] = a
		}
	}
	addr := func(s *seen) netip.Addr { return addrs[item{s.dataset, s.item}] }
	slices.SortStableFunc(of, func(a, b seen) int { return addr(&a).Compare(addr(&b)) })
	return eachTarget(of, func(a, b *seen) bool { return addr(a) == addr(b) }, tell)
}

// listed is the address of a target that has no name: the list has it.
func (t *Target) listed() netip.Addr {
	if t.Hostname != "" {
		return netip.Addr{}
	}
	return t.Addr
}

func (s *spill) read(rows []seen, path string) ([]seen, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 256<<10)
	for {
		n, err := binary.ReadUvarint(r)
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
		row, err := readSeen(r, int(n))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		rows = append(rows, row)
	}
}

func readSeen(r *bufio.Reader, size int) (seen, error) {
	key := make([]byte, size)
	if _, err := io.ReadFull(r, key); err != nil {
		return seen{}, err
	}
	var numbers [3]uint64
	for i := range numbers {
		var err error
		if numbers[i], err = binary.ReadUvarint(r); err != nil {
			return seen{}, err
		}
	}
	var fixed [4]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return seen{}, err
	}
	started, err := binary.ReadVarint(r)
	if err != nil {
		return seen{}, err
	}
	bytes, err := r.ReadByte()
	if err != nil {
		return seen{}, err
	}
	addr := make([]byte, bytes)
	if _, err := io.ReadFull(r, addr); err != nil {
		return seen{}, err
	}
	n := &name{Target{Dataset: int(numbers[0]), Item: numbers[1], Port: binary.BigEndian.Uint16(key)}, started}
	n.Addr, _ = netip.AddrFromSlice(addr)
	if len(key) > 2 && key[2] != 0 {
		n.Hostname = string(key[2:])
	}
	return seen{
		item: n.Item, dataset: uint32(n.Dataset), verdict: measure.Verdict(fixed[1]), name: n,
		Observation: blame.Observation{Vantage: uint32(numbers[2]), Verdict: measure.Verdict(fixed[0]), Near: blame.Near(fixed[2]), Copy: fixed[3] != 0},
	}, nil
}
