package mesh

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

// patience is how long a connection may take where nothing else was said.
const patience = 10 * time.Second

// askAgain is how often the policy is asked whether a port may still be open.
const askAgain = time.Second

// port is an open port, once somebody takes what arrives.
type port struct {
	spec     measure.ListenSpec
	answer   []netip.Prefix // sources, as the policy said; none: all
	listener *tfo.Listener
	out      chan *outbox // gets the outbox before the first arrival is handed on
	box      *outbox
}

// listen opens the ports of a task, and says of each how it went. With none at
// all it is an error.
func (w *Worker) listen(work *pb.ListenTask, state *pb.TaskState) (open []*port, err error) {
	own, err := w.addresses()
	if err != nil {
		return nil, err
	}
	var addrs [][]byte
	for _, a := range own {
		addrs = append(addrs, a.AsSlice())
	}
	var failed error
	for _, wire := range work.GetListeners() {
		l := &pb.Listening{Port: wire.GetPort(), Addresses: addrs}
		state.Listening = append(state.Listening, l)
		p, err := w.open(wire)
		if err != nil {
			l.Failed = err.Error()
			failed = cmp.Or(failed, err)
			continue
		}
		l.Port, l.Queue = uint32(p.listener.Addr().Port()), uint32(p.listener.Queue())
		open = append(open, p)
	}
	if len(open) == 0 {
		return nil, cmp.Or(failed, errors.New("no port was asked for"))
	}
	return open, nil
}

func (w *Worker) open(wire *pb.ListenSpec) (*port, error) {
	spec, err := measure.ListenSpecFromWire(wire)
	if err != nil {
		return nil, err
	}
	if spec.Lifetime <= 0 {
		return nil, errors.New("a listener is open for a bounded time, and none is given")
	}
	var answer []netip.Prefix
	if w.cfg.MayListen != nil {
		if answer, err = w.cfg.MayListen(spec.Port, spec.Lifetime); err != nil {
			return nil, err
		}
	}
	if spec.Patience <= 0 {
		spec.Patience = patience
	}
	p := &port{spec: spec, answer: answer, out: make(chan *outbox, 1)}
	p.listener, err = tfo.Listen(tfo.ListenConfig{
		Addr: netip.AddrPortFrom(netip.IPv6Unspecified(), spec.Port), NetNS: w.cfg.NetNS, Keys: w.cfg.Keys, Queue: spec.Queue,
		Allow: both(spec.Allow, answer), Patience: spec.Patience, Drain: spec.Patience,
		Arrived: func(a *tfo.Arrival) { p.take().arrived(a) }, Alarm: func(a tfo.Alarm) { p.take().alarm(a) },
	})
	return p, err
}

// take is the outbox. It is called from the listener's loop alone.
func (p *port) take() *outbox {
	if p.box == nil {
		p.box = <-p.out
	}
	return p.box
}

// both is what two lists of blocks allow together; an empty one allows all.
func both(a, b []netip.Prefix) []netip.Prefix {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	var common []netip.Prefix
	for _, x := range a {
		for _, y := range b {
			switch {
			case !x.Overlaps(y):
			case x.Bits() < y.Bits():
				common = append(common, y)
			default:
				common = append(common, x)
			}
		}
	}
	if common == nil { // nobody: an address that no packet comes from
		common = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 32)}
	}
	return common
}

// serve has each port open until the task ends, its time has come, or the policy
// does not allow it any more. A port
// closes when no connection is open any more, or none can be that is still alive:
// an end that is cut short would tell another fault.
func (w *Worker) serve(t *task, open []*port, out *outbox) {
	var closing sync.WaitGroup
	for _, p := range open {
		p.out <- out
		closing.Go(func() {
			defer p.listener.Close()
			late := time.NewTimer(p.spec.Lifetime)
			defer late.Stop()
			again := time.NewTicker(askAgain)
			defer again.Stop()
			for {
				select {
				case <-t.end:
					return
				case <-late.C:
					return
				case <-again.C:
					if err := w.mayStillListen(p); err != nil {
						out.cut(err)
						return
					}
				}
			}
		})
	}
	closing.Wait()
}

// mayStillListen says why an open port is to be closed: what the policy allowed
// it may take back.
func (w *Worker) mayStillListen(p *port) error {
	if w.cfg.MayListen == nil {
		return nil
	}
	answer, err := w.cfg.MayListen(p.spec.Port, p.spec.Lifetime)
	if err == nil && !slices.Equal(answer, p.answer) {
		err = fmt.Errorf("the sources that port %d may answer are others now", p.spec.Port)
	}
	return err
}

// addresses are this host's, as others may reach it: those of global scope.
func (w *Worker) addresses() (own []netip.Addr, err error) {
	read := w.cfg.Addresses
	if read == nil {
		read = w.interfaces
	}
	all, err := read()
	if err != nil {
		return nil, fmt.Errorf("this host's addresses: %w", err)
	}
	for _, a := range all {
		if a = a.Unmap(); a.IsGlobalUnicast() {
			own = append(own, a)
		}
	}
	return own, nil
}

func (w *Worker) interfaces() (all []netip.Addr, err error) {
	err = w.cfg.NetNS.Do(func() error {
		addrs, err := net.InterfaceAddrs()
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok {
					all = append(all, ip.Unmap())
				}
			}
		}
		return err
	})
	slices.SortStableFunc(all, func(a, b netip.Addr) int { // public ones first
		return cmp.Compare(rank(a), rank(b))
	})
	return all, err
}

func rank(a netip.Addr) int {
	if a.IsPrivate() {
		return 1
	}
	return 0
}
