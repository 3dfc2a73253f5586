package tfo

// StallCapture keeps every shard from emptying the ring until resume is called.
func (e *Engine) StallCapture() (resume func()) {
	e.capture.mu.Lock()
	return e.capture.mu.Unlock
}

// RingFrames is how many packets the ring holds.
const RingFrames = ringFrames
