package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tfofleet/internal/measure"
)

// MeshPath is what happens to connections from one host of a mesh to another.
type MeshPath struct {
	Name, About string
	Taxonomy    []string

	// Truth is what both ends together must find, and Direction the way the
	// fault is on.
	Truth     measure.JointVerdict
	Direction measure.Direction
	NAT       measure.NAT // what is Yes in it must be seen, and nothing else
	// Differences are the fields in which the SYNs that arrive differ.
	Differences []measure.SynField
	Note        string

	Rules []Rule
	Proxy *Proxy // nil: nothing stands before the listener
}

// Way says which hosts a path is between: connections from one to the other,
// not those the other way.
type Way struct{ From, To int }

// MeshConfig is what a mesh is built from.
type MeshConfig struct {
	Logger hclog.Logger // nil means none
	Seed   uint64       // of everything random on the paths
	Hosts  int          // at most MaxHosts
	// Paths are the ways something happens on; all others are clean.
	Paths map[Way]MeshPath
	// Ports are those that proxies stand before.
	Ports []uint16
}

// MaxHosts is how many hosts a mesh may have.
const MaxHosts = 200

// Mesh is a lab of equal hosts, each in a network namespace of its own. Any may
// listen, and connect to any other; between each two stands the box, which
// treats connections from A to B and from B to A as two paths:
//
//	host 0 ──box0──┐
//	host 1 ──box0──┼── [the box: a path for each ordered pair]
//	host 2 ──box0──┘
//
// Hosts offer ECN, and Fast Open is on for clients and listeners.
type Mesh struct {
	log     hclog.Logger
	lock    *lock
	path    *namespace
	hosts   []*namespace
	ipv6    bool
	ways    map[Way]*path
	truths  map[Way]MeshPath
	box     *box
	proxies []*proxy

	running sync.WaitGroup
	cancel  context.CancelFunc
	close   func() error
}

// NewMesh builds a mesh: the namespaces tfolab-<pid>-<n>-path and -h<k>, and
// the links between them. It ends with Close or with ctx. Without the
// privileges it needs the error is a *[PrivilegeError].
func NewMesh(ctx context.Context, cfg MeshConfig) (_ *Mesh, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := CheckPrivileges(); err != nil {
		return nil, err
	}
	if cfg.Hosts < 1 || cfg.Hosts > MaxHosts {
		return nil, fmt.Errorf("a mesh of %d hosts: want 1 to %d", cfg.Hosts, MaxHosts)
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	m := &Mesh{log: cfg.Logger.Named("lab"), ipv6: haveIPv6(), ways: map[Way]*path{}, truths: map[Way]MeshPath{}}
	if _, err := Sweep(); err != nil {
		m.log.Warn("could not remove everything that dead labs left", "error", err)
	}
	m.close = sync.OnceValue(m.tearDown)
	defer func() {
		if err != nil {
			_ = m.Close()
		}
	}()
	for from := range cfg.Hosts {
		for to := range cfg.Hosts {
			if from != to {
				m.lay(Way{from, to}, cfg.Paths)
			}
		}
	}
	for w := range cfg.Paths {
		if m.ways[w] == nil {
			return nil, fmt.Errorf("a path from host %d to host %d, of %d hosts", w.From, w.To, cfg.Hosts)
		}
	}
	if m.lock, err = newLock(); err != nil {
		return nil, err
	}
	if err := m.wire(cfg.Hosts); err != nil {
		return nil, err
	}
	if err := m.start(cfg); err != nil {
		return nil, err
	}
	ctx, m.cancel = context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { _ = m.Close() })
	return m, nil
}

// lay puts the path of a way in place.
func (m *Mesh) lay(w Way, given map[Way]MeshPath) {
	t, ok := given[w]
	if !ok {
		t = MeshPath{Name: "clean", About: "nothing in the way", Truth: measure.JointSupported}
	}
	p := &path{Path: Path{Name: t.Name, Rules: t.Rules, Proxy: t.Proxy}}
	p.rules = make([]atomic.Uint64, len(t.Rules))
	m.ways[w], m.truths[w] = p, t
}

var (
	hostMAC    = mac{0x02, 'T', 'F', 'O', 2, 1} // of every host: no two share a link
	gatewayMAC = mac{0x02, 'T', 'F', 'O', 2, 2} // where hosts send to; nobody has it
	farMAC     = mac{0x02, 'T', 'F', 'O', 2, 3} // of the box's ends

	gateway4 = netip.MustParseAddr("198.19.128.2")
	gateway6 = netip.MustParseAddr("fd54:464f:2::2")
)

