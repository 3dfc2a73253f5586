package tfo

import (
	"errors"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	ringFrame = 256 // header, address and snapLen bytes of a packet
	ringBlock = 1 << 16
	// ringFrames is 0.4 s of a loop that is not run, at 20,000 attempts per
	// second and two packets each.
	ringFrames = 16384
)

// packetRing is a packet socket with a receive ring in shared memory
// (Documentation/networking/packet_mmap.rst). The version is 2: a packet can
// be read the moment the kernel has it, and the kernel has it before TCP does
// (net/core/dev.c: taps come first). Version 3 hands over whole blocks, after
// a timeout of whole jiffies.
type packetRing struct {
	fd   int
	mem  []byte
	head int // the slot the kernel fills next, or has filled
}

// openRing opens a ring in the network namespace of the calling thread.
func openRing() (*packetRing, error) {
	// Protocol 0: nothing is delivered before the filter stands. A cooked
	// socket, so that packets start at the IP header whatever the link is.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	r := &packetRing{fd: fd}
	if err := r.setUp(); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *packetRing) setUp() error {
	raw, err := bpf.Assemble(captureFilter())
	if err != nil {
		return err
	}
	prog := make([]unix.SockFilter, len(raw))
	for i, in := range raw {
		prog[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	if err := unix.SetsockoptSockFprog(r.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}); err != nil {
		return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", err)
	}
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
		return os.NewSyscallError("setsockopt PACKET_VERSION", err)
	}
	req := unix.TpacketReq{Block_size: ringBlock, Block_nr: ringFrames * ringFrame / ringBlock, Frame_size: ringFrame, Frame_nr: ringFrames}
	if _, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(r.fd), unix.SOL_PACKET, unix.PACKET_RX_RING, uintptr(unsafe.Pointer(&req)), unsafe.Sizeof(req), 0); e != 0 {
		return os.NewSyscallError("setsockopt PACKET_RX_RING", e)
	}
	if r.mem, err = unix.Mmap(r.fd, 0, ringFrames*ringFrame, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return os.NewSyscallError("mmap", err)
	}
	// Only a socket bound to all protocols sees packets that leave.
	return os.NewSyscallError("bind", unix.Bind(r.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL)}))
}

func htons(v uint16) uint16 {
	if littleEndian {
		return v<<8 | v>>8
	}
	return v
}

// close is safe on a ring that was set up in part.
func (r *packetRing) close() error {
	var err error
	if r.mem != nil {
		err = unix.Munmap(r.mem)
		r.mem = nil
	}
	return errors.Join(err, unix.Close(r.fd))
}

func (r *packetRing) slot(n int) []byte {
	at := (r.head + n) % ringFrames * ringFrame
	return r.mem[at : at+ringFrame : at+ringFrame]
}

func (r *packetRing) status(n int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&r.slot(n)[0]))
}

// frame is a packet in the ring. It is valid until the slot is given back.
type frame struct {
	data     []byte // from the IP header on
	length   int    // on the wire
	time     time.Time
	link     int32 // index of the interface
	outgoing bool
	losing   bool // packets were dropped since the statistics were last read
}

// next reports the packet at the head of the ring, if the kernel has put one
// there.
func (r *packetRing) next(f *frame) bool {
	st := r.status(0).Load()
	if st&unix.TP_STATUS_USER == 0 {
		return false
	}
	s := r.slot(0)
	h := (*unix.Tpacket2Hdr)(unsafe.Pointer(&s[0]))
	sll := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&s[(unsafe.Sizeof(*h)+unix.TPACKET_ALIGNMENT-1)&^(unix.TPACKET_ALIGNMENT-1)]))
	from := min(int(h.Net), len(s))
	f.data = s[from:min(from+int(h.Snaplen), len(s))]
	f.length = int(h.Len)
	f.time = time.Unix(int64(h.Sec), int64(h.Nsec))
	f.link = sll.Ifindex
	f.outgoing = sll.Pkttype == unix.PACKET_OUTGOING
	f.losing = st&unix.TP_STATUS_LOSING != 0
	return true
}

// release gives the slot at the head back to the kernel.
func (r *packetRing) release() {
	r.status(0).Store(unix.TP_STATUS_KERNEL)
	r.head = (r.head + 1) % ringFrames
}

// overtaken reports whether a slot behind an unready head is ready. Slots are
// taken in order and filled in any: another processor is still filling the
// head's.
func (r *packetRing) overtaken() bool {
	for n := 1; n <= 16; n++ {
		if r.status(n).Load()&unix.TP_STATUS_USER != 0 {
			return true
		}
	}
	return false
}

// drops reads and clears the kernel's count of packets that found the ring
// full.
func (r *packetRing) drops() uint64 {
	st, err := unix.GetsockoptTpacketStats(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0 // cannot be: the descriptor is a packet socket's
	}
	return uint64(st.Drops)
}
