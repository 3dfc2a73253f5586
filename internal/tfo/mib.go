package tfo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// Counter names one of the kernel's counters that Fast Open moves
// (net/ipv4/proc.c). They count for a network namespace: a change must never
// be charged to one connection, unless nothing else lives there.
type Counter int

const (
	CountActive         Counter = iota // client: SYN data acknowledged
	CountActiveFail                    // client: SYN data not acknowledged, or a third timeout
	CountPassive                       // listener: a TFO child was made, also for a SYN without data
	CountPassiveFail                   // listener: a wrong cookie, or no child could be made
	CountListenOverflow                // listener: too many pending; neither cookie nor child
	CountCookieReqd                    // listener: a cookie was asked for
	CountBlackhole                     // client: Fast Open paused, see tcp_fastopen_blackhole_timeout_sec (Linux 4.12)
	CountPassiveAltKey                 // listener: a cookie of the backup key (Linux 5.3)

	// Not of Fast Open, but each withholds it from a listener's clients.
	CountAcceptOverflow // the accept queue was full
	CountListenDrops    // a SYN or an ACK to a listener was dropped
	CountSyncookies     // SYN cookies were sent: no options of the SYN are kept

	Counters int = iota
)

var counterNames = [Counters]string{
	"TCPFastOpenActive", "TCPFastOpenActiveFail", "TCPFastOpenPassive", "TCPFastOpenPassiveFail",
	"TCPFastOpenListenOverflow", "TCPFastOpenCookieReqd", "TCPFastOpenBlackhole", "TCPFastOpenPassiveAltKey",
	"ListenOverflows", "ListenDrops", "SyncookiesSent",
}

// String is the kernel's name, as in /proc/net/netstat.
func (c Counter) String() string {
	if c < 0 || int(c) >= Counters {
		return "unknown"
	}
	return counterNames[c]
}

// MIB holds the counters, by Counter; NotKnown where the kernel has none.
type MIB [Counters]int64

// Since is how far each counter moved since before. The kernel's counters only
// grow. A counter not known on either side stays not known.
func (m MIB) Since(before MIB) MIB {
	for i := range m {
		if m[i] == NotKnown || before[i] == NotKnown {
			m[i] = NotKnown
			continue
		}
		m[i] -= before[i]
	}
	return m
}

// ReadMIB reads the counters of a network namespace.
func ReadMIB(ns NetNS) (MIB, error) {
	var m MIB
	err := ns.Do(func() error {
		f, err := openMIB()
		if err != nil {
			return err
		}
		defer f.Close()
		m, err = f.read()
		return err
	})
	return m, err
}

// mibFile stays with the namespace of the thread that opened it.
type mibFile struct {
	f   *os.File
	buf []byte
}

// openMIB opens the counters of the calling thread's namespace. /proc/net would
// be that of the main thread.
func openMIB() (*mibFile, error) {
	f, err := os.Open("/proc/thread-self/net/netstat")
	if err != nil {
		return nil, fmt.Errorf("kernel counters: %w", err)
	}
	return &mibFile{f: f, buf: make([]byte, 16<<10)}, nil
}

func (f *mibFile) Close() error { return f.f.Close() }

func (f *mibFile) read() (MIB, error) {
	for n := 0; ; {
		k, err := f.f.ReadAt(f.buf[n:], int64(n))
		if n += k; err != nil {
			if !errors.Is(err, io.EOF) {
				return MIB{}, fmt.Errorf("kernel counters: %w", err)
			}
			return parseMIB(f.buf[:n])
		}
		f.buf = append(f.buf, make([]byte, len(f.buf))...)
	}
}

// parseMIB reads the text of /proc/net/netstat: pairs of lines, "TcpExt:" and
// names, "TcpExt:" and as many values.
func parseMIB(text []byte) (MIB, error) {
	m := MIB{}
	for i := range m {
		m[i] = NotKnown
	}
	const group = "TcpExt:"
	lines := bytes.Lines(text)
	var names [][]byte
	for line := range lines {
		fields := bytes.Fields(line)
		if len(fields) == 0 || string(fields[0]) != group {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		if len(fields) != len(names) {
			return MIB{}, fmt.Errorf("kernel counters: %d values for %d names", len(fields)-1, len(names)-1)
		}
		for i, name := range names {
			for c, want := range counterNames {
				if string(name) != want {
					continue
				}
				v, err := strconv.ParseInt(string(fields[i]), 10, 64)
				if err != nil || v < 0 {
					return MIB{}, fmt.Errorf("kernel counters: %s is %q", want, fields[i])
				}
				m[c] = v
			}
		}
		return m, nil
	}
	return MIB{}, errors.New("kernel counters: no " + group + " lines")
}
