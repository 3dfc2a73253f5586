package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tfofleet/internal/targets"
)

// Attempts bounds what one address has to bear.
type Attempts struct {
	// Number of attempts, and so of SYNs, that an address gets at most in any
	// Window, over all ports and all surveys. 0 in [Limits] is no limit.
	Number int
	Window time.Duration
}

// Listen says what the probe may offer to others.
type Listen struct {
	Enabled     bool
	Ports       []PortRange
	MaxDuration time.Duration
	Sources     []netip.Prefix // who is answered
}

// SyncPolicy is how often the log of contacts is synced to the disk.
type SyncPolicy time.Duration

const (
	SyncAlways SyncPolicy = 0  // before the contact is made
	SyncNever  SyncPolicy = -1 // when the kernel likes
)

// Settings are what a policy.yaml says.
type Settings struct {
	AllowNets []netip.Prefix // special-purpose ranges that are opened
	OnlyNets  []netip.Prefix // nil: any
	DenyNets  []netip.Prefix
	Ports     []PortRange // allowed and not denied
	// Rate is connections per second, over all surveys.
	Rate        float64
	Concurrency int // targets measured at the same time, over all surveys
	Budget      Attempts

	DoNotProbe   string // path of the list; empty: none
	KillSwitch   string // path of the file; empty: none
	ContactLog   string // path of the log; empty: none
	ContactsSync SyncPolicy
	Listen       Listen
}

// Defaults are what holds for everything that a policy.yaml does not mention.
func Defaults() Settings {
	return Settings{
		Ports:        []PortRange{{53, 53}, {80, 80}, {443, 443}, {853, 853}, {8080, 8080}, {8443, 8443}},
		Rate:         100,
		Concurrency:  500,
		Budget:       Attempts{60, 10 * time.Minute},
		ContactsSync: SyncPolicy(time.Second),
		Listen:       Listen{MaxDuration: 10 * time.Minute},
	}
}

// Policy is a policy ready to be asked. It does not change and may be shared.
type Policy struct {
	settings Settings
	nets     targets.Policy
	only     []*targets.Prefixes // an address has to be in all of them
	ports    *portSet
	list     doNotProbe
}

// Default is the policy of an empty file.
func Default() *Policy { return compile(Defaults(), doNotProbe{}) }

func compile(s Settings, list doNotProbe) *Policy {
	p := &Policy{
		settings: s, list: list, ports: newPortSet(s.Ports...),
		nets: targets.Policy{Allow: targets.NewPrefixes(s.AllowNets...), Block: targets.NewPrefixes(s.DenyNets...)},
	}
	if s.OnlyNets != nil {
		p.only = append(p.only, targets.NewPrefixes(s.OnlyNets...))
	}
	return p
}

// Settings are the settings in force. The lists must not be changed. OnlyNets
// is what the file says; those of a controller hold besides it.
func (p *Policy) Settings() Settings { return p.settings }

// Permits reports whether an address and port may be measured at all, else why
// not. An address that a translator or tunnel turns into an IPv4 address is
// checked in both forms, as by [targets.Policy].
func (p *Policy) Permits(addr netip.Addr, port uint16) (Reason, bool) {
	if !addr.IsValid() {
		return NotAnAddress, false
	}
	if !p.ports.has(port) {
		return Port, false
	}
	if reason, ok := p.nets.Check(addr); !ok {
		return Reason(reason), false
	}
	addr = addr.WithZone("").Unmap()
	inner := targets.Embedded(addr)
	for _, only := range p.only {
		if !only.Contains(addr) || inner.IsValid() && !only.Contains(inner) {
			return NotAllowed, false
		}
	}
	if p.list.nets.Contains(addr) || p.list.nets.Contains(inner) {
		return DoNotProbe, false
	}
	return "", true
}

// PermitsName reports whether a name may be looked up and measured: neither it
// nor a domain above it may be on the do-not-probe list.
func (p *Policy) PermitsName(host string) (Reason, bool) {
	if p.list.hasName(host) {
		return DoNotProbe, false
	}
	return "", true
}

// PermitsListen reports whether the probe may listen on a port for so long.
func (p *Policy) PermitsListen(port uint16, d time.Duration) (Reason, bool) {
	switch l := &p.settings.Listen; {
	case !l.Enabled:
		return ListenOff, false
	case !slices.ContainsFunc(l.Ports, func(r PortRange) bool { return r.First <= port && port <= r.Last }):
		return ListenPort, false
	case d <= 0 || d > l.MaxDuration:
		return ListenDuration, false
	}
	return "", true
}

// RateFor is the rate at which a survey may run that asks for one, in
// connections per second. 0 asks for as much as there is.
func (p *Policy) RateFor(asked float64) float64 {
	if asked > 0 && asked < p.settings.Rate {
		return asked
	}
	return p.settings.Rate
}

