package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Guard is the policy in force. All methods may be called from any goroutine.
type Guard struct {
	path   string
	log    hclog.Logger
	budget *budget
	active atomic.Pointer[active]

	mu       sync.Mutex // of whoever changes active
	local    *Policy    // as the file says
	limits   Limits     // of the controller
	closed   bool
	trouble  error        // of the last reload
	contacts sync.RWMutex // of journal
	journal  *contactLog  // nil: none
}

// active is what a check looks at.
type active struct {
	policy *Policy
	kill   *killSwitch
}

// Open loads a policy.yaml and puts it in force. Without a path it is the
// default policy.
func Open(path string, logger hclog.Logger) (*Guard, error) {
	g := &Guard{path: path, log: logger.Named("policy"), budget: newBudget(time.Now(), maxTracked)}
	p := Default()
	if path != "" {
		var err error
		if p, err = Load(path); err != nil {
			return nil, err
		}
	}
	if err := g.install(p); err != nil {
		return nil, err
	}
	return g, nil
}

// install puts a policy in force, and opens its log of contacts (again).
func (g *Guard) install(p *Policy) error {
	journal, err := openContacts(p.settings)
	if err != nil {
		return fmt.Errorf("contact log: %w", err)
	}
	g.contacts.Lock()
	old := g.journal
	g.journal = journal
	g.contacts.Unlock()
	if err := old.close(); err != nil {
		g.log.Error("the old contact log could not be closed", "reason", err)
	}
	g.local = p
	g.enforce()
	for _, line := range p.Looser() {
		g.log.Warn("looser than the default policy", "what", line)
	}
	return nil
}

func (g *Guard) enforce() {
	p := g.local.Tighten(g.limits)
	g.active.Store(&active{p, newKillSwitch(p.settings.KillSwitch, time.Now())})
}

// Reload reads the file again, on SIGHUP, and opens the log of contacts again.
// If the file is no policy, the one in force stays, and the error says why; the
// log is opened again nevertheless. Budgets go on.
func (g *Guard) Reload() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return errors.New("the policy is closed")
	}
	g.trouble = g.reload()
	return g.trouble
}

func (g *Guard) reload() error {
	if g.path == "" {
		return g.install(g.local)
	}
	p, err := Load(g.path)
	if err != nil {
		return errors.Join(err, g.install(g.local))
	}
	return g.install(p)
}

// Trouble is why the last Reload failed; nil when it did not. Until the next one
// the policy in force is not what its operator meant it to be.
func (g *Guard) Trouble() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.trouble
}

// SetLimits puts what the controller demands in the place of what it demanded
// before. It can never loosen the file.
func (g *Guard) SetLimits(l Limits) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limits = l
	g.enforce()
}

// Policy is the policy in force.
func (g *Guard) Policy() *Policy { return g.active.Load().policy }

// Digest is that of the file, whatever the controller demands.
func (g *Guard) Digest() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.local.Digest()
}

// Stopped reports whether the kill-switch file is there.
func (g *Guard) Stopped(now time.Time) bool { return g.active.Load().kill.engaged(now) }

// Check is asked on the resolved address, right before every SYN, and charges
// one attempt to the address. A refusal charges nothing. It allocates nothing.
func (g *Guard) Check(addr netip.Addr, port uint16, now time.Time) (Reason, bool) {
	return g.check(addr, port, now, (*budget).take)
}

// Foresee is what Check would say now; it charges nothing. It is asked before a
// target is begun.
func (g *Guard) Foresee(addr netip.Addr, port uint16, now time.Time) (Reason, bool) {
	return g.check(addr, port, now, (*budget).has)
}

func (g *Guard) check(addr netip.Addr, port uint16, now time.Time, afford func(*budget, netip.Addr, Attempts, time.Time) bool) (Reason, bool) {
	a := g.active.Load()
	if a.kill.engaged(now) {
		return KillSwitch, false
	}
	if reason, ok := a.policy.Permits(addr, port); !ok {
		return reason, false
	}
	if !afford(g.budget, addr, a.policy.settings.Budget, now) {
		return Budget, false
	}
	return "", true
}

// CheckName is asked before a name is resolved.
func (g *Guard) CheckName(host string, now time.Time) (Reason, bool) {
	a := g.active.Load()
	if a.kill.engaged(now) {
		return KillSwitch, false
	}
	return a.policy.PermitsName(host)
}

// CheckListen is asked before a port is opened for a time, and while it is open.
// It tells which sources may be answered.
func (g *Guard) CheckListen(port uint16, d time.Duration, now time.Time) (answer []netip.Prefix, why Reason, ok bool) {
	a := g.active.Load()
	if a.kill.engaged(now) {
		return nil, KillSwitch, false
	}
	why, ok = a.policy.PermitsListen(port, d)
	return a.policy.settings.Listen.Sources, why, ok
}

// Contacted writes contacts to the log, before their first SYN. If it fails,
// they are to be refused with [ContactLog]. One call is one write: give it all
// that start together.
func (g *Guard) Contacted(cs ...Contact) error {
	g.contacts.RLock()
	defer g.contacts.RUnlock()
	return g.journal.add(cs)
}

// Close closes the log of contacts; nothing can be logged any more.
func (g *Guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	return g.journal.close()
}
