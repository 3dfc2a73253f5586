package lab

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// Config is what a lab is built from. The zero value builds the whole
// [Catalogue].
type Config struct {
	Logger hclog.Logger // nil means none
	Seed   uint64       // of everything random on the paths; flows at the same time meet it in any order
	Paths  []Path       // nil means Catalogue()
}

// Lab is a running lab.
type Lab struct {
	log     hclog.Logger
	lock    *lock
	client  *namespace
	path    *namespace
	server  *namespace
	ipv6    bool
	paths   []*path
	byName  map[string]*path
	box     *box
	servers *servers
	proxies []*proxy
	dns     *resolver

	running sync.WaitGroup
	cancel  context.CancelFunc
	close   func() error
}

// New builds a lab: the namespaces tfolab-<pid>-<n>-client, -path and -servers,
// the links between them, the servers and the box. It first removes what labs
// of dead processes left. The lab ends with Close or with ctx.
//
// Without the privileges it needs the error is a *[PrivilegeError].
func New(ctx context.Context, cfg Config) (_ *Lab, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := CheckPrivileges(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Paths == nil {
		cfg.Paths = Catalogue()
	}
	l := &Lab{log: cfg.Logger.Named("lab"), ipv6: haveIPv6(), byName: map[string]*path{}}
	if removed, err := Sweep(); err != nil {
		l.log.Warn("could not remove everything that dead labs left", "error", err)
	} else if len(removed) > 0 {
		l.log.Info("removed what dead labs left", "labs", removed)
	}
	l.close = sync.OnceValue(l.tearDown)
	defer func() {
		if err != nil {
			_ = l.Close()
		}
	}()
	if l.paths, err = place(cfg.Paths); err != nil {
		return nil, err
	}
	for _, p := range l.paths {
		l.byName[p.Name] = p
	}
	if l.lock, err = newLock(); err != nil {
		return nil, err
	}
	if err := l.wire(); err != nil {
		return nil, err
	}
	if err := l.start(cfg.Seed); err != nil {
		return nil, err
	}
	ctx, l.cancel = context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { _ = l.Close() })
	return l, nil
}

// start opens the servers and lets the box run.
func (l *Lab) start(seed uint64) (err error) {
	names := newNames(l.paths, l.ipv6)
	err = l.server.do(func() (err error) {
		if l.servers, err = newServers(l.paths, names, l.ipv6); err != nil {
			return err
		}
		if l.proxies, err = newProxies(l.paths, l.ipv6); err != nil {
			return err
		}
		l.dns, err = newResolver(names)
		return err
	})
	if err != nil {
		return err
	}
	ends := &twoEnds{}
	for _, p := range l.paths {
		for k := range p.blocks() {
			ends.paths[p.block+k] = append(ends.paths[p.block+k], p)
		}
	}
	err = l.path.do(func() (err error) {
		l.box, err = newBox(ends, []string{clientPort: "client", serversPort: "servers"}, ringBlocks, seed)
		return err
	})
	if err != nil {
		return err
	}
	l.run("servers", l.servers.run)
	l.run("box", l.box.run)
	for _, x := range l.proxies {
		l.run("proxy", func() error { return l.server.do(x.run) })
	}
	for _, c := range l.dns.conns {
		l.run("dns", func() error { return l.dns.run(c) })
	}
	return nil
}

func (l *Lab) run(what string, f func() error) {
	l.running.Go(func() {
		if err := f(); err != nil {
			l.log.Error("a part of the lab failed", "part", what, "error", err)
		}
	})
}

// Close ends the lab and removes everything it made. Later calls return what
// the first did.
func (l *Lab) Close() error { return l.close() }

func (l *Lab) tearDown() error {
	if l.cancel != nil {
		l.cancel()
	}
	if l.box != nil {
		l.box.stop()
	}
	if l.servers != nil {
		l.servers.stop()
	}
	for _, x := range l.proxies {
		x.stop()
	}
	if l.dns != nil {
		l.dns.stop()
	}
	l.running.Wait()
	if l.servers != nil {
		l.servers.free()
	}
	if l.box != nil {
		l.box.free()
		if st := l.Stats(); !st.Sound() {
			l.log.Warn("the lab itself lost frames, flows or connections", "stats", st)
		}
	}
	var errs []error
	for _, ns := range []*namespace{l.client, l.path, l.server} {
		if ns != nil {
			errs = append(errs, ns.close())
		}
	}
	if l.lock != nil {
		errs = append(errs, l.lock.release())
	}
	return errors.Join(errs...)
}

// Name is the lab's name, the prefix of its namespaces' names.
func (l *Lab) Name() string { return l.lock.name }

// ClientNetNS is the path of the client's network namespace, for setns: where
// a probe belongs.
func (l *Lab) ClientNetNS() string { return filepath.Join(netnsDir, l.lock.name+"-client") }

// ServersNetNS is the path of the servers' network namespace, for tests that
// listen themselves. A listener on the wildcard address and any port not used
// by the lab answers on every address of every path.
func (l *Lab) ServersNetNS() string { return filepath.Join(netnsDir, l.lock.name+"-servers") }

// DNS lists the addresses of the lab's resolver, UDP and TCP, reached without
// the box from the client's namespace. It knows
//
//	<at>.lab        the first address of the paths at <at> ([Path.At]), A and AAAA
//	<n>.<at>.lab    their address n, counted from 1
//	v4only.lab, v6only.lab, empty.lab   names without AAAA, without A, without both
//	servfail.lab      SERVFAIL
//	timeout.lab       no answer at all
//
// and says NXDOMAIN to everything else.
func (l *Lab) DNS() []netip.AddrPort {
	as := []netip.AddrPort{netip.AddrPortFrom(dnsAddr4, dnsPort)}
	if l.ipv6 {
		as = append(as, netip.AddrPortFrom(dnsAddr6, dnsPort))
	}
	return as
}

// IPv6 reports whether the lab has IPv6; it has where the kernel does.
func (l *Lab) IPv6() bool { return l.ipv6 }

// Targets lists the paths in the order of the catalogue.
func (l *Lab) Targets() []Placed {
	ts := make([]Placed, len(l.paths))
	for i, p := range l.paths {
		ts[i] = l.placed(p)
	}
	return ts
}

// Target returns one path by its name.
func (l *Lab) Target(name string) (Placed, bool) {
	p := l.byName[name]
	if p == nil {
		return Placed{}, false
	}
	return l.placed(p), true
}

func (l *Lab) placed(p *path) Placed {
	v4, v6 := p.addrs(1, l.ipv6)
	return Placed{Path: p.Path, Host: p.At + ".lab", V4: v4, V6: v6}
}

// Counters returns what the box saw and did on a path; zero for a name it does
// not know.
func (l *Lab) Counters(name string) Counters {
	p := l.byName[name]
	if p == nil {
		return Counters{}
	}
	return p.read()
}

// Stats returns what befell the lab itself, also after Close.
func (l *Lab) Stats() Stats {
	st := l.box.stats()
	st.Accepted, st.Shed = l.servers.accepted.Load(), l.servers.shed.Load()
	return st
}

// ServerPort is where a server listens on the direct link: 80, 443 and 53 for
// the TFO servers with [KeyA], 8080 for HTTP without TFO, another port for
// servers that only paths name.
func (l *Lab) ServerPort(s Server) (port uint16, ok bool) {
	port, ok = l.servers.ports[s]
	return port, ok
}
