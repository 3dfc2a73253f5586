package origin

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
)

// Origin is what is known of an address.
type Origin struct {
	ASN     uint32 // 0: not known
	Country string // ISO 3166-1 alpha-2; "": not known
}

// Table looks addresses up in several files. It may be used by several
// goroutines. The nil Table knows nothing.
type Table struct {
	sources []source
}

// source is one file.
type source interface {
	lookup(a netip.Addr) Origin
	knows() Knows
}

// Knows is what a table can tell of some address. Prefix is the one it is
// announced in; only text tells it, as networks of a database are cut up.
type Knows struct{ AS, Country, Prefix bool }

// Open reads the files. What several know, the first of them tells. The errors
// name the file, and the line where there is one.
func Open(paths ...string) (*Table, error) {
	t := &Table{}
	for _, path := range paths {
		s, err := open(path)
		if err != nil {
			return nil, err
		}
		t.sources = append(t.sources, s)
	}
	return t, nil
}

// mmdbMagic stands before the metadata, in the last 128 KiB of the file
// (MaxMind DB file format specification 2.0).
const mmdbMagic = "\xab\xcd\xefMaxMind.com"

func open(path string) (source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	is, err := isMMDB(f)
	if err != nil {
		return nil, err
	}
	var s source
	if is {
		s, err = openMMDB(path)
	} else {
		s, err = readText(f)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Lookup is what is known of a; nothing of the zero address.
func (t *Table) Lookup(a netip.Addr) Origin {
	var o Origin
	if t == nil || !a.IsValid() {
		return o
	}
	a = a.WithZone("").Unmap()
	for _, s := range t.sources {
		p := s.lookup(a)
		o.ASN = cmp.Or(o.ASN, p.ASN)
		o.Country = cmp.Or(o.Country, p.Country)
	}
	return o
}

// Prefix is what a is announced in, the zero Prefix if that is not known.
func (t *Table) Prefix(a netip.Addr) netip.Prefix {
	if t == nil || !a.IsValid() {
		return netip.Prefix{}
	}
	a = a.WithZone("").Unmap()
	for _, s := range t.sources {
		if s, ok := s.(*text); ok {
			if p, _, ok := s.prefixes.LookupPrefixLPM(netip.PrefixFrom(a, a.BitLen())); ok {
				return p
			}
		}
	}
	return netip.Prefix{}
}

// Knows is what the table can tell.
func (t *Table) Knows() Knows {
	var k Knows
	if t == nil {
		return k
	}
	for _, s := range t.sources {
		k.AS = k.AS || s.knows().AS
		k.Country = k.Country || s.knows().Country
		k.Prefix = k.Prefix || s.knows().Prefix
	}
	return k
}

func isMMDB(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if info.IsDir() {
		return false, fmt.Errorf("%s is a directory", f.Name())
	}
	tail := make([]byte, min(info.Size(), 128<<10))
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return bytes.Contains(tail, []byte(mmdbMagic)), nil
}
