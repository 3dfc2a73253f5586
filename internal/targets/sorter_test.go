package targets

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tfofleet/internal/measure"
)

// sortAll freezes ts and checks that items are numbered in the order they come.
func sortAll(t rapid.TB, s *Sorter, ts []measure.Target) ([]measure.Target, SortStats) {
	t.Helper()
	defer s.Close()
	for _, tg := range ts {
		if err := s.Add(tg); err != nil {
			t.Fatal(err)
		}
	}
	var got []measure.Target
	st, err := s.Finish(func(tg measure.Target) error {
		if tg.Item != uint64(len(got)) {
			t.Fatalf("item %d comes as %d", tg.Item, len(got))
		}
		tg.Item = 0
		got = append(got, tg)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if st.Targets != int64(len(got)) || st.Targets+st.Duplicates != int64(len(ts)) {
		t.Fatalf("%+v for %d targets in, %d out", st, len(ts), len(got))
	}
	return got, st
}

// drawTarget draws from few addresses, ports and names, so that lists are full
// of duplicates.
func drawTarget(t *rapid.T) measure.Target {
	tg := measure.Target{
		Item: rapid.Uint64().Draw(t, "item"),
		Port: uint16(rapid.IntRange(1, 3).Draw(t, "port")),
	}
	n := rapid.ByteRange(0, 40).Draw(t, "n")
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		tg.Addr = netip.AddrFrom4([4]byte{192, 0, 2, n})
	case 1:
		tg.Addr = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: n})
	case 2:
		tg.Hostname = fmt.Sprintf("h%d.example", n)
		return tg
	case 3: // as long as a name can be
		tg.Hostname = strings.Repeat("long.", 50) + fmt.Sprint(n%10)
		return tg
	}
	if rapid.Bool().Draw(t, "named") {
		tg.Hostname = fmt.Sprintf("n%d.example", rapid.IntRange(0, 5).Draw(t, "name"))
	}
	return tg
}

// identity is what makes targets duplicates, written independently of record.
func identity(t measure.Target) string {
	if t.Addr.IsValid() {
		return netip.AddrPortFrom(t.Addr, t.Port).String()
	}
	return fmt.Sprintf("%s %d", t.Hostname, t.Port)
}

// Whatever the list and however little memory there is: the sorter gives every
// target once, with the name that came first, in an order that the seed and the
// set decide.
func TestSorterProperties(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		// Left to itself rapid draws short lists, which never fill a merge.
		n := rapid.SampledFrom([]int{0, 1, 2, 20, 100, 2 * fanIn}).Draw(t, "n")
		list := rapid.SliceOfN(rapid.Custom(drawTarget), n, n).Draw(t, "list")
		limit := rapid.SampledFrom([]int64{1, 700, 3000, 20_000, DefaultMemory}).Draw(t, "limit")

		first := map[string]measure.Target{}
		for _, tg := range list {
			tg.Item = 0
			if _, ok := first[identity(tg)]; !ok {
				first[identity(tg)] = tg
			}
		}
		got, _ := sortAll(t, NewSorter(dir, seed, limit), list)
		if len(got) != len(first) {
			t.Fatalf("%d targets, want %d", len(got), len(first))
		}
		for _, tg := range got {
			if tg != first[identity(tg)] {
				t.Fatalf("%v, want %v", tg, first[identity(tg)])
			}
			delete(first, identity(tg))
		}

		// The same set in another order, in other runs: the same identities.
		shuffled := slices.Clone(list)
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(shuffled), func(i, j int) {
			shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
		})
		other := rapid.SampledFrom([]int64{1, 1500, DefaultMemory}).Draw(t, "other limit")
		again, _ := sortAll(t, NewSorter(dir, seed, other), shuffled)
		if !slices.EqualFunc(got, again, func(a, b measure.Target) bool { return identity(a) == identity(b) }) {
			t.Fatalf("order depends on the order of the list")
		}
	})
}

