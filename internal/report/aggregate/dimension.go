package aggregate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/gaissmai/bart"
	"golang.org/x/net/publicsuffix"

	"tfofleet/internal/dataset"
	"tfofleet/internal/report/origin"
)

// dimension turns the rows of a batch into codes of one property. Codes are the
// same for all workers.
type dimension struct {
	columns dataset.Columns
	// of is the code of all rows of a batch, for a property that is the same
	// for all; else nil.
	of func(b *dataset.Batch) uint64
	// fill writes the code of each row.
	fill func(w *worker, b *dataset.Batch, out []uint64)
	name func(code uint64) string
	// byName: groups of equal size are in the order of their names, not codes.
	byName bool
}

// noCode is the code of a row that does not have the property.
const noCode = 0

// Unknown is the name of the group of what a property is not known of.
const Unknown = "unknown"

var errNoOrigin = errors.New("nothing tells the")

// ErrNoOrigin reports whether an error of [Run] says that Query.Origin does not
// tell what was asked for.
func ErrNoOrigin(err error) bool { return errors.Is(err, errNoOrigin) }

// newDimension makes the dimension of a key.
func newDimension(k Key, q *Query, s *scene) (*dimension, error) {
	switch k {
	case KeyProbe:
		return &dimension{of: func(b *dataset.Batch) uint64 { return uint64(s.vantage(b)) }, name: func(c uint64) string { return s.vantages[c] }, byName: true}, nil
	case KeyKernel:
		words := &numbering[string]{}
		return &dimension{of: func(b *dataset.Batch) uint64 { return words.code(s.kernel(b)) }, name: words.of, byName: true}, nil
	case KeyDataset:
		return &dimension{of: func(b *dataset.Batch) uint64 { return uint64(b.Dir) }, name: func(c uint64) string { return s.datasets[c] }, byName: true}, nil
	case KeyPort:
		return &dimension{columns: dataset.ColPort, fill: func(_ *worker, b *dataset.Batch, out []uint64) {
			for i, p := range b.Port {
				out[i] = uint64(p)
			}
		}, name: func(c uint64) string { return strconv.FormatUint(c, 10) }}, nil
	case KeyFamily:
		return &dimension{columns: dataset.ColFamily, fill: func(_ *worker, b *dataset.Batch, out []uint64) {
			for i, f := range b.Family {
				out[i] = uint64(f)
			}
		}, name: familyName}, nil
	case KeyPrefix:
		switch {
		case len(q.Prefixes) > 0:
			return givenPrefixes(q.Prefixes), nil
		case q.Origin.Knows().Prefix:
			return announcedPrefixes(q.Origin), nil
		}
		return blocks(), nil
	case KeyAS:
		if !q.Origin.Knows().AS {
			return nil, fmt.Errorf("%w AS", errNoOrigin)
		}
		return &dimension{columns: dataset.ColAddr, fill: func(w *worker, b *dataset.Batch, out []uint64) {
			for i, o := range w.origins(b) {
				out[i] = uint64(o.ASN)
			}
		}, name: asName}, nil
	case KeyCountry:
		if !q.Origin.Knows().Country {
			return nil, fmt.Errorf("%w country", errNoOrigin)
		}
		return &dimension{columns: dataset.ColAddr, fill: func(w *worker, b *dataset.Batch, out []uint64) {
			for i, o := range w.origins(b) {
				out[i] = noCode
				if len(o.Country) == 2 {
					out[i] = uint64(o.Country[0])<<8 | uint64(o.Country[1])
				}
			}
		}, name: countryName}, nil
	case KeySuffix:
		return suffixes(q.SuffixLabels), nil
	}
	return nil, fmt.Errorf("%q is nothing to group by", k)
}

func familyName(code uint64) string {
	switch code {
	case 4:
		return "ipv4"
	case 6:
		return "ipv6"
	}
	return "none"
}

func asName(code uint64) string {
	if code == noCode {
		return Unknown
	}
	return "AS" + strconv.FormatUint(code, 10)
}

func countryName(code uint64) string {
	if code == noCode {
		return Unknown
	}
	return string([]byte{byte(code >> 8), byte(code)})
}

