package lease

import "time"

// Freeze decides until when no TTL may lapse: one TTL from the start of the
// controller, and from the moment at which half of the probes were lost. Then
// the fault is likely near the controller, and probes that go on measuring
// would all lose their leases at once.
type Freeze struct {
	TTL   time.Duration
	until time.Time

	connected int
	peak      int // the most that were connected since the last freeze
}

// Start begins with a freeze.
func (f *Freeze) Start(now time.Time) { f.until = now.Add(f.TTL) }

// Connected counts a probe in.
func (f *Freeze) Connected() {
	f.connected++
	f.peak = max(f.peak, f.connected)
}

// Lost counts a probe out. A slow decline freezes now and then as well, which
// only delays.
func (f *Freeze) Lost(now time.Time) {
	f.connected--
	if 2*f.connected <= f.peak {
		f.until = now.Add(f.TTL)
		f.peak = f.connected
	}
}

// Until is the end of the newest freeze.
func (f *Freeze) Until() time.Time { return f.until }
