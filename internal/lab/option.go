package lab

// Kinds is a set of the two kinds of TFO option.
type Kinds uint8

const (
	Kind34  Kinds = 1 << iota // the assigned kind (RFC 7413)
	Kind254                   // the experimental kind with magic 0xF989 (RFC 6994)

	AnyKind = Kind34 | Kind254
)

func (k Kinds) String() string {
	switch k {
	case Kind34:
		return "34"
	case Kind254:
		return "254"
	}
	return "34/254"
}

// header is what stands before the cookie: kind, length and magic.
func (k Kinds) header() int {
	if k == Kind254 {
		return 4
	}
	return 2
}

const (
	optEnd  = 0
	optNOP  = 1
	optTFO  = 34
	optExp  = 254
	expHigh = 0xf9
	expLow  = 0x89

	maxCookie = 16
)

// nextOption splits the first option off. At the end of the list, or where a
// length is impossible, ok is false and nothing more can be read.
func nextOption(opts []byte) (opt, rest []byte, ok bool) {
	if len(opts) == 0 || opts[0] == optEnd {
		return nil, nil, false
	}
	if opts[0] == optNOP {
		return opts[:1], opts[1:], true
	}
	if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
		return nil, nil, false
	}
	return opts[:opts[1]], opts[opts[1]:], true
}

// tfoKind is the kind of TFO option that one option is, 0 for any other.
func tfoKind(opt []byte) Kinds {
	switch {
	case opt[0] == optTFO:
		return Kind34
	case opt[0] == optExp && len(opt) >= 4 && opt[2] == expHigh && opt[3] == expLow:
		return Kind254
	}
	return 0
}

// findTFO returns the first option of one of the kinds, with its kind.
func findTFO(opts []byte, kinds Kinds) (opt []byte, kind Kinds) {
	for {
		opt, rest, ok := nextOption(opts)
		if !ok {
			return nil, 0
		}
		if k := tfoKind(opt); k&kinds != 0 {
			return opt, k
		}
		opts = rest
	}
}

// cookieOf is the cookie in a TFO option: empty for a request.
func cookieOf(opt []byte, kind Kinds) []byte { return opt[kind.header():] }

// appendTFO appends a TFO option of the kind with the cookie.
func appendTFO(dst []byte, kind Kinds, cookie []byte) []byte {
	n := byte(kind.header() + len(cookie))
	if kind == Kind254 {
		dst = append(dst, optExp, n, expHigh, expLow)
	} else {
		dst = append(dst, optTFO, n)
	}
	return append(dst, cookie...)
}

// editTFO rebuilds the option list: edit appends to dst what is to stand in
// the place of a TFO option of one of the kinds. Other options stay, and what
// cannot be read is dropped. It reports whether the list changed.
func (f *frame) editTFO(kinds Kinds, edit func(dst, opt []byte, kind Kinds) []byte) bool {
	if opt, _ := findTFO(f.options(), kinds); opt == nil {
		return false
	}
	// A shorter list is aligned anew; the padding of the old one would only
	// push a longer cookie out.
	dst := f.scratch[:0]
	for opts := f.options(); ; {
		opt, rest, ok := nextOption(opts)
		if !ok {
			break
		}
		opts = rest
		if k := tfoKind(opt); k&kinds != 0 {
			dst = edit(dst, opt, k)
		} else {
			dst = append(dst, opt...)
		}
	}
	return f.setOptions(dst)
}

// addOption appends an option to the list.
func (f *frame) addOption(add func(dst []byte) []byte) bool {
	dst := f.scratch[:0]
	for opts := f.options(); ; {
		opt, rest, ok := nextOption(opts)
		if !ok {
			break
		}
		opts = rest
		dst = append(dst, opt...)
	}
	return f.setOptions(add(dst))
}
