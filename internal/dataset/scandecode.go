package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"unsafe"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding"

	"tfofleet/internal/measure"
)

// measurementSchema saves making a schema of every file that is scanned.
var measurementSchema = parquet.SchemaOf(new(measurementRow))

// scanned says how each column gets into a batch.
var scanned = []struct {
	column Columns
	path   []string
	decode func(*decoder, page, *Batch) error
}{
	{ColItem, []string{"item"}, func(_ *decoder, p page, b *Batch) (err error) {
		// The same bits: an item is a uint64 in an int64.
		items, err := appendInts(int64s(b.Item), p)
		b.Item = uint64s(items)
		return err
	}},
	{ColAddr, []string{"target"}, func(_ *decoder, p page, b *Batch) (err error) {
		b.Addr, err = appendAddrs(b.Addr, p)
		return err
	}},
	{ColPort, []string{"port"}, func(d *decoder, p page, b *Batch) (err error) {
		b.Port, err = appendSmall(b.Port, &d.ports, p)
		return err
	}},
	{ColHostname, []string{"hostname"}, func(_ *decoder, p page, b *Batch) error { return appendStrings(&b.Hostname, p) }},
	{ColFamily, []string{"family"}, func(d *decoder, p page, b *Batch) (err error) {
		b.Family, err = appendSmall(b.Family, &d.families, p)
		return err
	}},
	{ColOutcome, []string{"outcome"}, func(d *decoder, p page, b *Batch) (err error) {
		b.Outcome, err = appendEnum(b.Outcome, &d.outcomes, p, outcomes, "outcome")
		return err
	}},
	{ColVerdict, []string{"verdict"}, func(d *decoder, p page, b *Batch) (err error) {
		b.Verdict, err = appendEnum(b.Verdict, &d.verdicts, p, verdicts, "verdict")
		return err
	}},
	{ColConditions, []string{"conditions", "list", "element"}, func(d *decoder, p page, b *Batch) error { return d.appendLabels(&b.Conditions, p) }},
	{ColStarted, []string{"started"}, func(_ *decoder, p page, b *Batch) (err error) {
		b.Started, err = appendInts(b.Started, p)
		return err
	}},
	{ColDurationUS, []string{"duration_us"}, func(_ *decoder, p page, b *Batch) (err error) {
		b.DurationUS, err = appendInts(b.DurationUS, p)
		return err
	}},
	{ColAttempts, []string{"attempts"}, func(d *decoder, p page, b *Batch) (err error) {
		b.Attempts, err = appendSmall(b.Attempts, &d.attempts, p)
		return err
	}},
	{ColPlainConnectUS, []string{"plain_connect_us"}, func(_ *decoder, p page, b *Batch) (err error) {
		b.PlainConnectUS, err = appendInts(b.PlainConnectUS, p)
		return err
	}},
	{ColPlainFirstByteUS, []string{"plain_first_byte_us"}, func(_ *decoder, p page, b *Batch) (err error) {
		b.PlainFirstByteUS, err = appendInts(b.PlainFirstByteUS, p)
		return err
	}},
	{ColTFOFirstByteUS, []string{"tfo_first_byte_us"}, func(_ *decoder, p page, b *Batch) (err error) {
		b.TFOFirstByteUS, err = appendInts(b.TFOFirstByteUS, p)
		return err
	}},
	{ColSavedUS, []string{"saved_us"}, func(_ *decoder, p page, b *Batch) (err error) {
		b.SavedUS, err = appendInts(b.SavedUS, p)
		return err
	}},
}

// decoder decodes columns of files. It keeps its tables from page to page.
type decoder struct {
	columns  Columns
	labels   *labels
	ports    []uint16
	families []uint8
	attempts []int32
	outcomes []measure.Outcome
	verdicts []measure.Verdict
	ids      []uint32
}

// decode adds the rows of a file's content to b.
func (d *decoder) decode(content []byte, b *Batch) error {
	r, size := bytes.NewReader(content), int64(len(content))
	if err := checkSeal(r, size); err != nil {
		return err
	}
	pf, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.FileSchema(measurementSchema))
	if err != nil {
		return err
	}
	b.Len += int(pf.NumRows())
	for i := range scanned {
		c := &scanned[i]
		if d.columns&c.column == 0 {
			continue
		}
		leaf, err := leafOf(pf.Root(), c.path)
		if err != nil {
			return err
		}
		rows := int64(0)
		for _, g := range pf.RowGroups() {
			pages := g.ColumnChunks()[leaf].Pages()
			n, err := d.pages(pages, c.decode, b)
			pages.Close()
			if err != nil {
				return fmt.Errorf("column %s: %w", c.path[0], err)
			}
			rows += n
		}
		if rows != pf.NumRows() {
			return fmt.Errorf("damaged: column %s has %d rows of %d", c.path[0], rows, pf.NumRows())
		}
	}
	return nil
}

