package tfo

import (
	"errors"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Bits of net.ipv4.tcp_fastopen (Documentation/networking/ip-sysctl.rst).
const (
	SysctlClient         = 0x1
	SysctlServer         = 0x2
	SysctlClientNoCookie = 0x4
	SysctlServerNoCookie = 0x200
	SysctlServerAll      = 0x400
)

// Host is what the kernel says of itself as a vantage point.
type Host struct {
	Hostname          string
	Kernel            string // uname release, such as "6.18.44"
	Arch              string
	FastOpen          int // net.ipv4.tcp_fastopen bits; NotKnown when unreadable
	BlackholeTimeoutS int // net.ipv4.tcp_fastopen_blackhole_timeout_sec; NotKnown when the kernel has none
	CanClearCookies   Tri // whether tcp_metrics entries may be deleted
}

// ReadHost reads the facts of the namespace. It fails only when the namespace
// cannot be entered; what cannot be read is marked as not known.
func ReadHost(ns NetNS) (Host, error) {
	h := Host{Arch: runtime.GOARCH, FastOpen: NotKnown, BlackholeTimeoutS: NotKnown}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel, h.Hostname = unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Nodename[:])
	}
	err := ns.Do(func() error {
		h.FastOpen = sysctl("tcp_fastopen")
		h.BlackholeTimeoutS = sysctl("tcp_fastopen_blackhole_timeout_sec")
		h.CanClearCookies = canClear()
		return nil
	})
	return h, err
}

func sysctl(name string) int {
	b, err := os.ReadFile("/proc/sys/net/ipv4/" + name)
	if err != nil {
		return NotKnown
	}
	v, err := strconv.ParseInt(strings.TrimSpace(string(b)), 0, 32)
	if err != nil {
		return NotKnown
	}
	return int(v)
}

// canClear deletes the entry of an address nobody connects to: permission is
// checked before the entry is looked up.
func canClear() Tri {
	m, err := OpenMetrics()
	if err != nil {
		return NotTried
	}
	defer m.Close()
	switch err := m.Delete(netip.IPv4Unspecified()); {
	case err == nil:
		return Yes
	case errors.Is(err, unix.EPERM):
		return No
	}
	return NotTried
}
