package export

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"time"

	"tfofleet/internal/dataset"
	"tfofleet/internal/tfo"
)

// writePCAPNG writes the SYN and the SYN-ACK of every attempt that was captured,
// one section per measurement with the target and the verdict as its comment.
// A dataset keeps headers alone, so packets are cut off behind them; and no time
// of a packet, so the SYN has that of its attempt, and the SYN-ACK that of the
// handshake.
func writePCAPNG(dir string, w io.Writer) error {
	out := bufio.NewWriter(w)
	for r, err := range dataset.Read(dir) {
		if err != nil {
			return err
		}
		some := false
		for i := range r.Attempts {
			some = packets(&r.Attempts[i]) || some
		}
		if !some {
			continue
		}
		about := fmt.Sprintf("%v %s: %v, by probe %s", netip.AddrPortFrom(r.Addr, r.Port), r.Hostname, r.Verdict, r.Probe)
		if err := tfo.WritePCAPNG(out, about, r.Attempts, nil); err != nil {
			return err
		}
	}
	return out.Flush()
}

// packets puts the packets that are known back with the evidence, and reports
// whether there are any.
func packets(e *tfo.Evidence) bool {
	if e.Wire == nil {
		return false
	}
	add := func(s *tfo.Segment, at time.Time) {
		if len(s.Raw) > 0 {
			e.Wire.Packets = append(e.Wire.Packets, tfo.Packet{Time: at, Length: len(s.Raw) + s.Payload, Data: s.Raw})
		}
	}
	add(&e.Wire.Syn, e.Start)
	add(&e.Wire.SynAck, e.Start.Add(time.Duration(max(0, e.ConnectNS))))
	return len(e.Wire.Packets) > 0
}