func (d *decoder) pages(pages parquet.Pages, decode func(*decoder, page, *Batch) error, b *Batch) (rows int64, err error) {
	for {
		p, err := pages.ReadPage()
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		rows += p.NumRows()
		err = decode(d, pageOf(p), b)
		parquet.Release(p)
		if err != nil {
			return rows, err
		}
	}
}

// leafOf finds a column and refuses one of another type.
func leafOf(root *parquet.Column, path []string) (int, error) {
	c, want := root, parquet.Node(measurementSchema)
	for _, name := range path {
		if c = c.Column(name); c == nil {
			return 0, fmt.Errorf("another table, or of another version: no column %s", path[0])
		}
		for _, f := range want.Fields() {
			if f.Name() == name {
				want = f
				break
			}
		}
	}
	if !c.Leaf() || c.Type().Kind() != want.Type().Kind() || c.Optional() != want.Optional() {
		return 0, fmt.Errorf("another table, or of another version: column %s is %v, want %v", path[0], c, want)
	}
	return c.Index(), nil
}

// page is a page as it is in memory: the values that are not null, or their
// indexes in a dictionary, and the levels, which say where the nulls are.
type page struct {
	parquet.Page
	dict        parquet.Dictionary
	defs        []byte // empty in a column without nulls
	repetitions []byte // empty in a column that is not a list
}

func pageOf(p parquet.Page) page {
	return page{p, p.Dictionary(), p.DefinitionLevels(), p.RepetitionLevels()}
}

var errPage = errors.New("damaged: a page that does not fit its column")

// indexes are those of a page with a dictionary, all of them within it.
func (p *page) indexes() ([]int32, error) {
	data := p.Data()
	if data.Kind() != encoding.Int32 {
		return nil, errPage
	}
	indexes, n := data.Int32(), uint32(p.dict.Len())
	bad := false
	for _, i := range indexes {
		bad = bad || uint32(i) >= n
	}
	if bad {
		return nil, errPage
	}
	return indexes, nil
}

// raw is the page's values without a dictionary.
func (p *page) raw(kind encoding.Kind) (encoding.Values, error) {
	v := p.Data()
	if p.dict != nil || v.Kind() != kind {
		return v, errPage
	}
	return v, nil
}

// present is how many values are not null.
func (p *page) present() int {
	if len(p.defs) == 0 {
		return int(p.NumValues())
	}
	return int(p.NumValues() - p.NumNulls())
}

// spread appends values, and null where the page has one.
func spread[T any](dst, values []T, p *page, null T) ([]T, error) {
	if len(values) != p.present() {
		return dst, errPage
	}
	if len(p.defs) == 0 {
		return append(dst, values...), nil
	}
	dst = slices.Grow(dst, len(p.defs))
	for _, d := range p.defs {
		v := null
		if d != 0 {
			v, values = values[0], values[1:]
		}
		dst = append(dst, v)
	}
	return dst, nil
}

// lookUp appends what table has at the page's indexes, and null where the page
// has one.
func lookUp[T any](dst, table []T, p *page, null T) ([]T, error) {
	indexes, err := p.indexes()
	if err != nil || len(indexes) != p.present() {
		return dst, errPage
	}
	if len(p.defs) == 0 {
		at := len(dst)
		dst = slices.Grow(dst, len(indexes))[:at+len(indexes)]
		for i, index := range indexes {
			dst[at+i] = table[index]
		}
		return dst, nil
	}
	dst = slices.Grow(dst, len(p.defs))
	for _, d := range p.defs {
		v := null
		if d != 0 {
			v, indexes = table[indexes[0]], indexes[1:]
		}
		dst = append(dst, v)
	}
	return dst, nil
}

func appendInts(dst []int64, p page) ([]int64, error) {
	v, err := p.raw(encoding.Int64)
	if err != nil {
		return dst, err
	}
	return spread(dst, v.Int64(), &p, Null)
}

// appendSmall narrows an int32 column. Its dictionary, when it has one, is
// narrowed instead of its values.
func appendSmall[T uint8 | uint16 | int32](dst []T, table *[]T, p page) ([]T, error) {
	v := p.Data()
	if p.dict != nil {
		v = p.dict.Page().Data()
	}
	if v.Kind() != encoding.Int32 {
		return dst, errPage
	}
	*table = (*table)[:0]
	for _, n := range v.Int32() {
		*table = append(*table, T(n))
	}
	if p.dict != nil {
		return lookUp(dst, *table, &p, 0)
	}
	return spread(dst, *table, &p, 0)
}

// appendEnum parses the names in the dictionary, or each name where a page has
// none.
func appendEnum[T ~uint8](dst []T, table *[]T, p page, e *enum[T], column string) ([]T, error) {
	v := p.Data()
	if p.dict != nil {
		v = p.dict.Page().Data()
	}
	*table = (*table)[:0]
	err := eachString(v, func(name string) error {
		if name == "" && e == any(verdicts) {
			*table = append(*table, 0) // null in files of an older writer
			return nil
		}
		n, err := e.parse(column, name)
		*table = append(*table, n)
		return err
	})
	if err != nil {
		return dst, err
	}
	if p.dict != nil {
		return lookUp(dst, *table, &p, 0)
	}
	return spread(dst, *table, &p, 0)
}

