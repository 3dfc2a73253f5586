package tfo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// maxComment is the longest a pcapng option can be.
const maxComment = 1<<16 - 1

// WritePCAPNG writes the packets kept with the attempts as a pcapng file, from
// the IP header on and cut off behind the headers. About becomes the comment
// of the file; the first packet of each attempt gets a summary of it, and
// comment(i), if comment is not nil and that is not empty, as comments.
// Attempts of which nothing was seen leave nothing in the file.
func WritePCAPNG(w io.Writer, about string, attempts []Evidence, comment func(i int) string) error {
	ng, err := pcapgo.NewNgWriterInterface(w,
		pcapgo.NgInterface{Name: "any", LinkType: layers.LinkTypeRaw, SnapLength: snapLen, TimestampResolution: 9},
		pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Application: "tfofleet", Comment: commentText(about)}})
	if err != nil {
		return fmt.Errorf("write pcapng: %w", err)
	}
	for i := range attempts {
		ev := &attempts[i]
		if ev.Wire == nil {
			continue
		}
		var opts pcapgo.NgPacketOptions
		opts.Comments = append(opts.Comments, commentText(fmt.Sprintf("attempt %d: %s", i+1, ev.summary())))
		if comment != nil {
			if c := comment(i); c != "" {
				opts.Comments = append(opts.Comments, commentText(c))
			}
		}
		for _, p := range ev.Wire.Packets {
			ci := gopacket.CaptureInfo{Timestamp: p.Time, CaptureLength: len(p.Data), Length: p.Length}
			if err := ng.WritePacketWithOptions(ci, p.Data, opts); err != nil {
				return fmt.Errorf("write pcapng: %w", err)
			}
			opts = pcapgo.NgPacketOptions{}
		}
	}
	if err := ng.Flush(); err != nil {
		return fmt.Errorf("write pcapng: %w", err)
	}
	return nil
}

// commentText makes s fit to be a comment: UTF-8, and not too long.
func commentText(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxComment)], "")
}

// summary is the attempt in one line.
func (ev *Evidence) summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v", ev.Kind)
	if w := ev.Wire; w != nil {
		fmt.Fprintf(&b, ", %s", w.Syn.words("SYN"))
		if w.Syns > 1 {
			fmt.Fprintf(&b, ", sent %d times", w.Syns)
		}
		if w.SynAcks > 0 {
			fmt.Fprintf(&b, "; %s, %d of %d bytes acknowledged", w.SynAck.words("SYN-ACK"), w.Acked, w.Syn.Payload)
		}
		if w.Resets > 0 {
			fmt.Fprintf(&b, "; RST with TTL %d", w.ResetTTL)
		}
		if w.ICMPErrors > 0 {
			fmt.Fprintf(&b, "; ICMP type %d code %d from %v", w.ICMPType, w.ICMPCode, w.ICMPFrom)
		}
	}
	fmt.Fprintf(&b, "; %v", ev.End)
	if ev.Errno != "" {
		fmt.Fprintf(&b, " (%s)", ev.Errno)
	}
	if ev.TotalNS >= 0 {
		fmt.Fprintf(&b, " after %v", time.Duration(ev.TotalNS).Round(time.Microsecond))
	}
	return b.String()
}

// words says what the segment carried.
func (s *Segment) words(name string) string {
	switch {
	case s.OptionKind == 0:
		name += " without TFO option"
	case len(s.Cookie) == 0:
		name += fmt.Sprintf(" with empty option %d", s.OptionKind)
	default:
		name += fmt.Sprintf(" with cookie %x in option %d", s.Cookie, s.OptionKind)
	}
	if s.Payload > 0 {
		name += fmt.Sprintf(" and %d bytes", s.Payload)
	}
	return name
}
