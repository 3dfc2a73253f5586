package tfo

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Key makes and checks the cookies of a listener (TCP_FASTOPEN_KEY, Linux 4.15,
// 1fba70e5b6be). Listeners with one key take each other's cookies, and a
// listener that comes back with its key takes the cookies it gave before.
type Key [16]byte

// maxKeys is the primary key, which makes new cookies, and the backup key,
// whose cookies are taken and replaced (Linux 5.3, 9092a76d3cf8).
const maxKeys = 2

// ParseKeys reads the primary key and, after a comma or on a line of its own,
// the backup key. A key is 32 hexadecimal digits: the 16 bytes in order; or
// four groups of eight joined by '-', as net.ipv4.tcp_fastopen_key shows it:
// there each group is a little-endian word.
func ParseKeys(s string) ([]Key, error) {
	words := strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' || r == ' ' || r == '\t' })
	if len(words) == 0 {
		return nil, errors.New("no key")
	}
	if len(words) > maxKeys {
		return nil, fmt.Errorf("%d keys: want a primary and at most one backup key", len(words))
	}
	keys := make([]Key, len(words))
	for i, w := range words {
		digits := strings.ReplaceAll(w, "-", "")
		b, err := hex.DecodeString(digits)
		if err != nil || len(b) != len(keys[i]) || digits != w && !sysctlKey(w) {
			// The key itself is not repeated: messages end up in logs.
			return nil, fmt.Errorf("key %d of %d is not 32 hexadecimal digits", i+1, len(words))
		}
		copy(keys[i][:], b)
		if digits != w {
			keys[i] = keys[i].swapped()
		}
	}
	return keys, nil
}

func sysctlKey(w string) bool {
	return len(w) == 35 && w[8] == '-' && w[17] == '-' && w[26] == '-'
}

// swapped reverses the bytes of each of the four words.
func (k Key) swapped() (out Key) {
	for i := 0; i < len(k); i += 4 {
		binary.LittleEndian.PutUint32(out[i:], binary.BigEndian.Uint32(k[i:]))
	}
	return out
}

// String writes the key as ParseKeys and the sysctl read it.
func (k Key) String() string {
	s := k.swapped()
	return fmt.Sprintf("%x-%x-%x-%x", s[0:4], s[4:8], s[8:12], s[12:16])
}

// Cookie is the cookie that the kernel gives to src for dst: no port, no time
// (__tcp_fastopen_cookie_gen_cipher, net/ipv4/tcp_fastopen.c; SipHash since
// Linux 5.3, c681edae33e8, AES before).
func (k Key) Cookie(src, dst netip.Addr) [8]byte {
	var path [32]byte
	n := copy(path[:], src.Unmap().AsSlice())
	n += copy(path[n:], dst.Unmap().AsSlice())
	var c [8]byte
	binary.LittleEndian.PutUint64(c[:], sipHash24(binary.LittleEndian.Uint64(k[:8]), binary.LittleEndian.Uint64(k[8:]), path[:n]))
	return c
}

// CookieClaim is what the TFO option of a received SYN says, held against the
// keys of the listener. The values are append-only.
type CookieClaim uint8

const (
	ClaimUnseen    CookieClaim = 0 // the kernel kept no SYN to look at
	ClaimNone      CookieClaim = 1 // no TFO option
	ClaimRequest   CookieClaim = 2 // an empty option: a cookie is asked for
	ClaimValid     CookieClaim = 3 // the cookie that the primary key makes
	ClaimBackup    CookieClaim = 4 // the cookie that the backup key makes
	ClaimStale     CookieClaim = 5 // a cookie that none of the keys makes for these addresses
	ClaimMalformed CookieClaim = 6 // of a length no cookie has: the kernel takes it for no option
	ClaimUnjudged  CookieClaim = 7 // a cookie, and the keys or the kernel's function are not known
)

var claimNames = [...]string{"unseen", "none", "request", "valid", "backup", "stale", "malformed", "unjudged"}

func (c CookieClaim) String() string {
	if int(c) < len(claimNames) {
		return claimNames[c]
	}
	return "unknown"
}

// judge holds the SYN's option against the keys; nil keys are not known.
func judge(syn *SavedSYN, keys []Key) CookieClaim {
	if syn.Raw == nil {
		return ClaimUnseen
	}
	opt := syn.Options.FastOpen()
	n := len(opt.Cookie)
	switch {
	case opt.Count == 0:
		return ClaimNone
	case n == 0:
		return ClaimRequest
	case n%2 != 0 || n < 4 || n > 16: // tcp_parse_fastopen_option, net/ipv4/tcp_input.c
		return ClaimMalformed
	case keys == nil || !kernelCookiesAreSipHash:
		return ClaimUnjudged
	}
	for i, k := range keys {
		if c := k.Cookie(syn.Src.Addr(), syn.Dst.Addr()); string(c[:]) == string(opt.Cookie) {
			return ClaimValid + CookieClaim(i)
		}
	}
	return ClaimStale
}
