package dataset

import (
	"fmt"
	"strconv"
	"strings"

	"tfofleet/internal/measure"
)

// A difference between SYNs is one string:
//
//	mss 1460 -> 1380 (4/4)
//	sack_permitted yes -> - (4/4)
//	fast_open.34 34 request -> - (2/4)
//
// the field, its value as sent and as received, "-" where the option is not
// there, and how often that was seen of how many SYNs in which it could have
// been. The kind follows the fields that several kinds of option can be of.

const (
	noOption = "-"
	became   = " -> "
)

// optionOf is the kind of the fields that are one option.
var optionOf = map[measure.SynField]uint8{
	measure.FieldMSS: 2, measure.FieldWindowScale: 3, measure.FieldSACKPermitted: 4, measure.FieldTimestamps: 8,
}

func differenceText(d measure.PathDifference) string {
	name := synFields.name(d.Field)
	if d.Option != optionOf[d.Field] {
		name = fmt.Sprintf("%s.%d", name, d.Option)
	}
	before, after := d.Before, d.After
	switch d.Change {
	case measure.Removed:
		after = noOption
	case measure.Added:
		before = noOption
	}
	return fmt.Sprintf("%s %s%s%s (%d/%d)", name, before, became, after, d.Seen, d.Of)
}

// parseDifference is the inverse of differenceText.
func parseDifference(text string) (d measure.PathDifference, err error) {
	bad := fmt.Errorf("%q is no difference", text)
	name, rest, ok := strings.Cut(text, " ")
	i := strings.LastIndex(rest, " (")
	if !ok || i < 0 || !strings.HasSuffix(rest, ")") {
		return d, bad
	}
	seen, of, ok := strings.Cut(rest[i+2:len(rest)-1], "/")
	before, after, ok2 := strings.Cut(rest[:i], became)
	if !ok || !ok2 {
		return d, bad
	}
	name, kind, several := strings.Cut(name, ".")
	if d.Field, err = synFields.parse("field", name); err != nil {
		return d, err
	}
	d.Option = optionOf[d.Field]
	var err1, err2, err3 error
	if several {
		var n uint64
		n, err1 = strconv.ParseUint(kind, 10, 8)
		d.Option = uint8(n)
	}
	d.Seen, err2 = strconv.Atoi(seen)
	d.Of, err3 = strconv.Atoi(of)
	if err1 != nil || err2 != nil || err3 != nil {
		return d, bad
	}
	d.Change, d.Before, d.After = measure.Rewritten, before, after
	switch {
	case after == noOption:
		d.Change, d.After = measure.Removed, ""
	case before == noOption:
		d.Change, d.Before = measure.Added, ""
	}
	return d, nil
}