const (
	hostNumber  = 1   // of the host in its block of addresses
	proxyNumber = 250 // of the proxies before it, towards it
	meshRing    = 16  // blocks; a host is one of many
)

func hostAddr(host, number int, v6 bool) netip.Addr {
	if v6 {
		return pathAddr6(host, number)
	}
	return pathAddr4(host, number)
}

// wire makes the namespaces and the links.
func (m *Mesh) wire(hosts int) (err error) {
	if m.path, err = newNamespace(m.lock.name + "-path"); err != nil {
		return err
	}
	if m.ipv6 {
		// As in a Lab: the kernel of the path namespace takes no part.
		if err := m.path.do(func() error { return setSysctl("ipv6/conf/default/disable_ipv6", "1") }); err != nil {
			return err
		}
	}
	for k := range hosts {
		ns, err := newNamespace(fmt.Sprintf("%s-h%d", m.lock.name, k))
		if err != nil {
			return err
		}
		m.hosts = append(m.hosts, ns)
		if err := m.join(k, ns); err != nil {
			return fmt.Errorf("host %d: %w", k, err)
		}
	}
	return nil
}

// join links a host with the box.
func (m *Mesh) join(k int, ns *namespace) error {
	far := fmt.Sprintf("h%d", k)
	if err := linkUp(ns, "lo"); err != nil {
		return err
	}
	if err := ns.do(hostSysctls); err != nil {
		return err
	}
	if err := veth(ns, boxLink.name, hostMAC, m.path, far, farMAC); err != nil {
		return err
	}
	for name, in := range map[string]*namespace{boxLink.name: ns, far: m.path} {
		if err := in.do(func() error { return offloadsOff(name) }); err != nil {
			return err
		}
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.fd), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.LinkByName(boxLink.name)
	if err != nil {
		return err
	}
	for _, v6 := range []bool{false, true} {
		if v6 && !m.ipv6 {
			continue
		}
		gateway, prefixes := gateway4, []netip.Prefix{pathPrefix4, poolPrefix4}
		if v6 {
			gateway, prefixes = gateway6, []netip.Prefix{pathPrefix6, poolPrefix6}
		}
		for _, number := range []int{hostNumber, proxyNumber} {
			a := hostAddr(k, number, v6)
			addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, a.BitLen()))}
			if v6 {
				addr.Flags = unix.IFA_F_NODAD
			}
			if err := h.AddrAdd(l, addr); err != nil {
				return fmt.Errorf("add address %s: %w", a, err)
			}
		}
		if err := h.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, Type: unix.RTN_UNICAST,
			IP: gateway.AsSlice(), HardwareAddr: net.HardwareAddr(gatewayMAC[:])}); err != nil {
			return fmt.Errorf("add neighbour %s: %w", gateway, err)
		}
		for _, to := range prefixes {
			if err := h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(to), Gw: gateway.AsSlice(),
				Flags: int(netlink.FLAG_ONLINK), Src: hostAddr(k, hostNumber, v6).AsSlice()}); err != nil {
				return fmt.Errorf("add route %s: %w", to, err)
			}
		}
	}
	return nil
}

