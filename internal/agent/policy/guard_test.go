package policy

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var google = netip.MustParseAddr("8.8.8.8")

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func openGuard(t *testing.T, text string) (g *Guard, dir string) {
	t.Helper()
	dir = t.TempDir()
	path := filepath.Join(dir, "policy.yaml")
	write(t, path, text)
	g, err := Open(path, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g, dir
}

func TestKillSwitch(t *testing.T) {
	g, dir := openGuard(t, "kill_switch: stop")
	now := time.Now()
	check := func(want Reason) {
		t.Helper()
		if got, ok := g.Check(google, 443, now); got != want || ok != (want == "") {
			t.Errorf("%q, want %q", got, want)
		}
		if got, _ := g.CheckName("example.org", now); got != want {
			t.Errorf("name: %q, want %q", got, want)
		}
		if _, got, ok := g.CheckListen(80, time.Second, now); ok || got != cmp.Or(want, ListenOff) || want == KillSwitch != g.Stopped(now) {
			t.Error("listener or state")
		}
	}
	check("")
	write(t, filepath.Join(dir, "stop"), "")
	now = now.Add(killEvery)
	check(KillSwitch)
	if err := os.Remove(filepath.Join(dir, "stop")); err != nil {
		t.Fatal(err)
	}
	check(KillSwitch) // it is not looked for at every check
	now = now.Add(killEvery)
	check("")
	write(t, filepath.Join(dir, "stop"), "")
	now = now.Add(-time.Hour) // the clock was set back
	check(KillSwitch)
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	check(KillSwitch)
	// Even a link that leads nowhere, and a place where nobody can look.
	if err := errors.Join(os.Remove(filepath.Join(dir, "stop")), os.Symlink("nowhere", filepath.Join(dir, "stop"))); err != nil {
		t.Fatal(err)
	}
	now = now.Add(killEvery)
	check(KillSwitch)
	write(t, filepath.Join(dir, "file"), "")
	write(t, filepath.Join(dir, "policy.yaml"), "kill_switch: file/stop")
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	check(KillSwitch)
}

func TestBudget(t *testing.T) {
	g, dir := openGuard(t, "budget: {attempts: 3, window: 1m}\nnets: {allow: [10.0.0.0/8]}")
	now := time.Now()
	check := func(addr string, want Reason) {
		t.Helper()
		if got, ok := g.Check(netip.MustParseAddr(addr), 443, now); got != want || ok != (want == "") {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
	// All forms of an address are one destination, and so are all ports.
	check("8.8.8.8", "")
	check("::ffff:8.8.8.8", "")
	if _, ok := g.Check(google, 80, now); !ok {
		t.Error("the third")
	}
	check("8.8.8.8", Budget)
	check("64:ff9b::808:808", Budget)
	check("2002:808:808::1", Budget)
	check("8.8.8.9", "")
	check("10.0.0.1", "")
	now = now.Add(time.Minute)
	check("8.8.8.8", Budget)
	now = now.Add(time.Millisecond)
	check("8.8.8.8", "")
	// Steady attempts never let the count begin anew.
	for range 2 {
		now = now.Add(50 * time.Second)
		check("8.8.8.8", "")
	}
	now = now.Add(50 * time.Second)
	check("8.8.8.8", Budget)
	now = now.Add(11 * time.Second)
	check("8.8.8.8", "") // refused ones do not count

	for range 3 {
		for range 5 { // to look ahead costs nothing
			if got, ok := g.Foresee(netip.MustParseAddr("8.8.4.4"), 443, now); !ok {
				t.Errorf("foresees %q", got)
			}
		}
		check("8.8.4.4", "")
	}
	check("8.8.4.4", Budget)
	if got, ok := g.Foresee(netip.MustParseAddr("64:ff9b::808:404"), 80, now); got != Budget || ok {
		t.Errorf("foresees %q", got)
	}
	if got, _ := g.Foresee(netip.MustParseAddr("127.0.0.1"), 80, now); got != SpecialPurpose {
		t.Errorf("foresees %q", got)
	}
	// A reload does not forget; a refusal for another reason costs nothing.
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	check("8.8.4.4", Budget)
	for range 10 {
		if got, _ := g.Check(netip.MustParseAddr("1.1.1.1"), 22, now); got != Port {
			t.Error(got)
		}
	}
	check("1.1.1.1", "")
	write(t, filepath.Join(dir, "policy.yaml"), "budget: {attempts: 4, window: 1m}")
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	check("8.8.4.4", "")
	check("8.8.4.4", Budget)
	now = now.Add(-time.Hour) // back before the beginning
	check("8.8.4.4", Budget)
}

// TestBudgetIsStrict: in any window there are never more attempts than the
// number, however they come.
func TestBudgetIsStrict(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := time.Now()
		b := newBudget(base, 64)
		a := Attempts{rapid.IntRange(1, 5).Draw(t, "number"), time.Duration(rapid.IntRange(1, 100).Draw(t, "window")) * time.Millisecond}
		now := base
		var made []time.Time
		for range rapid.IntRange(1, 200).Draw(t, "attempts") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40_000).Draw(t, "after")) * time.Microsecond)
			if !b.take(google, a, now) {
				continue
			}
			made = append(made, now)
			if n := len(made) - a.Number - 1; n >= 0 && now.Sub(made[n]) < a.Window {
				t.Fatalf("%d attempts within %v", a.Number+1, now.Sub(made[n]))
			}
		}
		if len(made) == 0 {
			t.Fatal("no attempt at all")
		}
	})
}

