package tfo

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// linuxSYN is the options of a SYN of Linux 6.18 that asks for a cookie.
var linuxSYN = []byte{2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7, 34, 2, 1, 1}

func tfo34(cookie ...byte) []byte { return append([]byte{34, byte(2 + len(cookie))}, cookie...) }
func tfo254(cookie ...byte) []byte {
	return append([]byte{254, byte(4 + len(cookie)), 0xF9, 0x89}, cookie...)
}

func TestDecodeTCPOptions(t *testing.T) {
	eight := []byte("ABCDEFGH")
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	kind34 := func(cookie []byte, n uint8) TCPOptions {
		return TCPOptions{TFO: FastOpenOption{n, cookie}, FastOpenKind: 34, WindowScale: NotKnown}
	}
	none := TCPOptions{WindowScale: NotKnown}
	bad := TCPOptions{WindowScale: NotKnown, Malformed: true}
	tests := []struct {
		name string
		in   []byte
		want TCPOptions
	}{
		{"nothing", nil, none},
		{"padding only", []byte{1, 1, 1, 0}, none},
		{"a whole SYN", linuxSYN, TCPOptions{
			TFO: FastOpenOption{1, []byte{}}, FastOpenKind: 34,
			MSS: 1460, WindowScale: 7, SACKPermitted: true, Timestamps: true, TSVal: 0x01020304,
		}},
		{"request", tfo34(), kind34([]byte{}, 1)},
		{"cookie of 8", tfo34(eight...), kind34(eight, 1)},
		{"cookie of 4", tfo34(eight[:4]...), kind34(eight[:4], 1)},
		{"cookie of 16", tfo34(append(eight, eight...)...), kind34(append(eight, eight...), 1)},
		{"cookie of odd length", tfo34(eight[:7]...), kind34(eight[:7], 1)},
		{"cookie of 2", tfo34(eight[:2]...), kind34(eight[:2], 1)},
		{"cookie of 17, over the limit", tfo34(make([]byte, 17)...), kind34(make([]byte, 17), 1)},
		{"cookie of 38, the most there is room for", tfo34(make([]byte, 38)...), kind34(make([]byte, 38), 1)},
		{"experimental request", tfo254(), TCPOptions{Exp: FastOpenOption{1, []byte{}}, FastOpenKind: 254, WindowScale: NotKnown}},
		{"experimental cookie", tfo254(eight...), TCPOptions{Exp: FastOpenOption{1, eight}, FastOpenKind: 254, WindowScale: NotKnown}},
		{"another experiment", []byte{254, 6, 0xE2, 0xD4, 1, 2}, none},
		{"an experiment without room for its magic", []byte{254, 3, 0xF9, 0}, none},
		{"an experiment without anything", []byte{254, 2, 0xF9, 0x89}, TCPOptions{WindowScale: NotKnown, Malformed: true}},
		{"kind 253 with the magic", []byte{253, 4, 0xF9, 0x89}, none},
		{"both kinds, 254 last", cat(tfo34(eight...), tfo254(1, 2, 3, 4)), TCPOptions{
			TFO: FastOpenOption{1, eight}, Exp: FastOpenOption{1, []byte{1, 2, 3, 4}}, FastOpenKind: 254, WindowScale: NotKnown,
		}},
		{"both kinds, 34 last", cat(tfo254(1, 2, 3, 4), tfo34(eight...)), TCPOptions{
			TFO: FastOpenOption{1, eight}, Exp: FastOpenOption{1, []byte{1, 2, 3, 4}}, FastOpenKind: 34, WindowScale: NotKnown,
		}},
		{"twice, the last counts", cat(tfo34(eight...), tfo34(1, 2, 3, 4)), kind34([]byte{1, 2, 3, 4}, 2)},
		{"behind the end", cat([]byte{0}, tfo34(eight...)), none},
		{"length 0", []byte{34, 0, 1, 1}, bad},
		{"length 1", []byte{34, 1, 1, 1}, bad},
		{"length past the end", []byte{34, 10, 1, 2}, bad},
		{"no room for a length", []byte{1, 1, 1, 34}, bad},
		{"what came before stays", []byte{2, 4, 5, 180, 34, 10, 1, 2}, TCPOptions{MSS: 1460, WindowScale: NotKnown, Malformed: true}},
		{"unknown option skipped", cat([]byte{99, 4, 34, 2}, tfo34(eight...)), kind34(eight, 1)},
		{"others of a wrong length", []byte{2, 3, 5, 3, 4, 7, 7, 4, 3, 1, 8, 4, 1, 1}, none},
		{"window scale out of range", []byte{3, 3, 200, 1}, TCPOptions{WindowScale: 127}},
		{"more than a header holds", append(make([]byte, 0, 50), append(bytes.Repeat([]byte{1}, 40), tfo34(eight...)...)...), none},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, DecodeTCPOptions(tt.in), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("% x (-want +got):\n%s", tt.in, diff)
			}
		})
	}
}

