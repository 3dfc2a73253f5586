package agent

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// farewell is how long a session may take to say something last.
const farewell = time.Second

// retreat is how a probe goes: first it announces it, so that no more work is
// meant for it, and when its work is over it leaves.
type retreat struct {
	heard atomic.Bool   // there is a session
	begun chan struct{} // closed: Draining is to be said
	said  chan struct{} // closed: it was
	once  sync.Once
	gone  context.Context // over: the session is to be closed
	leave context.CancelFunc
}

func newRetreat() *retreat {
	r := &retreat{begun: make(chan struct{}), said: make(chan struct{})}
	r.gone, r.leave = context.WithCancel(context.Background())
	return r
}

// announce has Draining said, if there is somebody to hear it.
func (r *retreat) announce() {
	close(r.begun)
	if r.heard.Load() {
		await(r.said)
	}
}

// wasSaid notes that Draining was said.
func (r *retreat) wasSaid() { r.once.Do(func() { close(r.said) }) }

// await waits for c to be closed, but not for ever.
func await(c <-chan struct{}) {
	t := time.NewTimer(farewell)
	defer t.Stop()
	select {
	case <-c:
	case <-t.C:
	}
}
