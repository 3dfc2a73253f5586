package agent

import (
	"sync"
	"time"
)

const (
	// jumpFrom is from when on a step of the clock is a jump. What NTP slews is
	// below a millisecond for every look.
	jumpFrom = 500 * time.Millisecond
	// clockNear is how far a clock may be off the controller's: further, and the
	// times of two probes cannot be compared any more.
	clockNear = 10 * time.Second
)

// clock watches the wall clock: by how much it is off the controller's, and
// whether somebody sets it. Durations are measured on the monotonic clock, which
// nobody can set, and that of leases on one that does not stand still while the
// machine sleeps, either.
type clock struct {
	wall func() time.Time
	boot func() time.Duration
	base time.Time // on the monotonic clock

	mu     sync.Mutex
	ahead  time.Duration // wall clock minus monotonic clock, when it was looked at last
	known  bool          // offset is
	offset time.Duration // wall clock minus the controller's
}

func newClock(wall func() time.Time, boot func() time.Duration) *clock {
	c := &clock{wall: wall, boot: boot, base: time.Now()}
	c.ahead = c.now()
	return c
}

// now is the wall clock minus the monotonic clock.
func (c *clock) now() time.Duration {
	return c.wall().Round(0).Sub(c.base.Round(0)) - time.Since(c.base)
}

// look returns by how much the clock was set since the last look: 0 when it was
// not. The monotonic clock stands still while a machine sleeps: that is a jump
// as well.
func (c *clock) look() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	jump := now - c.ahead
	c.ahead = now // a slow drift never adds up to a jump
	if jump.Abs() < jumpFrom {
		return 0
	}
	c.offset += jump
	return jump
}

// heard takes the controller's time, as it was while a question asked at asked
// was answered: halfway, as far as anybody can know.
func (c *clock) heard(server time.Time, asked time.Time) {
	trip := time.Since(asked)
	c.mu.Lock()
	defer c.mu.Unlock()
	jump := c.now() - c.ahead // the next look adds it
	c.offset, c.known = c.wall().Round(0).Add(-trip/2).Sub(server)-jump, true
}

// off is by how much the wall clock is ahead of the controller's.
func (c *clock) off() (offset time.Duration, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset, c.known
}
