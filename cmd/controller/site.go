package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"

	"tfofleet/internal/targets"
	"tfofleet/internal/tfo"
)

// site is where a survey is made from, and within which limits. It is the
// probe's own business: no survey carries it.
type site struct {
	netns    tfo.NetNS
	fresh    bool // the namespace was made for this survey: no cookie is in its cache
	policy   targets.Policy
	resolver netip.AddrPort // zero: as /etc/resolv.conf has it
}

// parseBlocklist takes no bad line: what it cannot read it could not protect.
func parseBlocklist(content, name string) (*targets.Prefixes, error) {
	list, err := targets.ParseBlocklist(strings.NewReader(content), name, nil)
	var bad *targets.LineError
	if errors.As(err, &bad) {
		return nil, fail(exitBadLine, err, "a blocklist has an address or a CIDR block per line; correct the line, nothing was measured")
	}
	if err != nil {
		return nil, unreadable(err, "check the file in --blocklist FILE")
	}
	return list, nil
}

func parseResolver(s string) (netip.AddrPort, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap, nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.AddrPort{}, usage("--resolver %q is not an address: want one such as 192.0.2.53 or %s", s, net.JoinHostPort("2001:db8::53", "53"))
	}
	return netip.AddrPortFrom(addr, 53), nil
}

// lookAround reads the facts of the kernel that measures, refuses one that
// cannot, and says what will limit it.
func (a *app) lookAround(s site) (tfo.Host, error) {
	ns := s.netns
	h, err := tfo.ReadHost(ns)
	if errors.Is(err, fs.ErrPermission) {
		return h, fail(exitPrivileges, reason(err), "entering a network namespace needs CAP_SYS_ADMIN: run as root")
	}
	if err != nil {
		return h, unreadable(err, "name an existing network namespace: --netns /run/netns/NAME")
	}
	if h.FastOpen != tfo.NotKnown && h.FastOpen&tfo.SysctlClient == 0 {
		return h, fail(exitNoFastOpen, fmt.Errorf("this kernel's TCP Fast Open client is off (net.ipv4.tcp_fastopen = %d)", h.FastOpen),
			"switch it on: "+sysctl(ns, fmt.Sprintf("net.ipv4.tcp_fastopen=%d", h.FastOpen|tfo.SysctlClient)))
	}
	if h.BlackholeTimeoutS > 0 {
		a.warn(fmt.Sprintf("this kernel switches Fast Open off for %d s or more after one bad target; what that spoils is inconclusive", h.BlackholeTimeoutS),
			"let it not: "+sysctl(ns, "net.ipv4.tcp_fastopen_blackhole_timeout_sec=0"))
	}
	if h.CanClearCookies == tfo.No && !s.fresh {
		a.warn("old cookies in the kernel's cache cannot be deleted without CAP_NET_ADMIN; where one was in the way, the evidence says so")
	}
	return h, nil
}

// sysctl is the command that changes a setting where it counts.
func sysctl(ns tfo.NetNS, assignment string) string {
	if ns == "" {
		return "sysctl -w " + assignment
	}
	return fmt.Sprintf("nsenter --net=%s sysctl -w %s", ns, assignment)
}
