package dataset

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
)

// csvColumns gives the columns of a CSV line: those of the measurements table,
// then the attempts in words.
func csvColumns(f fields, j *join) {
	j.measurement.each(f)
	f.number("attempts", int64(len(j.attempts)))
	made := make([]string, len(j.attempts))
	for i := range made {
		made[i] = j.attempts[i].String()
	}
	f.list("attempts_made", made)
}

// String is the attempt in a word: kind and option kind, acked of sent SYN
// bytes, end, errno.
func (r *attemptRow) String() string {
	var b strings.Builder
	b.WriteString(r.Kind)
	if r.OptionKind != 0 {
		b.WriteString(strconv.Itoa(int(r.OptionKind)))
	}
	if r.SynBytes > 0 {
		acked := "?"
		if r.SynBytesAcked != nil {
			acked = strconv.Itoa(int(*r.SynBytesAcked))
		}
		b.WriteString("(" + acked + "/" + strconv.Itoa(int(r.SynBytes)) + ")")
	}
	b.WriteString(":" + r.End)
	if r.Errno != "" {
		b.WriteString(":" + r.Errno)
	}
	return b.String()
}

func csvHeader() []byte {
	var n csvNames
	csvColumns(&n, &join{measurement: &measurementRow{}})
	return []byte(strings.Join(n, ",") + "\n")
}

func appendCSVLine(b []byte, j *join) []byte {
	l := csvLine{b: b}
	csvColumns(&l, j)
	l.b[len(l.b)-1] = '\n'
	return l.b
}

// csvNames collects the names of the columns.
type csvNames []string

func (n *csvNames) text(name, _ string)              { *n = append(*n, name) }
func (n *csvNames) number(name string, _ int64)      { *n = append(*n, name) }
func (n *csvNames) optional(name string, _ *int64)   { *n = append(*n, name) }
func (n *csvNames) optional32(name string, _ *int32) { *n = append(*n, name) }
func (n *csvNames) list(name string, _ []string)     { *n = append(*n, name) }
func (n *csvNames) hex(name string, _ []byte)        { *n = append(*n, name) }
func (n *csvNames) base64(name string, _ []byte)     { *n = append(*n, name) }
func (n *csvNames) time(name string, _ *int64)       { *n = append(*n, name) }

// csvLine appends fields, each with a comma behind it.
type csvLine struct{ b []byte }

func (l *csvLine) text(_, v string) {
	if strings.ContainsAny(v, ",\"\r\n") {
		v = `"` + strings.ReplaceAll(v, `"`, `""`) + `"`
	}
	l.b = append(append(l.b, v...), ',')
}

func (l *csvLine) number(_ string, v int64) {
	l.b = append(strconv.AppendInt(l.b, v, 10), ',')
}

func (l *csvLine) optional(name string, v *int64) {
	if v != nil {
		l.number(name, *v)
		return
	}
	l.b = append(l.b, ',')
}

func (l *csvLine) optional32(name string, v *int32) {
	if v != nil {
		l.number(name, int64(*v))
		return
	}
	l.b = append(l.b, ',')
}

// list joins with blanks, which no condition and no attempt has.
func (l *csvLine) list(name string, v []string) { l.text(name, strings.Join(v, " ")) }

func (l *csvLine) hex(_ string, v []byte) { l.b = append(hex.AppendEncode(l.b, v), ',') }

func (l *csvLine) base64(_ string, v []byte) {
	l.b = append(base64.StdEncoding.AppendEncode(l.b, v), ',')
}

func (l *csvLine) time(_ string, us *int64) {
	if us != nil {
		l.b = appendTime(l.b, *us)
	}
	l.b = append(l.b, ',')
}
