package tfo

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bits of tcpi_options (include/uapi/linux/tcp.h; x/sys has no names for them).
const (
	OptTimestamps = 1
	OptSACK       = 2
	OptWScale     = 4
	OptECN        = 8
	OptSynData    = 32  // all data of the SYN was acknowledged by the SYN-ACK (6f73601efb35, Linux 3.8)
	OptUsecTS     = 64  // microsecond timestamps
	OptTFOChild   = 128 // a listener's child made by Fast Open (2b13042d3636, Linux 6.16)
)

// Values of tcpi_fastopen_client_fail (480274787d7e, Linux 5.5).
const (
	FailUnspec            = 0 // nothing to say; also: the kernel did not try Fast Open at all
	FailCookieUnavailable = 1 // a cookie was requested: set for every request, not a fault
	FailDataNotAcked      = 2 // the SYN-ACK did not acknowledge all SYN data
	FailSynRetransmitted  = 3 // the SYN with data timed out and was sent again without
)

// Info gives the fields of a raw struct tcp_info that evidence is made of.
// The kernel writes as many bytes as it knows; a field beyond the end reads as
// zero, so ask Has first where zero and absent differ.
type Info []byte

// Offsets into struct tcp_info, by way of x/sys, whose own struct has no field
// for byte 7.
const (
	offState        = int(unsafe.Offsetof(unix.TCPInfo{}.State))
	offOptions      = int(unsafe.Offsetof(unix.TCPInfo{}.Options))
	offFlags        = 7 // bit 0 app_limited, bits 1-2 fastopen_client_fail
	offRTT          = int(unsafe.Offsetof(unix.TCPInfo{}.Rtt))
	offTotalRetrans = int(unsafe.Offsetof(unix.TCPInfo{}.Total_retrans))
	offBytesAcked   = int(unsafe.Offsetof(unix.TCPInfo{}.Bytes_acked))
	offBytesRecv    = int(unsafe.Offsetof(unix.TCPInfo{}.Bytes_received))
	offBytesRetrans = int(unsafe.Offsetof(unix.TCPInfo{}.Bytes_retrans))
	offTotalRTO     = int(unsafe.Offsetof(unix.TCPInfo{}.Total_rto))
)

func (i Info) u32(off int) uint32 {
	if len(i) < off+4 {
		return 0
	}
	return binary.NativeEndian.Uint32(i[off:])
}

func (i Info) u64(off int) uint64 {
	if len(i) < off+8 {
		return 0
	}
	return binary.NativeEndian.Uint64(i[off:])
}

func (i Info) u8(off int) uint8 {
	if len(i) <= off {
		return 0
	}
	return i[off]
}

// State is the TCP state as in include/net/tcp_states.h: 1 established,
// 2 SYN_SENT, 7 closed.
func (i Info) State() uint8 { return i.u8(offState) }

// Options is tcpi_options.
func (i Info) Options() uint8 { return i.u8(offOptions) }

// ClientFail is tcpi_fastopen_client_fail.
func (i Info) ClientFail() uint8 { return i.u8(offFlags) >> 1 & 3 }

// RTTMicros is the smoothed round-trip time in microseconds.
func (i Info) RTTMicros() uint32 { return i.u32(offRTT) }

// TotalRetrans counts retransmitted segments, those of the SYN included.
func (i Info) TotalRetrans() int { return int(i.u32(offTotalRetrans)) }

// BytesAcked counts acknowledged sequence numbers; the SYN counts one.
func (i Info) BytesAcked() int { return int(i.u64(offBytesAcked)) }

// BytesReceived counts payload bytes received.
func (i Info) BytesReceived() int { return int(i.u64(offBytesRecv)) }

// BytesRetrans counts retransmitted payload bytes.
func (i Info) BytesRetrans() int { return int(i.u64(offBytesRetrans)) }

// HasTotalRTO reports whether this kernel counts timeouts apart from other
// retransmissions (3868ab0f1925, Linux 6.7).
func (i Info) HasTotalRTO() bool { return len(i) >= offTotalRTO+2 }

// TotalRTO counts retransmission timeouts.
func (i Info) TotalRTO() int {
	if !i.HasTotalRTO() {
		return 0
	}
	return int(binary.NativeEndian.Uint16(i[offTotalRTO:]))
}

// SynTimeouts is how often the SYN was sent again. Before Linux 6.7 timeouts
// are not counted apart, and the resending of unacknowledged SYN data right
// after the SYN-ACK must not pass for one.
func (i Info) SynTimeouts() int {
	if i.HasTotalRTO() {
		return i.TotalRTO()
	}
	if i.ClientFail() == FailDataNotAcked {
		return 0 // the kernel says so only where nothing was sent again before the SYN-ACK
	}
	return i.TotalRetrans()
}

// SynAcked is how many of the n payload bytes in the SYN the SYN-ACK
// acknowledged. It must be read at the handshake. The kernel resends what was
// not acknowledged at once, so bytes_acked may already count the resent bytes;
// bytes_retrans tells them apart (tcp_rcv_fastopen_synack, net/ipv4/tcp_input.c).
func (i Info) SynAcked(n int) int {
	switch {
	case n == 0:
		return 0
	case i.Options()&OptSynData != 0:
		return n
	}
	acked := min(i.BytesAcked()-1, n-i.BytesRetrans())
	return max(0, min(acked, n))
}

// tcpInfoMax is more than any kernel's struct tcp_info (280 on Linux 6.18).
const tcpInfoMax = 512

// readInfo fills buf with struct tcp_info of fd and returns what the kernel
// wrote, as a slice of buf; nil on error.
func readInfo(fd int, buf *[tcpInfoMax]byte) Info {
	n := uint32(len(buf))
	if err := getsockopt(fd, unix.IPPROTO_TCP, unix.TCP_INFO, buf[:], &n); err != 0 {
		return nil
	}
	return Info(buf[:n])
}
