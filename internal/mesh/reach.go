package mesh

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

const (
	// reachTime is the patience with an address of a peer: a SYN may be lost, and
	// its repetitions, which are a second apart (net.ipv4.tcp_syn_linear_timeouts
	// of Linux 6.5), or 1 s, 2 s and so on before that.
	reachTime = 5 * time.Second
	// headStart is what a likelier address has before the next one is tried.
	headStart = 250 * time.Millisecond
)

// find is the targets of all peers. Which address of a peer answers does not
// depend on the moment: it is found before anything is measured. Where none does,
// by chance or because the port is closed, it is the one that does at another
// port, or the first: then the measurement says what is there.
func (c *connector) find(ctx context.Context) []measure.Target {
	targets := make([]measure.Target, len(c.peers))
	candidates := make([][]netip.Addr, len(c.peers))
	slots := make(chan struct{}, atATime)
	var left sync.WaitGroup
	for i, p := range c.peers {
		targets[i] = measure.Target{Item: uint64(p.GetIndex()), Port: uint16(p.GetPort())}
		candidates[i] = c.candidates(p)
		if len(candidates[i]) < 2 { // nothing to choose
			continue
		}
		slots <- struct{}{}
		left.Go(func() {
			targets[i].Addr = c.reach(ctx, candidates[i], targets[i].Port)
			<-slots
		})
	}
	left.Wait()
	answered := make(map[string]netip.Addr) // by candidates
	for i := range targets {
		if targets[i].Addr.IsValid() {
			answered[fmt.Sprint(candidates[i])] = targets[i].Addr
		}
	}
	for i, all := range candidates {
		if !targets[i].Addr.IsValid() && len(all) > 0 {
			targets[i].Addr = cmp.Or(answered[fmt.Sprint(all)], all[0])
		}
	}
	return targets
}

// candidates are the addresses of a peer where it may be. Not one that this host
// has as well: many have 172.17.0.1, for their containers, and would find
// themselves there.
func (c *connector) candidates(p *pb.Peer) (all []netip.Addr) {
	for _, b := range p.GetAddresses() {
		if a, ok := netip.AddrFromSlice(b); ok && !slices.Contains(c.own, a.Unmap()) {
			all = append(all, a.Unmap())
		}
	}
	return all
}

// reach is the address that answers, of several the likelier one; invalid when
// none does.
func (c *connector) reach(ctx context.Context, all []netip.Addr, port uint16) netip.Addr {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan netip.Addr, len(all))
	for i, a := range all {
		go func() {
			select {
			case <-time.After(time.Duration(i) * headStart):
			case <-ctx.Done():
			}
			if !c.answers(ctx, netip.AddrPortFrom(a, port)) {
				a = netip.Addr{}
			}
			answers <- a
		}()
	}
	for range all {
		if a := <-answers; a.IsValid() {
			return a
		}
	}
	return netip.Addr{}
}

func (c *connector) answers(ctx context.Context, at netip.AddrPort) bool {
	t := measure.Target{Addr: at.Addr(), Port: at.Port()}
	if c.pace.Wait(ctx) != nil {
		return false
	}
	if c.w.cfg.Permit != nil {
		if _, ok := c.w.cfg.Permit(t); !ok {
			return false
		}
	}
	if !c.w.contacted(t) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	err := c.w.cfg.NetNS.Do(func() error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", at.String())
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return err == nil
}