// eachString gives strings that share the memory of the page.
func eachString(v encoding.Values, f func(string) error) error {
	if v.Kind() != encoding.ByteArray {
		return errPage
	}
	data, ends := v.ByteArray()
	for i := 1; i < len(ends); i++ {
		if err := f(unsafe.String(unsafe.SliceData(data[ends[i-1]:]), ends[i]-ends[i-1])); err != nil {
			return err
		}
	}
	return nil
}

func appendStrings(dst *Strings, p page) error {
	v, err := p.raw(encoding.ByteArray)
	if err != nil {
		return err
	}
	data, ends := v.ByteArray()
	if len(ends) != p.present()+1 {
		return errPage
	}
	// Nulls are empty, so the bytes lie as they do in the page.
	shift := uint32(len(dst.data)) - ends[0]
	dst.data = append(dst.data, data[ends[0]:ends[len(ends)-1]]...)
	if len(p.defs) == 0 {
		for _, end := range ends[1:] {
			dst.ends = append(dst.ends, end+shift)
		}
		return nil
	}
	for _, d := range p.defs {
		if d != 0 {
			ends = ends[1:]
		}
		dst.ends = append(dst.ends, ends[0]+shift)
	}
	return nil
}

func appendAddrs(dst []netip.Addr, p page) ([]netip.Addr, error) {
	v, err := p.raw(encoding.ByteArray)
	if err != nil {
		return dst, err
	}
	data, ends := v.ByteArray()
	if len(ends) != p.present()+1 {
		return dst, errPage
	}
	dst = slices.Grow(dst, int(p.NumValues()))
	next := 0
	for row := range int(p.NumValues()) {
		if len(p.defs) != 0 && p.defs[row] == 0 {
			dst = append(dst, netip.Addr{})
			continue
		}
		text := data[ends[next]:ends[next+1]]
		next++
		a, ok := parseIPv4(text)
		if !ok && len(text) > 0 { // "" is null in files of an older writer
			if a, err = netip.ParseAddr(string(text)); err != nil {
				return dst, err
			}
		}
		dst = append(dst, a)
	}
	return dst, nil
}

// parseIPv4 parses what netip.Addr.String makes of an IPv4 address; ok is false
// for everything else. It is four times as fast as netip.ParseAddr, which takes
// most of the time of a scan.
func parseIPv4(text []byte) (a netip.Addr, ok bool) {
	var b [4]byte
	n, field, digits := 0, 0, 0
	for _, c := range text {
		switch {
		case '0' <= c && c <= '9':
			if digits > 0 && n == 0 {
				return a, false // a leading zero
			}
			n = n*10 + int(c-'0')
			if digits++; n > 255 {
				return a, false
			}
		case c == '.' && digits > 0 && field < 3:
			b[field] = byte(n)
			n, digits = 0, 0
			field++
		default:
			return a, false
		}
	}
	if field != 3 || digits == 0 {
		return a, false
	}
	b[3] = byte(n)
	return netip.AddrFrom4(b), true
}

func (d *decoder) appendLabels(dst *Labels, p page) error {
	v := p.Data()
	if p.dict != nil {
		v = p.dict.Page().Data()
	}
	d.ids = d.ids[:0]
	if err := eachString(v, func(name string) error {
		d.ids = append(d.ids, d.labels.id(name))
		return nil
	}); err != nil {
		return err
	}
	if len(p.defs) == 0 || len(p.defs) != len(p.repetitions) || p.repetitions[0] != 0 {
		return errPage // our writer's pages begin with a row
	}
	before := len(dst.ids)
	if p.dict == nil {
		dst.ids = append(dst.ids, d.ids...)
	} else {
		indexes, err := p.indexes()
		if err != nil {
			return err
		}
		for _, i := range indexes {
			dst.ids = append(dst.ids, d.ids[i])
		}
	}
	// A row ends where the next one begins; a list without elements is a level
	// without a value.
	end := before
	for i, r := range p.repetitions {
		if r == 0 && i > 0 {
			dst.ends = append(dst.ends, uint32(end))
		}
		end += int(p.defs[i])
	}
	dst.ends = append(dst.ends, uint32(end))
	if end != len(dst.ids) {
		return errPage
	}
	return nil
}

// An item is a uint64 that is stored in an int64.
func int64s(v []uint64) []int64 {
	return unsafe.Slice((*int64)(unsafe.Pointer(unsafe.SliceData(v))), cap(v))[:len(v)]
}
func uint64s(v []int64) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(v))), cap(v))[:len(v)]
}