// TestBudgetExact compares the table with a map, over many addresses and
// windows, so that it grows, fills with what has run out, and is rebuilt.
func TestBudgetExact(t *testing.T) {
	base := time.Now()
	b := newBudget(base, 1<<17)
	a := Attempts{2, time.Second}
	type state struct {
		last  time.Time
		count int
	}
	want := map[netip.Addr]state{}
	now := base
	x := uint32(1)
	for i := range 400_000 {
		x = x*1664525 + 1013904223
		addr := netip.AddrFrom4([4]byte{8, byte(x >> 28), byte(x >> 16), byte(x >> 8)})
		if i%100 == 0 {
			now = now.Add(3 * time.Millisecond)
		}
		s := want[addr]
		if now.Sub(s.last) > a.Window {
			s.count = 0
		}
		may := s.count < a.Number
		if got := b.take(addr, a, now); got != may {
			t.Fatalf("attempt %d on %v: %v", i, addr, got)
		}
		if may {
			want[addr] = state{now, s.count + 1}
		}
	}
	size := 0
	for i := range b.shards {
		size += len(b.shards[i].entries)
	}
	if size > 4*34_000*2 { // 33,000 attempts in a window
		t.Errorf("%d entries for about 33000 addresses in a window", size)
	}
}

// A table that is full refuses: who cannot be counted cannot be measured. And
// it does not search itself for every attempt.
func TestBudgetIsBounded(t *testing.T) {
	base := time.Now()
	const tracked = 1 << 16
	b := newBudget(base, tracked)
	a := Attempts{10, time.Hour}
	refused := 0
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{8, byte(i >> 16), byte(i >> 8), byte(i)}) }
	n := 2 * tracked
	begun := time.Now()
	for i := range n {
		if !b.take(addr(i), a, base) {
			refused++
		}
		if i == tracked && refused > 0 {
			t.Errorf("%d of %d refused, they should have a place", refused, i)
		}
	}
	t.Logf("%v for an attempt", time.Since(begun)/time.Duration(n))
	size := 0
	for i := range b.shards {
		size += len(b.shards[i].entries)
	}
	if size != 2*tracked || refused < n-size || refused > n-size/2 {
		t.Errorf("%d entries, %d of %d refused", size, refused, n)
	}
	if !b.take(addr(0), a, base) {
		t.Error("one that is in the table is still counted")
	}
	if !b.take(addr(n-1), a, base.Add(2*time.Hour)) {
		t.Error("when the window is over there is room")
	}
}

func readContacts(t *testing.T, path string) (cs []Contact, bad int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		var c Contact
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			bad++
			continue
		}
		cs = append(cs, c)
	}
	return cs, bad
}

