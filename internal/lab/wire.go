package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
)

func haveIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

// wire makes the namespaces and the links.
func (l *Lab) wire() (err error) {
	for _, n := range []struct {
		ns   **namespace
		role string
	}{{&l.client, "client"}, {&l.path, "path"}, {&l.server, "servers"}} {
		if *n.ns, err = newNamespace(l.lock.name + "-" + n.role); err != nil {
			return err
		}
		if err := linkUp(*n.ns, "lo"); err != nil {
			return err
		}
	}
	// The kernel of the path namespace takes no part: no address, nothing to
	// send. Set before its links exist, so that they start that way.
	if l.ipv6 {
		if err := l.path.do(func() error { return setSysctl("ipv6/conf/default/disable_ipv6", "1") }); err != nil {
			return err
		}
	}
	if err := l.server.do(serverSysctls); err != nil {
		return err
	}
	// The neighbours' addresses are those of the far ends: the box changes
	// nothing below IP, and the kernel of the path namespace takes no frame
	// for its own.
	if err := veth(l.client, boxLink.name, boxLink.clientMAC, l.path, "client", mac{0x02, 'T', 'F', 'O', 0, 3}); err != nil {
		return err
	}
	if err := veth(l.server, boxLink.name, boxLink.serversMAC, l.path, "servers", mac{0x02, 'T', 'F', 'O', 0, 4}); err != nil {
		return err
	}
	if err := veth(l.client, directLink.name, directLink.clientMAC, l.server, directLink.name, directLink.serversMAC); err != nil {
		return err
	}
	for _, e := range []struct {
		ns   *namespace
		name string
	}{{l.client, boxLink.name}, {l.server, boxLink.name}, {l.path, "client"}, {l.path, "servers"}} {
		if err := e.ns.do(func() error { return offloadsOff(e.name) }); err != nil {
			return err
		}
	}
	for _, k := range []struct {
		link
		paths, back, local []netip.Prefix
	}{
		{boxLink, []netip.Prefix{pathPrefix4, pathPrefix6}, []netip.Prefix{poolPrefix4, poolPrefix6}, []netip.Prefix{pathPrefix4, pathPrefix6}},
		{directLink, []netip.Prefix{directPrefix4, directPrefix6}, nil, []netip.Prefix{directPrefix4, directPrefix6}},
	} {
		client := ends{ns: l.client, link: k.name, addrs: []netip.Prefix{k.client4, k.client6}, peerMAC: k.serversMAC,
			peers: []netip.Addr{k.servers4.Addr(), k.servers6.Addr()}, via: k.paths, ipv6: l.ipv6}
		server := ends{ns: l.server, link: k.name, addrs: []netip.Prefix{k.servers4, k.servers6}, peerMAC: k.clientMAC,
			peers: []netip.Addr{k.client4.Addr(), k.client6.Addr()}, via: k.back, local: k.local, ipv6: l.ipv6}
		if k.name == directLink.name {
			server.addrs = append(server.addrs, netip.PrefixFrom(dnsAddr4, 32), netip.PrefixFrom(dnsAddr6, 128))
			client.peers = append(client.peers, dnsAddr4, dnsAddr6)
		}
		if err := errors.Join(client.setUp(), server.setUp()); err != nil {
			return err
		}
	}
	return nil
}

// serverSysctls runs inside the servers namespace.
func serverSysctls() error {
	for _, s := range [][2]string{
		{"core/somaxconn", fmt.Sprint(backlog)},
		{"ipv4/tcp_max_syn_backlog", fmt.Sprint(backlog)},
		{"ipv4/tcp_fastopen", "3"},
		// The table of metrics is one for the whole machine (net/ipv4/tcp_metrics.c);
		// servers have no use for it.
		{"ipv4/tcp_no_metrics_save", "1"},
	} {
		if err := setSysctl(s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}
