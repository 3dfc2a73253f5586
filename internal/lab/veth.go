package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const linkMTU = 1500

// veth makes a pair with one end in each namespace and brings both up.
func veth(a *namespace, nameA string, macA mac, b *namespace, nameB string, macB mac) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(a.fd), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	v := netlink.NewVeth(netlink.NewLinkAttrs())
	v.Name, v.MTU, v.HardwareAddr = nameA, linkMTU, net.HardwareAddr(macA[:])
	v.PeerName, v.PeerHardwareAddr, v.PeerNamespace = nameB, net.HardwareAddr(macB[:]), netlink.NsFd(b.fd)
	if err := h.LinkAdd(v); err != nil {
		return fmt.Errorf("make veth pair %s: %w", nameA, err)
	}
	for _, end := range []struct {
		ns   *namespace
		name string
	}{{a, nameA}, {b, nameB}} {
		// No address of the kernel's own making, no router solicitation: what
		// is on the wire comes from the lab's hosts. Fails without IPv6.
		_ = end.ns.do(func() error { return setSysctl("ipv6/conf/"+end.name+"/addr_gen_mode", "1") })
		if err := linkUp(end.ns, end.name); err != nil {
			return err
		}
	}
	return nil
}

func linkUp(ns *namespace, name string) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.fd), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := h.LinkSetUp(l); err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	return nil
}

// ends gives a namespace its side of a link: addresses, a permanent neighbour
// for the far end, and routes through it. Nothing is resolved on the wire.
type ends struct {
	ns      *namespace
	link    string
	addrs   []netip.Prefix
	peerMAC mac
	peers   []netip.Addr   // the far end's addresses
	via     []netip.Prefix // reached through the peer of the same family
	local   []netip.Prefix // every address of these is ours (AnyIP)
	ipv6    bool
}

func (e ends) setUp() error {
	h, err := netlink.NewHandleAt(netns.NsHandle(e.ns.fd), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.LinkByName(e.link)
	if err != nil {
		return fmt.Errorf("find link %s: %w", e.link, err)
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	skip := func(a netip.Addr) bool { return a.Is6() && !e.ipv6 }
	for _, p := range e.addrs {
		if skip(p.Addr()) {
			continue
		}
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD // usable at once
		}
		if err := h.AddrAdd(l, a); err != nil {
			return fmt.Errorf("add address %s: %w", p, err)
		}
	}
	for _, p := range e.peers {
		if skip(p) {
			continue
		}
		n := &netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, Type: unix.RTN_UNICAST,
			IP: p.AsSlice(), HardwareAddr: net.HardwareAddr(e.peerMAC[:])}
		if err := h.NeighSet(n); err != nil {
			return fmt.Errorf("add neighbour %s: %w", p, err)
		}
	}
	for _, p := range e.via {
		if skip(p.Addr()) {
			continue
		}
		r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(p)}
		for _, gw := range e.peers {
			if gw.Is4() == p.Addr().Is4() {
				r.Gw = gw.AsSlice()
			}
		}
		if err := h.RouteAdd(r); err != nil {
			return fmt.Errorf("add route %s: %w", p, err)
		}
	}
	for _, p := range e.local {
		if skip(p.Addr()) {
			continue
		}
		r := &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: ipNet(p), Type: unix.RTN_LOCAL,
			Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST}
		if err := h.RouteAdd(r); err != nil {
			return fmt.Errorf("add local route %s: %w", p, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// offloads are the ethtool commands that make a veth end put real frames on
// the wire: one segment each, checksum filled in (include/uapi/linux/ethtool.h).
var offloads = []uint32{unix.ETHTOOL_STXCSUM, unix.ETHTOOL_SRXCSUM, unix.ETHTOOL_SSG, unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO, unix.ETHTOOL_SGRO}

// offloadsOff must run inside the link's namespace.
func offloadsOff(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	for _, cmd := range offloads {
		value := struct{ cmd, data uint32 }{cmd, 0}
		ifr := struct {
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [16]byte
		}{data: unsafe.Pointer(&value)}
		copy(ifr.name[:unix.IFNAMSIZ-1], name)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr)))
		// EOPNOTSUPP: the device has no such offload to switch off.
		if errno != 0 && errno != unix.EOPNOTSUPP {
			return fmt.Errorf("switch off offload %#x of %s: %w", cmd, name, errno)
		}
	}
	return nil
}
