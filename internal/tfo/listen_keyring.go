package tfo

import (
	"net/netip"
	"os"
	"strings"
)

// keyring knows the keys that cookies are judged by.
type keyring struct {
	keys   []Key    // nil: not known
	sysctl *os.File // where they come from; nil when the listener has its own
}

// openKeys must run in the namespace: the file stays with it.
func openKeys(own []Key) *keyring {
	if len(own) > 0 {
		return &keyring{keys: own}
	}
	// Only root may read it. Without, cookies are not judged.
	f, err := os.Open("/proc/sys/net/ipv4/tcp_fastopen_key")
	if err != nil {
		return &keyring{}
	}
	r := &keyring{sysctl: f}
	r.reload()
	return r
}

func (r *keyring) reload() {
	if r.sysctl == nil {
		return
	}
	r.keys = nil
	var b [256]byte
	n, err := r.sysctl.ReadAt(b[:], 0)
	if n == 0 && err != nil {
		return
	}
	r.keys, _ = ParseKeys(strings.TrimSpace(string(b[:n])))
}

// judge is what the SYN claims. The keys of a namespace may be changed at any
// time; that shows as a claim which the kernel contradicts, and then they are
// read again.
func (r *keyring) judge(syn *SavedSYN, made func(CookieClaim) Tri) (CookieClaim, Tri) {
	claim := judge(syn, r.keys)
	child := made(claim)
	accepted := claim == ClaimValid || claim == ClaimBackup
	if r.sysctl != nil && (accepted && child == No || claim == ClaimStale && child == Yes) {
		r.reload()
		claim = judge(syn, r.keys)
		child = made(claim)
	}
	return claim, child
}

// gives is the cookie for a peer; nil when that cannot be known.
func (r *keyring) gives(src, dst netip.Addr) []byte {
	if len(r.keys) == 0 || !kernelCookiesAreSipHash {
		return nil
	}
	c := r.keys[0].Cookie(src, dst)
	return c[:]
}

func (r *keyring) close() {
	if r.sysctl != nil {
		r.sysctl.Close()
	}
}