// More runs than can be merged at once, with a duplicate in each.
func TestManyRuns(t *testing.T) {
	var list []measure.Target
	for i := range 3 * fanIn {
		list = append(list,
			measure.Target{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Port: 1},
			measure.Target{Addr: netip.AddrFrom4([4]byte{10, 1, 0, 0}), Port: 1, Hostname: fmt.Sprintf("h%d", i)})
	}
	s := NewSorter(t.TempDir(), 5, 1)
	passes := 0
	s.create = func(dir string) (spillFile, error) { passes++; return createSpill(dir) }
	got, st := sortAll(t, s, list)
	want, _ := sortAll(t, NewSorter(t.TempDir(), 5, 0), list)
	if !slices.Equal(got, want) {
		t.Error("merging in passes gives another list than sorting in memory")
	}
	if want := (SortStats{Targets: 3*fanIn + 1, Duplicates: 3*fanIn - 1}); st != want {
		t.Errorf("%+v, want %+v", st, want)
	}
	if passes != 2 {
		t.Errorf("%d run files for two passes", passes)
	}
	if i := slices.IndexFunc(got, func(t measure.Target) bool { return t.Hostname != "" }); got[i].Hostname != "h0" {
		t.Errorf("the name that came first is h0, not %s", got[i].Hostname)
	}
}