// kernelCookie is tcp_parse_options and tcp_parse_fastopen_option of
// net/ipv4/tcp_input.c, transcribed, as far as TFO is concerned: length -1
// means no option that the kernel knows.
func kernelCookie(ptr []byte) (cookie []byte, length int, exp bool) {
	length = -1
	fastopen := func(n int, b []byte, isExp bool) {
		if n < 0 || n&1 != 0 {
			return
		}
		if n >= 4 && n <= 16 {
			cookie = b[:n]
		} else if n != 0 {
			n = -1
		}
		length, exp = n, isExp
	}
	for remaining := len(ptr); remaining > 0; {
		opcode := ptr[0]
		ptr = ptr[1:]
		switch opcode {
		case 0:
			return
		case 1:
			remaining--
			continue
		}
		if remaining < 2 {
			return
		}
		opsize := int(ptr[0])
		ptr = ptr[1:]
		if opsize < 2 || opsize > remaining {
			return
		}
		switch opcode {
		case 34:
			fastopen(opsize-2, ptr, false)
		case 254:
			if opsize >= 4 && binary.BigEndian.Uint16(ptr) == 0xF989 {
				fastopen(opsize-4, ptr[2:], true)
			}
		}
		ptr = ptr[opsize-2:]
		remaining -= opsize
	}
	return
}

// FuzzDecodeTCPOptions checks the decoder against a transcription of the
// kernel's: what the kernel believes must be what we report.
func FuzzDecodeTCPOptions(f *testing.F) {
	f.Add(linuxSYN)
	f.Add(tfo254([]byte("ABCDEFGH")...))
	f.Add(append(tfo34(1, 2, 3, 4), tfo254(1, 2, 3, 4)...))
	f.Add([]byte{34, 0})
	f.Add([]byte{34, 1})
	f.Add([]byte{34, 3, 1, 34, 40})
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), maxTCPOptions)]
		o := DecodeTCPOptions(b)
		cookie, n, exp := kernelCookie(b)
		last := o.FastOpen()
		if (last.Count == 0) != (o.FastOpenKind == 0) {
			t.Fatalf("kind %d with count %d", o.FastOpenKind, last.Count)
		}
		odd := len(o.TFO.Cookie)%2 == 1 || len(o.Exp.Cookie)%2 == 1
		if o.TFO.Count+o.Exp.Count > 1 && odd {
			return // the kernel keeps an earlier one, which we do not report
		}
		switch {
		case n > 0 && (!bytes.Equal(cookie, last.Cookie) || exp != (o.FastOpenKind == OptionKindExp)):
			t.Fatalf("the kernel takes cookie %x (exp %v), we report %x of kind %d", cookie, exp, last.Cookie, o.FastOpenKind)
		case n == 0 && (last.Count == 0 || len(last.Cookie) != 0):
			t.Fatalf("the kernel sees an empty option, we report %x of kind %d", last.Cookie, o.FastOpenKind)
		case n < 0 && last.Count > 0 && (len(last.Cookie) == 0 || len(last.Cookie)%2 == 0 && len(last.Cookie) >= 4 && len(last.Cookie) <= 16):
			t.Fatalf("the kernel takes nothing, we report %x", last.Cookie)
		}
	})
}

func TestDecodeAllocatesNothing(t *testing.T) {
	var sink TCPOptions
	var p packet
	syn := synPacket()
	if n := testing.AllocsPerRun(100, func() { sink = DecodeTCPOptions(linuxSYN); decodePacket(syn, &p) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if sink.MSS != 1460 || p.payload != 100 {
		t.Errorf("decoded %+v and %+v", sink, p)
	}
}

func BenchmarkDecodeTCPOptions(b *testing.B) {
	withCookie := append(bytes.Clone(linuxSYN[:20]), tfo34([]byte("ABCDEFGH")...)...)
	for _, c := range []struct {
		name string
		in   []byte
	}{
		{"request", linuxSYN},
		{"cookie", withCookie},
		{"nops", bytes.Repeat([]byte{1}, 40)},
		{"20 options", bytes.Repeat([]byte{34, 2}, 20)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				DecodeTCPOptions(c.in)
			}
		})
	}
}

func BenchmarkDecodePacket(b *testing.B) {
	syn := synPacket()
	b.ReportAllocs()
	var p packet
	for b.Loop() {
		decodePacket(syn, &p)
	}
}
