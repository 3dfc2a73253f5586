package identity

import (
	"context"
	"sync"
)

// live is the streams that are open now, by who opened them.
type live struct {
	mu      sync.Mutex
	streams map[Subject]map[*liveStream]struct{}
}

type liveStream struct {
	holder holder
	end    context.CancelCauseFunc
}

func newLive() *live { return &live{streams: make(map[Subject]map[*liveStream]struct{})} }

// add registers a stream before its caller is checked: a ban in between finds
// it here.
func (l *live) add(h holder, end context.CancelCauseFunc) (remove func()) {
	s := &liveStream{h, end}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.streams[h.subject] == nil {
		l.streams[h.subject] = make(map[*liveStream]struct{})
	}
	l.streams[h.subject][s] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.streams[h.subject], s)
		if len(l.streams[h.subject]) == 0 {
			delete(l.streams, h.subject)
		}
	}
}

// close ends the subject's streams and counts them: all, or those of one
// certificate.
func (l *live) close(s Subject, serial string, why *Denial) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for stream := range l.streams[s] {
		if serial == "" || serial == serialOf(stream.holder.cert) {
			stream.end(why)
			n++
		}
	}
	return n
}

// holders is the callers that have streams, one for every certificate.
func (l *live) holders() map[string]holder {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(map[string]holder)
	for _, streams := range l.streams {
		for s := range streams {
			all[serialOf(s.holder.cert)] = s.holder
		}
	}
	return all
}