// ConcurrencyFor is the same for targets measured at the same time.
func (p *Policy) ConcurrencyFor(asked int) int {
	if asked > 0 && asked < p.settings.Concurrency {
		return asked
	}
	return p.settings.Concurrency
}

// Limits are what a controller demands. Zero values demand nothing.
type Limits struct {
	DenyNets    []netip.Prefix
	OnlyNets    []netip.Prefix // nil: any; empty: none
	DenyPorts   []PortRange
	OnlyPorts   []PortRange // nil: any; empty: none
	Rate        float64
	Concurrency int
	Budget      Attempts
	NoListen    bool
}

// Tighten returns a policy that permits what p and the limits both permit. Of
// two budgets it takes the smaller number and the longer window, which may be
// less than either allows.
func (p *Policy) Tighten(l Limits) *Policy {
	t := *p
	s := &t.settings
	if len(l.DenyNets) > 0 {
		s.DenyNets = slices.Concat(s.DenyNets, l.DenyNets)
		t.nets.Block = targets.NewPrefixes(s.DenyNets...)
	}
	if l.OnlyNets != nil {
		t.only = append(slices.Clip(t.only), targets.NewPrefixes(l.OnlyNets...))
	}
	if len(l.DenyPorts) > 0 {
		t.ports = t.ports.without(newPortSet(l.DenyPorts...))
	}
	if l.OnlyPorts != nil {
		t.ports = t.ports.and(newPortSet(l.OnlyPorts...))
	}
	s.Ports = t.ports.ranges()
	// What is not a number is no demand, and no comparison with it is true.
	if l.Rate > 0 && l.Rate < s.Rate {
		s.Rate = l.Rate
	}
	if l.Concurrency > 0 {
		s.Concurrency = min(s.Concurrency, l.Concurrency)
	}
	if l.Budget.Number > 0 {
		s.Budget.Number = min(s.Budget.Number, l.Budget.Number)
		s.Budget.Window = max(s.Budget.Window, l.Budget.Window)
	}
	if l.NoListen {
		s.Listen.Enabled = false
	}
	return &t
}

// Looser says, one line for each, in what the policy allows more than the
// default one. An operator should see it at every start.
func (p *Policy) Looser() (lines []string) {
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	s, d := p.settings, Defaults()
	if len(s.AllowNets) > 0 {
		say("special-purpose addresses are measured: %s", join(s.AllowNets))
	}
	if more := p.ports.without(newPortSet(d.Ports...)).ranges(); len(more) > 0 {
		say("more ports are measured: %s", join(more))
	}
	if s.Rate > d.Rate {
		say("%v connections per second, the default is %v", s.Rate, d.Rate)
	}
	if s.Concurrency > d.Concurrency {
		say("%d targets at the same time, the default is %d", s.Concurrency, d.Concurrency)
	}
	if s.Budget.Number > d.Budget.Number || s.Budget.Window < d.Budget.Window {
		say("%d attempts per address in %v, the default is %d in %v", s.Budget.Number, s.Budget.Window, d.Budget.Number, d.Budget.Window)
	}
	if s.Listen.Enabled {
		say("the probe listens, on ports %s, for at most %v", join(s.Listen.Ports), s.Listen.MaxDuration)
	}
	return lines
}

// Digest tells two policies apart, in 64 hexadecimal digits: what is permitted,
// with the contents of the do-not-probe list, not how the file is written.
func (p *Policy) Digest() string {
	s := p.settings
	h := sha256.New()
	nets := func(name string, list []netip.Prefix) {
		texts := make([]string, len(list))
		for i, n := range list {
			texts[i] = n.String()
		}
		slices.Sort(texts)
		fmt.Fprintf(h, "%s %t %s\n", name, list == nil, strings.Join(slices.Compact(texts), " "))
	}
	nets("allow", s.AllowNets)
	nets("only", s.OnlyNets)
	nets("deny", s.DenyNets)
	fmt.Fprintf(h, "ports %v\nrate %x\nconcurrency %d\nbudget %d %d\n", p.ports, math.Float64bits(s.Rate), s.Concurrency, s.Budget.Number, s.Budget.Window)
	fmt.Fprintf(h, "kill switch %t\ncontact log %t %d\n", s.KillSwitch != "", s.ContactLog != "", s.ContactsSync)
	fmt.Fprintf(h, "listen %t %v %d\n", s.Listen.Enabled, newPortSet(s.Listen.Ports...), s.Listen.MaxDuration)
	nets("sources", s.Listen.Sources)
	fmt.Fprintf(h, "do not probe %x\n", p.list.digest)
	return hex.EncodeToString(h.Sum(nil))
}