func TestContacts(t *testing.T) {
	for _, how := range []string{"always", "never", "10ms"} {
		g, dir := openGuard(t, "contact_log: {path: contacts.jsonl, sync: "+how+"}")
		file := filepath.Join(dir, "contacts.jsonl")
		contact := func(i int) Contact {
			return Contact{Time: time.Now(), Addr: google, Port: uint16(i), Host: "a\"<b>\n.example", Survey: "s"}
		}
		const n, each = 8, 50
		var wg sync.WaitGroup
		for w := range n {
			wg.Go(func() {
				for i := range each {
					if err := g.Contacted(contact(w*each*2+2*i), contact(w*each*2+2*i+1)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		// There at once, for whoever kills the probe now.
		cs, bad := readContacts(t, file)
		seen := map[uint16]bool{}
		for _, c := range cs {
			seen[c.Port] = true
		}
		if len(cs) != 2*n*each || len(seen) != len(cs) || bad != 0 || cs[0].Host != contact(0).Host || cs[0].Addr != google {
			t.Errorf("%s: %d lines, %d bad, %+v", how, len(cs), bad, cs[0])
		}

		// Rotated: what was moved away keeps what it has.
		if err := os.Rename(file, file+".1"); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "policy.yaml"), "rate: none")
		if err := g.Reload(); err == nil || !strings.Contains(err.Error(), `"none" is not a number`) {
			t.Error(err)
		}
		if err := g.Contacted(contact(1)); err != nil {
			t.Error(err)
		}
		cs, _ = readContacts(t, file)
		old, _ := readContacts(t, file+".1")
		if len(cs) != 1 || len(old) != 2*n*each {
			t.Errorf("%d lines in the new log, %d in the old", len(cs), len(old))
		}
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Error(info.Mode(), err)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if err := g.Contacted(contact(1)); !errors.Is(err, os.ErrClosed) {
			t.Error("after Close:", err)
		}
		if err := g.Reload(); err == nil {
			t.Error("reload after Close")
		}
	}
}

// A log that cannot be written is a reason to refuse, and half a line is not
// continued by the next.
func TestContactsFail(t *testing.T) {
	g, dir := openGuard(t, "contact_log: {path: contacts.jsonl, sync: never}")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	good := g.journal.file
	g.journal.file = full
	c := Contact{Addr: google, Port: 1}
	if err := g.Contacted(c); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Error(err)
	}
	g.journal.file = good
	full.Close()
	if _, err := good.WriteString(`{"time":"20`); err != nil {
		t.Fatal(err)
	}
	g.journal.torn = true
	for range 2 {
		if err := g.Contacted(c); err != nil {
			t.Error(err)
		}
	}
	if cs, bad := readContacts(t, filepath.Join(dir, "contacts.jsonl")); len(cs) != 2 || bad != 1 {
		t.Errorf("%d good lines, %d bad", len(cs), bad)
	}
	if _, err := Open(filepath.Join(dir, "none.yaml"), hclog.NewNullLogger()); err == nil {
		t.Error("a policy that is not there")
	}
	write(t, filepath.Join(dir, "policy.yaml"), "contact_log: {path: none/contacts.jsonl}\nrate: 1")
	if err := g.Reload(); err == nil || !strings.Contains(err.Error(), "contact log: open") || g.Policy().Settings().Rate != 100 {
		t.Errorf("%v, rate %v", err, g.Policy().Settings().Rate)
	}
	if err := g.Contacted(c); err != nil {
		t.Error("the old log goes on:", err)
	}
	// Without a log there is nothing to fail.
	d, err := Open("", hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Contacted(c), d.Reload(), d.Close(), d.Close()); err != nil {
		t.Error(err)
	}
}

// Checks go on while the policy changes, and each sees one policy or the other.
func TestReloadUnderChecks(t *testing.T) {
	g, dir := openGuard(t, "rate: 1\nports: {allow: [80]}\nbudget: {attempts: 10000}")
	digest := g.Digest()
	path := filepath.Join(dir, "policy.yaml")
	var stop atomic.Bool
	var checks atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				p := g.Policy()
				port := p.Settings().Ports[0].First
				if _, ok := p.Permits(google, port); !ok || p.Settings().Rate != float64(port/80) {
					t.Errorf("half of a policy: %+v", p.Settings())
					return
				}
				g.Check(netip.AddrFrom4([4]byte{8, 8, byte(i >> 8), byte(i)}), 80, time.Now())
				checks.Add(1)
			}
		})
	}
	for i := range 50 {
		text := [2]string{"rate: 1\nports: {allow: [80]}", "rate: 2\nports: {allow: [160]}"}[i%2]
		write(t, path, text)
		if err := g.Reload(); err != nil {
			t.Error(err)
		}
		write(t, path, "ports: {allow: [1-65535]}\nrate: 1000000\nno: no")
		if err := g.Reload(); err == nil {
			t.Error("a bad policy was taken")
		}
		g.SetLimits(Limits{Concurrency: i + 1})
		if c := g.Policy().ConcurrencyFor(0); c != i+1 {
			t.Errorf("concurrency %d", c)
		}
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d checks", checks.Load())
	if g.Digest() == digest {
		t.Error("the digest is the old one")
	}
	// What the controller demands survives a reload, and goes when it is taken back.
	write(t, path, "concurrency: 7")
	g.SetLimits(Limits{Concurrency: 3})
	if err := g.Reload(); err != nil || g.Policy().ConcurrencyFor(0) != 3 {
		t.Error(err, g.Policy().ConcurrencyFor(0))
	}
	g.SetLimits(Limits{Concurrency: 100})
	if c := g.Policy().ConcurrencyFor(0); c != 7 {
		t.Errorf("the file says 7, in force is %d", c)
	}
}

