package dataset

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"
)

// timeFormat is RFC 3339 with all six digits of a microsecond, UTC.
const timeFormat = "2006-01-02T15:04:05.000000Z"

func appendJSONLine(b []byte, j *join) []byte {
	o := jsonObject{append(b, '{')}
	j.measurement.each(&o)
	o.name("attempts")
	o.b = append(o.b, '[')
	for i := range j.attempts {
		o.b = append(comma(o.b), '{')
		j.attempts[i].each(&o)
		o.b = append(o.b, '}')
	}
	return append(o.b, "]}\n"...)
}

// jsonObject appends fields to an open object. It is by hand because an export
// has hundreds of fields per measurement, and reflection takes ten times as long.
type jsonObject struct{ b []byte }

// comma separates from what came before, unless it opened a list or object.
func comma(b []byte) []byte {
	if c := b[len(b)-1]; c != '{' && c != '[' {
		b = append(b, ',')
	}
	return b
}

func (o *jsonObject) name(s string) {
	o.b = append(append(append(comma(o.b), '"'), s...), `":`...)
}

func (o *jsonObject) null() { o.b = append(o.b, "null"...) }

func (o *jsonObject) text(name, v string) {
	o.name(name)
	if v == "" {
		o.null()
		return
	}
	o.b = appendJSONString(o.b, v)
}

func (o *jsonObject) number(name string, v int64) {
	o.name(name)
	o.b = strconv.AppendInt(o.b, v, 10)
}

func (o *jsonObject) optional(name string, v *int64) {
	if v != nil {
		o.number(name, *v)
		return
	}
	o.name(name)
	o.null()
}

func (o *jsonObject) optional32(name string, v *int32) {
	if v != nil {
		o.number(name, int64(*v))
		return
	}
	o.optional(name, nil)
}

func (o *jsonObject) list(name string, v []string) {
	o.name(name)
	o.b = append(o.b, '[')
	for _, s := range v {
		o.b = appendJSONString(comma(o.b), s)
	}
	o.b = append(o.b, ']')
}

func (o *jsonObject) hex(name string, v []byte) {
	if len(v) == 0 {
		o.optional(name, nil)
		return
	}
	o.name(name)
	o.b = append(hex.AppendEncode(append(o.b, '"'), v), '"')
}

func (o *jsonObject) base64(name string, v []byte) {
	if len(v) == 0 {
		o.optional(name, nil)
		return
	}
	o.name(name)
	o.b = append(base64.StdEncoding.AppendEncode(append(o.b, '"'), v), '"')
}

func (o *jsonObject) time(name string, us *int64) {
	if us == nil {
		o.optional(name, nil)
		return
	}
	o.name(name)
	o.b = append(appendTime(append(o.b, '"'), *us), '"')
}

func appendTime(b []byte, us int64) []byte {
	return time.UnixMicro(us).UTC().AppendFormat(b, timeFormat)
}

func appendJSONString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil {
				panic(err) // a string has no error
			}
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