// What a target has that is in the list as an address, or that has none.
const (
	noName    = "address"
	noAddress = "none"
	noPrefix  = "other" // than the prefixes asked for
)

// v6Code marks the code of an IPv6 prefix, of which the other bits are the
// first 48.
const v6Code = 1 << 63

// blocks groups by /24 and /48.
func blocks() *dimension {
	return &dimension{columns: dataset.ColAddr, fill: func(_ *worker, b *dataset.Batch, out []uint64) {
		for i, a := range b.Addr {
			a = a.Unmap()
			switch {
			case a.Is4():
				v := a.As4()
				out[i] = 1 + uint64(binary.BigEndian.Uint32(v[:])>>8)
			case a.Is6():
				v := a.As16()
				out[i] = v6Code | binary.BigEndian.Uint64(v[:8])>>16
			default:
				out[i] = noCode
			}
		}
	}, name: func(code uint64) string {
		switch {
		case code == noCode:
			return noAddress
		case code&v6Code != 0:
			var v [16]byte
			binary.BigEndian.PutUint64(v[:], code<<16)
			return netip.PrefixFrom(netip.AddrFrom16(v), 48).String()
		}
		var v [4]byte
		binary.BigEndian.PutUint32(v[:], uint32(code-1)<<8)
		return netip.PrefixFrom(netip.AddrFrom4(v), 24).String()
	}}
}

func givenPrefixes(given []netip.Prefix) *dimension {
	t := &bart.Table[uint64]{}
	for i, p := range given {
		t.Insert(p.Masked(), uint64(i+1))
	}
	return &dimension{columns: dataset.ColAddr, fill: func(_ *worker, b *dataset.Batch, out []uint64) {
		for i, a := range b.Addr {
			out[i] = noCode
			if a.IsValid() {
				out[i], _ = t.Lookup(a.Unmap())
			}
		}
	}, name: func(code uint64) string {
		if code == noCode {
			return noPrefix
		}
		return given[code-1].Masked().String()
	}}
}

// announcedPrefixes groups by those that addresses are announced in.
func announcedPrefixes(t *origin.Table) *dimension {
	numbers := &numbering[netip.Prefix]{}
	return &dimension{columns: dataset.ColAddr, fill: func(_ *worker, b *dataset.Batch, out []uint64) {
		for i, a := range b.Addr {
			out[i] = numbers.code(t.Prefix(a))
		}
	}, name: func(code uint64) string {
		if p := numbers.of(code); p.IsValid() {
			return p.String()
		}
		return Unknown
	}, byName: true}
}

// suffixes groups by the last labels of a name, or by its public suffix.
func suffixes(labels int) *dimension {
	words := &numbering[string]{}
	return &dimension{columns: dataset.ColHostname, fill: func(_ *worker, b *dataset.Batch, out []uint64) {
		for i := range out {
			out[i] = words.code(strings.ToLower(suffix(b.Hostname.At(i), labels)))
		}
	}, name: words.of, byName: true}
}

// suffix shares the memory of name.
func suffix(name string, labels int) string {
	name = strings.TrimSuffix(name, ".")
	if name == "" {
		return noName
	}
	if labels == 0 {
		s, _ := publicsuffix.PublicSuffix(name)
		return s
	}
	at := len(name)
	for range labels {
		if at = strings.LastIndexByte(name[:at], '.'); at < 0 {
			return name
		}
	}
	return name[at+1:]
}

// numbering gives values numbers, for all workers. It keeps copies of strings.
type numbering[K comparable] struct {
	mu    sync.RWMutex
	codes map[K]uint64
	list  []K
}

func (n *numbering[K]) code(k K) uint64 {
	n.mu.RLock()
	c, ok := n.codes[k]
	n.mu.RUnlock()
	if ok {
		return c
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if c, ok := n.codes[k]; ok {
		return c
	}
	if n.codes == nil {
		n.codes = make(map[K]uint64)
	}
	if s, ok := any(k).(string); ok {
		k = any(strings.Clone(s)).(K)
	}
	c = uint64(len(n.list))
	n.codes[k] = c
	n.list = append(n.list, k)
	return c
}

func (n *numbering[K]) of(code uint64) K {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.list[code]
}