// An operator who allows more than the default hears of it.
func TestLooserIsLogged(t *testing.T) {
	var out bytes.Buffer
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, "nets: {allow: [127.0.0.0/8]}")
	g, err := Open(path, hclog.New(&hclog.LoggerOptions{Output: &out}))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if !strings.Contains(out.String(), "policy: looser than the default policy: what=") || !strings.Contains(out.String(), "127.0.0.0/8") {
		t.Error(out.String())
	}
}

// A check is made for every SYN.
func TestCheckAllocatesNothing(t *testing.T) {
	g, _ := openGuard(t, "kill_switch: stop\nbudget: {attempts: 10000}\nnets: {deny: [9.0.0.0/8], only: [8.0.0.0/8]}")
	a, now := netip.MustParseAddr("::ffff:8.8.8.8"), time.Now()
	if n := testing.AllocsPerRun(1000, func() {
		g.CheckName("www.example.org", now)
		if why, ok := g.Check(a, 443, now); !ok {
			t.Fatal(why)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A reload that failed is told until one succeeds.
func TestTrouble(t *testing.T) {
	g, dir := openGuard(t, "rate: 1")
	write(t, filepath.Join(dir, "policy.yaml"), "rates: 1")
	if g.Trouble() != nil {
		t.Error("before any reload:", g.Trouble())
	}
	if err := g.Reload(); err == nil || g.Trouble() == nil || g.Trouble().Error() != err.Error() {
		t.Errorf("%v, trouble %v", err, g.Trouble())
	}
	write(t, filepath.Join(dir, "policy.yaml"), "rate: 2")
	if err := g.Reload(); err != nil || g.Trouble() != nil {
		t.Errorf("%v, trouble %v", err, g.Trouble())
	}
}

func BenchmarkCheck(b *testing.B) {
	var list strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&list, "%d.%d.%d.0/25\n", 20+i%50, i/50%256, i/12800)
	}
	list.WriteString("example.org\n")
	dir := b.TempDir()
	for name, text := range map[string]string{"policy.yaml": "do_not_probe: list\nkill_switch: stop\nbudget: {attempts: 10000}\nports: {allow: [1-65535]}", "list": list.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	g, err := Open(filepath.Join(dir, "policy.yaml"), hclog.NewNullLogger())
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	b.Run("new addresses", func(b *testing.B) {
		x := uint32(1)
		for b.Loop() {
			x = x*1664525 + 1013904223
			g.Check(netip.AddrFrom4([4]byte{8, byte(x >> 24), byte(x >> 16), byte(x >> 8)}), 443, time.Now())
		}
	})
	b.Run("IPv6", func(b *testing.B) {
		a := netip.MustParseAddr("2606:4700::1").As16()
		x := uint32(1)
		for b.Loop() {
			x = x*1664525 + 1013904223
			a[12], a[13], a[14] = byte(x>>24), byte(x>>16), byte(x>>8)
			g.Check(netip.AddrFrom16(a), 443, time.Now())
		}
	})
}
