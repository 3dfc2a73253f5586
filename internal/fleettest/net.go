package fleettest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Network is a router, with a network namespace behind each of its links. What
// runs in one of them reaches all others, and nothing else.
type Network struct {
	t     testing.TB
	hub   *thread
	hosts int
}

// Host is a network namespace behind a link.
type Host struct {
	Addr netip.Addr
	hub  *thread
	own  *thread
	link string // the router's end
}

// uplink is a host's end of its link.
const uplink = "uplink"

// NewNetwork makes a network that lives as long as the test.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	n := &Network{t: t, hub: newThread(t)}
	n.do(n.hub, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	return n
}

func (n *Network) do(on *thread, f func() error) {
	n.t.Helper()
	if err := on.do(f); err != nil {
		n.t.Fatal(err)
	}
}

// Add connects another host.
func (n *Network) Add() *Host {
	n.t.Helper()
	n.hosts++
	h := &Host{Addr: netip.AddrFrom4([4]byte{10, 77, byte(n.hosts), 2}), hub: n.hub, own: newThread(n.t), link: fmt.Sprint("host", n.hosts)}
	gateway := netip.AddrFrom4([4]byte{10, 77, byte(n.hosts), 1})
	n.do(n.hub, func() error {
		v := netlink.NewVeth(netlink.NewLinkAttrs())
		v.Name, v.PeerName, v.PeerNamespace = h.link, uplink, netlink.NsFd(h.own.ns)
		if err := netlink.LinkAdd(v); err != nil {
			return fmt.Errorf("make a link: %w", err)
		}
		return up(h.link, gateway)
	})
	n.do(h.own, func() error {
		if err := up(uplink, h.Addr); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Gw: gateway.AsSlice()})
	})
	return h
}

// Renumber gives the host another address in place of the one it has, as a NAT
// does that has lost its state: what comes to the old one is dropped.
func (h *Host) Renumber(t testing.TB) {
	t.Helper()
	gateway := h.Addr.Prev()
	for gateway.As4()[3] != 1 {
		gateway = gateway.Prev()
	}
	old := h.Addr
	h.Addr = old.Next()
	err := h.own.do(func() error {
		l, err := netlink.LinkByName(uplink)
		if err != nil {
			return err
		}
		if err := netlink.AddrDel(l, &netlink.Addr{IPNet: &net.IPNet{IP: old.AsSlice(), Mask: net.CIDRMask(24, 32)}}); err != nil {
			return err
		}
		if err := up(uplink, h.Addr); err != nil {
			return err
		}
		return netlink.RouteReplace(&netlink.Route{Gw: gateway.AsSlice()})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// up gives a link its address and brings it up.
func up(name string, addr netip.Addr) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(24, 32)}}); err != nil {
		return fmt.Errorf("add address %v: %w", addr, err)
	}
	return netlink.LinkSetUp(l)
}

// Direction is one of the two of a link.
type Direction int

const (
	FromHost Direction = 1 << iota
	ToHost
	BothWays = FromHost | ToHost
)

// blackhole is the action of a routing rule (FR_ACT_BLACKHOLE in the kernel's
// include/uapi/linux/fib_rules.h).
const blackhole = 6

// rules of the router that drop everything in a direction.
func (h *Host) rules(d Direction) (all []*netlink.Rule) {
	rule := func(priority int) *netlink.Rule {
		r := netlink.NewRule()
		r.Type, r.Priority, r.Family = blackhole, priority, netlink.FAMILY_V4
		all = append(all, r)
		return r
	}
	if d&FromHost != 0 {
		rule(100).IifName = h.link
	}
	if d&ToHost != 0 {
		rule(101).Dst = &net.IPNet{IP: h.Addr.AsSlice(), Mask: net.CIDRMask(32, 32)}
	}
	return all
}

// Cut has the router drop, without a word, what goes in a direction. Nobody is
// told: connections stay open, and are half-open when one end gives them up.
func (h *Host) Cut(t testing.TB, d Direction) {
	t.Helper()
	h.change(t, d, netlink.RuleAdd)
}

// Heal undoes Cut.
func (h *Host) Heal(t testing.TB, d Direction) {
	t.Helper()
	h.change(t, d, netlink.RuleDel)
}

func (h *Host) change(t testing.TB, d Direction, f func(*netlink.Rule) error) {
	t.Helper()
	err := h.hub.do(func() error {
		for _, r := range h.rules(d) {
			if err := f(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Slow bounds what the host can send, in bits per second, with a queue for so
// many bytes: a token bucket, as a modem is one.
func (h *Host) Slow(t testing.TB, bits uint64, queue uint32) {
	t.Helper()
	const burst = 3000 // two frames: what is larger is cut into frames
	err := h.own.do(func() error {
		l, err := netlink.LinkByName(uplink)
		if err != nil {
			return err
		}
		q := &netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}}
		if bits == 0 {
			return netlink.QdiscDel(q)
		}
		q.Rate, q.Limit, q.Buffer = bits/8, queue, uint32(netlink.Xmittime(bits/8, burst))
		return netlink.QdiscAdd(q)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Sent is how many bytes the host has sent in all.
func (h *Host) Sent(t testing.TB) (bytes uint64) {
	t.Helper()
	err := h.own.do(func() error {
		l, err := netlink.LinkByName(uplink)
		if err == nil {
			bytes = l.Attrs().Statistics.TxBytes
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// Forward has an address on the host's loopback lead to the same one where the
// test is.
func (h *Host) Forward(t testing.TB, address string) {
	t.Helper()
	var l net.Listener
	if err := h.Do(func() (err error) { l, err = net.Listen("tcp", address); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go forward(c, address)
		}
	}()
}

func forward(c net.Conn, address string) {
	defer c.Close()
	to, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer to.Close()
	go func() {
		_, _ = io.Copy(to, c)
		to.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c, to)
}

// Do runs f in the host's namespace: the sockets it makes are the host's.
func (h *Host) Do(f func() error) error { return h.own.do(f) }

// thread is a thread in a network namespace of its own. It lives until the test
// ends: the kernel kills a process that asked for it (Pdeathsig) with the thread
// that started it, and the namespace goes when nothing is in it any more.
type thread struct {
	ns   netns.NsHandle
	jobs chan func()
	over chan struct{}
}

func newThread(t testing.TB) *thread {
	t.Helper()
	th := &thread{ns: netns.None(), jobs: make(chan func()), over: make(chan struct{})}
	made, stop := make(chan error), make(chan struct{})
	go func() {
		defer close(th.over)
		runtime.LockOSThread() // and never unlocked: the thread ends with it
		var err error
		th.ns, err = netns.New()
		made <- err
		for {
			select {
			case f := <-th.jobs:
				f()
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-th.over
		if th.ns.IsOpen() {
			th.ns.Close()
		}
	})
	if err := <-made; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	if err := th.do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	}); err != nil {
		t.Fatal(err)
	}
	return th
}

func (th *thread) do(f func() error) error {
	done := make(chan error, 1)
	select {
	case th.jobs <- func() { done <- f() }:
		return <-done
	case <-th.over:
		return errors.New("the network of the test is gone")
	}
}
