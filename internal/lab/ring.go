package lab

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ringFrame  = 2048 // one frame and its header; the rest is room to grow
	ringBlock  = 1 << 16
	ringBlocks = 128 // of a port that many connections pass at a time

	txBatch = 64
)

// port is one veth end as the box sees it: a packet socket with a receive ring
// (TPACKET_V2: version 3 hands over whole blocks, after a timeout of whole
// jiffies, which would delay every lone frame) and a batch of frames to send.
type port struct {
	fd   int
	ring []byte
	len  int // of the ring, in slots
	head int // the slot to read next
	tail int // the slot to give back next; slots in between are being worked on

	tx  int
	msg [txBatch]mmsghdr
	iov [txBatch]unix.Iovec

	txFailed atomic.Uint64
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// openPort must run inside the namespace of the interface. The ring has as many
// blocks.
func openPort(name string, blocks int) (*port, error) {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	p := &port{fd: fd, len: blocks * (ringBlock / ringFrame)}
	if err := p.setUp(iface.Index, blocks); err != nil {
		p.close()
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	for i := range p.msg {
		p.msg[i].hdr.Iov = &p.iov[i]
		p.msg[i].hdr.Iovlen = 1
	}
	return p, nil
}

func (p *port) setUp(index, blocks int) error {
	for _, o := range []struct{ opt, value int }{
		{unix.PACKET_VERSION, unix.TPACKET_V2},
		{unix.PACKET_IGNORE_OUTGOING, 1},
		{unix.PACKET_QDISC_BYPASS, 1},
	} {
		if err := unix.SetsockoptInt(p.fd, unix.SOL_PACKET, o.opt, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	req := unix.TpacketReq{Block_size: ringBlock, Block_nr: uint32(blocks), Frame_size: ringFrame, Frame_nr: uint32(p.len)}
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(p.fd), unix.SOL_PACKET, unix.PACKET_RX_RING,
		uintptr(unsafe.Pointer(&req)), unsafe.Sizeof(req), 0)
	if errno != 0 {
		return os.NewSyscallError("setsockopt", errno)
	}
	var err error
	p.ring, err = unix.Mmap(p.fd, 0, ringBlock*blocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	all := uint16(unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8)
	return os.NewSyscallError("bind", unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}))
}

func (p *port) slot(i int) []byte {
	return p.ring[i*ringFrame : (i+1)*ringFrame : (i+1)*ringFrame]
}

func (p *port) status(i int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&p.ring[i*ringFrame]))
}

func (p *port) readable() bool { return p.status(p.head).Load()&unix.TP_STATUS_USER != 0 }

// next returns the next frame received, nil when there is none. The frame, and
// room behind it, stay valid until release.
func (p *port) next() []byte {
	if !p.readable() {
		return nil
	}
	s := p.slot(p.head)
	h := (*unix.Tpacket2Hdr)(unsafe.Pointer(&s[0]))
	from, to := int(h.Mac), int(h.Mac)+int(h.Snaplen)
	p.head = (p.head + 1) % p.len
	if h.Snaplen != h.Len || to > len(s) {
		return s[from:from] // longer than any frame of the lab's links; nobody can parse it
	}
	return s[from:to]
}

// release gives every slot read so far back to the kernel.
func (p *port) release() {
	for p.tail != p.head {
		p.status(p.tail).Store(unix.TP_STATUS_KERNEL)
		p.tail = (p.tail + 1) % p.len
	}
}

// send queues a frame; b must stay as it is until flush.
func (p *port) send(b []byte) {
	if p.tx == txBatch {
		p.flush()
	}
	p.iov[p.tx].Base = &b[0]
	p.iov[p.tx].SetLen(len(b))
	p.tx++
}

// flush sends what is queued. A frame that the kernel does not take is lost
// and counted: the lab must never lose one in silence.
func (p *port) flush() {
	for i := 0; i < p.tx; {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(p.fd), uintptr(unsafe.Pointer(&p.msg[i])), uintptr(p.tx-i), 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			p.txFailed.Add(1)
			n = 1
		}
		i += int(n)
	}
	clear(p.iov[:p.tx]) // do not keep buffers alive
	p.tx = 0
}

// drops reads and clears the kernel's count of frames that found the ring full.
func (p *port) drops() (uint64, error) {
	var st unix.TpacketStats
	size := uint32(unsafe.Sizeof(st))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(p.fd), unix.SOL_PACKET, unix.PACKET_STATISTICS,
		uintptr(unsafe.Pointer(&st)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, os.NewSyscallError("getsockopt", errno)
	}
	return uint64(st.Drops), nil
}

func (p *port) close() {
	if p.ring != nil {
		_ = unix.Munmap(p.ring)
		p.ring = nil
	}
	unix.Close(p.fd)
}
