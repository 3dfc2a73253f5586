package targets

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime/metrics"
	"strconv"
	"testing"
	"time"

	"tfofleet/internal/measure"
)

// The full size of design.md section 8:
//
//	go test ./internal/targets -run TestFreezeMemory -v -lines 10000000
var freezeLines = flag.Int("lines", 500_000, "length of the list that TestFreezeMemory reads")

// maxMemory is what a list of any length may cost, sorting included.
const maxMemory = 200 << 20

// generatedList is a list of n lines in every format, made while it is read.
// Every tenth line repeats an earlier one.
type generatedList struct {
	n, next int
	buf     []byte
	rest    []byte
}

func (g *generatedList) Read(p []byte) (int, error) {
	if len(g.rest) == 0 {
		if g.next == g.n {
			return 0, io.EOF
		}
		g.buf = g.buf[:0]
		for range min(1000, g.n-g.next) {
			g.buf = appendListLine(g.buf, g.next)
			g.next++
		}
		g.rest = g.buf
	}
	n := copy(p, g.rest)
	g.rest = g.rest[n:]
	return n, nil
}

func appendListLine(b []byte, i int) []byte {
	if i%10 == 9 {
		i = i / 2 / 10 * 10
	}
	x := uint32(i) * 2654435761 // spreads i over 32 bits, one to one
	switch i % 5 {
	case 0:
		return fmt.Appendf(b, "%d,site-%x.example.com\r\n", i+1, x)
	case 1:
		return fmt.Appendf(b, "%d.%d.%d.%d\n", byte(x>>24), byte(x>>16), byte(x>>8), byte(x))
	case 2:
		return fmt.Appendf(b, "www.shop-%x.example:8443\n", x)
	case 3:
		return fmt.Appendf(b, "[2001:db8:%x::%x]:443\n", x>>16, x&0xffff)
	default:
		return fmt.Appendf(b, `{"ip":"%d.%d.%d.%d","port":443,"domain":"h%x.example.net"}`+"\n", byte(x>>24), byte(x>>16), byte(x>>8), byte(x), x)
	}
}

// TestFreezeMemory reads and sorts a long list and looks at the memory of the
// Go runtime all the way; with -v it also tells lines per second and the peak
// of the resident set.
func TestFreezeMemory(t *testing.T) {
	resetPeakRSS()
	var peak uint64
	steps := 0
	watch := func() {
		if steps++; steps%50_000 == 0 {
			peak = max(peak, goMemory())
		}
	}
	start := time.Now()
	s := NewSorter(t.TempDir(), 1, 0)
	defer s.Close()
	read, err := Read(&generatedList{n: *freezeLines}, "generated", ReadOptions{Ports: []uint16{443}},
		func(tg measure.Target) error { watch(); return s.Add(tg) })
	if err != nil {
		t.Fatal(err)
	}
	added := time.Since(start)
	items := uint64(0)
	st, err := s.Finish(func(tg measure.Target) error {
		if tg.Item != items {
			return fmt.Errorf("item %d comes as %d", items, tg.Item)
		}
		items++
		watch()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	total := time.Since(start)

	if read.Lines != int64(*freezeLines) || read.Targets != read.Lines {
		t.Errorf("read %+v of %d lines", read, *freezeLines)
	}
	if st.Targets+st.Duplicates != read.Targets || st.Duplicates != int64(*freezeLines/10) {
		t.Errorf("sorted %+v of %d targets", st, read.Targets)
	}
	if peak > maxMemory {
		t.Errorf("%d lines took %d MiB", *freezeLines, peak>>20)
	}
	t.Logf("%d lines: read and spilled in %v, merged in %v: %.0f lines/s; Go memory %d MiB, peak RSS %d MiB",
		read.Lines, added.Round(time.Millisecond), (total - added).Round(time.Millisecond),
		float64(read.Lines)/total.Seconds(), peak>>20, peakRSS()>>20)
}

// goMemory is what the Go runtime holds from the system.
func goMemory() uint64 {
	m := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(m)
	return m[0].Value.Uint64() - m[1].Value.Uint64()
}

func resetPeakRSS() { os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// peakRSS is in bytes, 0 where it can not be told.
func peakRSS() int {
	status, _ := os.ReadFile("/proc/self/status")
	m := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(status)
	if m == nil {
		return 0
	}
	kb, _ := strconv.Atoi(string(m[1]))
	return kb << 10
}

func BenchmarkRead(b *testing.B) {
	for _, f := range []struct{ name, line string }{
		{"host", "www.example.com:443\n"},
		{"address", "192.0.2.1\n"},
		{"csv", "1,example.com\n"},
		{"json", `{"ip":"192.0.2.1","port":443,"domain":"example.com"}` + "\n"},
		{"idn", "bücher.example\n"},
	} {
		b.Run(f.name, func(b *testing.B) {
			b.ReportAllocs()
			list := bytes.Repeat([]byte(f.line), b.N)
			b.SetBytes(int64(len(f.line)))
			b.ResetTimer()
			st, err := Read(bytes.NewReader(list), "bench", ReadOptions{Ports: []uint16{443}}, func(measure.Target) error { return nil })
			if err != nil || st.Targets != int64(b.N) {
				b.Fatal(st, err)
			}
		})
	}
}