// The order is a promise: a survey is made again from its list and its seed.
// The values come from another implementation of SHA-256 (Python's hashlib).
func TestPlace(t *testing.T) {
	for _, tt := range []struct {
		seed uint64
		line string
		want string
	}{
		{0x0, "192.0.2.1:443", "2fbe9a9ba27616f7"},
		{0x123456789abcdef, "192.0.2.1:443", "f4e4bfaa9fbd3491"},
		{0x0, "[2001:db8::1]:80", "7d0fc5dff2d4f75f"},
		{0x123456789abcdef, "[2001:db8::1]:80", "82dbac460649d951"},
		{0x0, "example.com:8443", "f72c500f64379333"},
		{0x123456789abcdef, "example.com:8443", "2801a2db43e9032e"},
	} {
		_, err := Read(strings.NewReader(tt.line), "", ReadOptions{}, func(tg measure.Target) error {
			rec, err := appendRecord(nil, tg)
			if got := fmt.Sprintf("%016x", place(tt.seed, rec)); got != tt.want {
				t.Errorf("%s with seed %x: %s, want %s", tt.line, tt.seed, got, tt.want)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// Neighbours are not hit in a row: in the order of a /16, addresses that
// follow each other are as far apart as chance puts them.
func TestNeighboursApart(t *testing.T) {
	for seed := range uint64(5) {
		s := NewSorter(t.TempDir(), seed, 0)
		if _, err := Read(strings.NewReader("10.1.0.0/16"), "", ReadOptions{Ports: []uint16{443}}, s.Add); err != nil {
			t.Fatal(err)
		}
		var order []int
		if _, err := s.Finish(func(tg measure.Target) error {
			b := tg.Addr.As4()
			order = append(order, int(b[2])<<8|int(b[3]))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		const n = 1 << 16
		adjacent, sameNet, ascending := 0, 0, 0
		distance := 0.0
		for i := 1; i < len(order); i++ {
			d := order[i] - order[i-1]
			if d > 0 {
				ascending++
			}
			d = max(d, -d)
			distance += float64(d)
			if d == 1 {
				adjacent++
			}
			if order[i]>>8 == order[i-1]>>8 {
				sameNet++
			}
		}
		// By chance: 2 pairs of neighbours, 255 pairs in one /24 (standard
		// deviation 16), half the steps up (74), a mean distance of n/3 (0.3 %).
		// The bounds are 5 deviations or more away, and the seeds are fixed.
		if len(order) != n || adjacent > 12 || sameNet > 340 || max(ascending-n/2, n/2-ascending) > 500 ||
			distance/n < 0.325*n || distance/n > 0.342*n {
			t.Errorf("seed %d: %d addresses, %d neighbours, %d pairs in a /24, %d steps up, mean distance %.0f",
				seed, len(order), adjacent, sameNet, ascending, distance/n)
		}
	}
}

// A list that fits touches no disk: the directory does not even exist.
func TestSmallListMakesNoFile(t *testing.T) {
	s := NewSorter(filepath.Join(t.TempDir(), "missing"), 1, 0)
	var list []measure.Target
	for i := range 1000 {
		list = append(list, measure.Target{Hostname: fmt.Sprintf("h%d.example", i), Port: 443})
	}
	sortAll(t, s, list)
}

// openSpills counts the run files this process holds in dir.
func openSpills(t *testing.T, dir string) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(name, dir) {
			n++
		}
	}
	return n
}

func TestSpillLeavesNothingBehind(t *testing.T) {
	for name, end := range map[string]func(s *Sorter) error{
		"finish": func(s *Sorter) error {
			_, err := s.Finish(func(measure.Target) error { return nil })
			return err
		},
		"finish fails": func(s *Sorter) error {
			stop := errors.New("stop")
			if _, err := s.Finish(func(measure.Target) error { return stop }); err != stop {
				return fmt.Errorf("want the error of emit, got %w", err)
			}
			return nil
		},
		"close": func(s *Sorter) error { s.Close(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := NewSorter(dir, 1, 1)
			for i := range 100 {
				if err := s.Add(measure.Target{Hostname: fmt.Sprint("h", i), Port: 443}); err != nil {
					t.Fatal(err)
				}
			}
			if n := openSpills(t, dir); n != 1 {
				t.Errorf("%d run files are open, want 1", n)
			}
			if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
				t.Errorf("a crash now would leave %v (%v)", files, err)
			}
			if err := end(s); err != nil {
				t.Error(err)
			}
			if n := openSpills(t, dir); n != 0 {
				t.Errorf("%d run files are still open", n)
			}
			s.Close()
			if err := s.Add(measure.Target{Hostname: "late", Port: 1}); err == nil {
				t.Error("a finished sorter takes targets")
			}
			if _, err := s.Finish(nil); err == nil {
				t.Error("a sorter finishes twice")
			}
		})
	}
}

// The device that is always full gives the error of a full disk.
func TestDiskFull(t *testing.T) {
	s := NewSorter(t.TempDir(), 1, 1)
	s.create = func(string) (spillFile, error) { return os.OpenFile("/dev/full", os.O_RDWR, 0) }
	var err error
	for i := 0; err == nil && i < 100; i++ {
		err = s.Add(measure.Target{Hostname: fmt.Sprint("h", i), Port: 443})
	}
	if err == nil || err.Error() != "temporary file for sorting targets: write /dev/full: no space left on device" {
		t.Errorf("error %v", err)
	}
	if openSpills(t, "/dev/full") != 0 {
		t.Error("the file is still open")
	}
	if again := s.Add(measure.Target{Hostname: "x", Port: 1}); again != err {
		t.Errorf("after the error: %v", again)
	}
	if _, again := s.Finish(nil); again != err {
		t.Errorf("after the error: %v", again)
	}
}

func TestNoDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	s := NewSorter(dir, 1, 1)
	if err := s.Add(measure.Target{Hostname: "a", Port: 1}); err != nil {
		t.Fatal(err)
	}
	err := s.Add(measure.Target{Hostname: "b", Port: 1})
	if !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "temporary file for sorting targets: open "+dir) {
		t.Errorf("error %v", err)
	}
}

// faultyFile fails the k-th operation of all files that share the counter.
type faultyFile struct {
	spillFile
	left, open *int
}

var errFault = errors.New("fault")

func (f faultyFile) fail() bool { *f.left--; return *f.left == 0 }

func (f faultyFile) Write(p []byte) (int, error) {
	if f.fail() {
		n, _ := f.spillFile.Write(p[:len(p)/2])
		return n, errFault
	}
	return f.spillFile.Write(p)
}

func (f faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if f.fail() {
		return 0, errFault
	}
	return f.spillFile.ReadAt(p, off)
}

func (f faultyFile) Close() error { *f.open--; return f.spillFile.Close() }

// Fail the first operation on the disk, the second, and so on until none is
// left to fail: every failure is told, and no file stays open.
func TestEveryFault(t *testing.T) {
	dir := t.TempDir()
	for k := 1; ; k++ {
		left, open := k, 0
		s := NewSorter(dir, 1, 1)
		s.create = func(dir string) (spillFile, error) {
			if left--; left == 0 {
				return nil, errFault
			}
			f, err := createSpill(dir)
			if err == nil {
				open++
			}
			return faultyFile{f, &left, &open}, err
		}
		var err error
		targets := fanIn + 10
		for i := 0; err == nil && i < targets; i++ {
			err = s.Add(measure.Target{Hostname: fmt.Sprint("h", i), Port: 443})
		}
		if err == nil {
			_, err = s.Finish(func(measure.Target) error { return nil })
		}
		if open != 0 {
			t.Fatalf("fault %d: %d files are still open", k, open)
		}
		if left > 0 {
			if err != nil {
				t.Fatalf("no fault, but %v", err)
			}
			if k < 2*targets {
				t.Errorf("only %d operations on the disk", k)
			}
			return
		}
		if !errors.Is(err, errFault) || strings.Count(err.Error(), "temporary file") != 1 {
			t.Fatalf("fault %d is told as %v", k, err)
		}
	}
}

// A run that ends early is damage, not the end of the list.
func TestCutRun(t *testing.T) {
	s := NewSorter(t.TempDir(), 1, 1)
	s.create = func(dir string) (spillFile, error) {
		f, err := createSpill(dir)
		return cutFile{f}, err
	}
	for i := range 3 {
		if err := s.Add(measure.Target{Hostname: fmt.Sprint("h", i), Port: 443}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Finish(func(measure.Target) error { return nil }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v", err)
	}
}

// cutFile loses the last byte of what is read.
type cutFile struct{ spillFile }

func (f cutFile) ReadAt(p []byte, off int64) (int, error) {
	n, _ := f.spillFile.ReadAt(p, off)
	return max(0, n-1), io.EOF
}

// A mapped address is the IPv4 address it stands for.
func TestAddUnmaps(t *testing.T) {
	got, _ := sortAll(t, NewSorter(t.TempDir(), 1, 0), []measure.Target{
		{Addr: netip.MustParseAddr("::ffff:192.0.2.1"), Port: 443, Hostname: "a.example"},
		{Addr: netip.MustParseAddr("192.0.2.1"), Port: 443},
	})
	if want := (measure.Target{Addr: netip.MustParseAddr("192.0.2.1"), Port: 443, Hostname: "a.example"}); len(got) != 1 || got[0] != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAddRefuses(t *testing.T) {
	for _, tg := range []measure.Target{
		{Port: 443},
		{Addr: netip.MustParseAddr("fe80::1%eth0"), Port: 443},
		{Hostname: strings.Repeat("x", 256), Port: 443},
	} {
		s := NewSorter(t.TempDir(), 1, 0)
		if err := s.Add(tg); err == nil {
			t.Errorf("%v is taken", tg)
		}
	}
}

// The limit holds: what a sorter keeps does not grow with the list.
func TestMemoryLimit(t *testing.T) {
	const limit = 1 << 20
	s := NewSorter(t.TempDir(), 1, limit)
	defer s.Close()
	for i := range 200_000 {
		// Small records, so that the index is most of the memory.
		addr := netip.AddrFrom4([4]byte{1, byte(i >> 16), byte(i >> 8), byte(i)})
		if err := s.Add(measure.Target{Addr: addr, Port: 443}); err != nil {
			t.Fatal(err)
		}
		if held := int64(cap(s.index))*slotSize + s.arena.used(); held > limit+int64(s.arena.size) {
			t.Fatalf("%d bytes after %d targets", held, i)
		}
	}
	if len(s.runs.runs) > 2*200_000*(slotSize+8)/limit {
		t.Errorf("%d runs: memory is left unused", len(s.runs.runs))
	}
}