// hostSysctls runs inside a host's namespace.
func hostSysctls() error {
	for _, s := range [][2]string{
		{"core/somaxconn", fmt.Sprint(backlog)},
		{"ipv4/tcp_max_syn_backlog", fmt.Sprint(backlog)},
		{"ipv4/tcp_fastopen", "3"},
		{"ipv4/tcp_ecn", "1"},
	} {
		if err := setSysctl(s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}

// start opens the proxies and lets the box run.
func (m *Mesh) start(cfg MeshConfig) error {
	next := uint16(firstProxy)
	for w, p := range m.ways {
		if p.Proxy == nil {
			continue
		}
		ns := m.hosts[w.To]
		p.proxied = map[uint16]uint16{}
		for _, port := range cfg.Ports {
			p.proxied[port] = next
			for _, v6 := range []bool{false, true} {
				if v6 && !m.ipv6 {
					continue
				}
				x := &proxy{from: hostAddr(w.To, proxyNumber, v6), onward: port}
				x.ctx, x.cancel = context.WithCancel(context.Background())
				if err := ns.do(func() (err error) {
					x.TCPListener, err = listenTCP(v6, Server{TFO: p.Proxy.TFO, Key: p.Proxy.Key}, next)
					return err
				}); err != nil {
					x.cancel()
					return err
				}
				m.proxies = append(m.proxies, x)
				m.run("proxy", func() error { return ns.do(x.run) })
			}
			next++
		}
	}
	var links []string
	for k := range m.hosts {
		links = append(links, fmt.Sprintf("h%d", k))
	}
	if err := m.path.do(func() (err error) {
		m.box, err = newBox(m, links, meshRing, cfg.Seed)
		return err
	}); err != nil {
		return err
	}
	m.run("box", m.box.run)
	return nil
}

func (m *Mesh) run(what string, f func() error) {
	m.running.Go(func() {
		if err := f(); err != nil {
			m.log.Error("a part of the mesh failed", "part", what, "error", err)
		}
	})
}

// locate implements topology. An answer is known by its flow, for its path is
// that of the connection and not that of the way back.
func (m *Mesh) locate(b *box, in int) bool {
	p := &b.p
	answer := b.flows.back[flowKey{p.dst(), p.src(), p.dstPort(), p.srcPort()}] != nil && !p.isSYN()
	out, ok := m.hostOf(p.dst(), p.v6)
	switch {
	case answer:
		p.dir = Return
		ok = b.comeBack()
		out, _ = m.hostOf(p.flow.client, p.v6)
	case !ok || out == in:
		b.unrouted.Add(1)
		return false
	default:
		p.dir, p.path = Forward, m.ways[Way{in, out}]
		ok = b.enter()
	}
	if !ok {
		b.late.Add(1)
		return false
	}
	p.out = b.ports[out]
	readdress(p.b)
	return true
}

// pass implements topology: what is no TCP goes where its IP header says.
func (m *Mesh) pass(_ *box, raw []byte, in int) *port {
	var k addrKey
	v6 := false
	switch {
	case len(raw) >= ethLen+ipv4Len && binary.BigEndian.Uint16(raw[12:]) == ethIPv4:
		copy(k[:], raw[ethLen+16:ethLen+20])
	case len(raw) >= ethLen+ipv6Len && binary.BigEndian.Uint16(raw[12:]) == ethIPv6:
		copy(k[:], raw[ethLen+24:ethLen+40])
		v6 = true
	default:
		return nil
	}
	out, ok := m.hostOf(k, v6)
	if !ok || out == in {
		return nil
	}
	readdress(raw)
	return m.box.ports[out]
}

// readdress sends a frame to the host of the next link. Where it comes from
// stays as it is: an answer of the box goes there.
func readdress(b []byte) { copy(b, hostMAC[:]) }

// hostOf is the host that has an address.
func (m *Mesh) hostOf(k addrKey, v6 bool) (host int, ok bool) {
	host, n, ok := blockOf(k, v6)
	return host, ok && host < len(m.hosts) && n == hostNumber
}

// Host is one host of a mesh.
type Host struct {
	Name   string
	NetNS  string     // path of its network namespace, for setns
	V4, V6 netip.Addr // V6 is invalid where the kernel has no IPv6
}

// Host returns a host by its index.
func (m *Mesh) Host(k int) Host {
	h := Host{Name: fmt.Sprintf("h%d", k), NetNS: filepath.Join(netnsDir, fmt.Sprintf("%s-h%d", m.lock.name, k)), V4: hostAddr(k, hostNumber, false)}
	if m.ipv6 {
		h.V6 = hostAddr(k, hostNumber, true)
	}
	return h
}

// Hosts is how many hosts there are.
func (m *Mesh) Hosts() int { return len(m.hosts) }

// Path is what happens on a way, and what must be found.
func (m *Mesh) Path(w Way) MeshPath { return m.truths[w] }

// Counters returns what the box saw and did on a way; zero where there is none.
func (m *Mesh) Counters(w Way) Counters {
	if p := m.ways[w]; p != nil {
		return p.read()
	}
	return Counters{}
}

// Stats returns what befell the mesh itself, also after Close.
func (m *Mesh) Stats() Stats { return m.box.stats() }

// Close ends the mesh and removes everything it made. Later calls return what
// the first did.
func (m *Mesh) Close() error { return m.close() }

func (m *Mesh) tearDown() error {
	if m.cancel != nil {
		m.cancel()
	}
	if m.box != nil {
		m.box.stop()
	}
	for _, x := range m.proxies {
		x.stop()
	}
	m.running.Wait()
	if m.box != nil {
		m.box.free()
		if st := m.Stats(); !st.Sound() {
			m.log.Warn("the mesh itself lost frames or flows", "stats", st)
		}
	}
	var errs []error
	for _, ns := range m.hosts {
		errs = append(errs, ns.close())
	}
	if m.path != nil {
		errs = append(errs, m.path.close())
	}
	if m.lock != nil {
		errs = append(errs, m.lock.release())
	}
	return errors.Join(errs...)
}
