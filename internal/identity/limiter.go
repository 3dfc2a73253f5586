package identity

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxBuckets bounds the memory that callers can take up, about 10 MB. Whoever
// does not fit shares one bucket per method.
const maxBuckets = 1 << 16

// limiter counts the calls of every caller to every method.
type limiter struct {
	mu      sync.Mutex
	buckets map[bucketKey]*rate.Limiter
	swept   time.Time
}

type bucketKey struct{ method, caller string }

func newLimiter() *limiter { return &limiter{buckets: make(map[bucketKey]*rate.Limiter)} }

// allow takes one call, or says when the next one may be made.
func (l *limiter) allow(method, caller string, limit Limit, now time.Time) (ok bool, retry time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucket(bucketKey{method, caller}, limit, now)
	r := b.ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return false, wait
	}
	return true, 0
}

func (l *limiter) bucket(key bucketKey, limit Limit, now time.Time) *rate.Limiter {
	if b, ok := l.buckets[key]; ok {
		return b
	}
	if len(l.buckets) >= maxBuckets {
		l.sweep(now)
		if len(l.buckets) >= maxBuckets {
			key.caller = "" // the shared one; there are as many as methods
			if b, ok := l.buckets[key]; ok {
				return b
			}
		}
	}
	b := rate.NewLimiter(rate.Limit(limit.PerSecond), limit.Burst)
	l.buckets[key] = b
	return b
}

// sweep forgets the callers whose bucket is full again: a new one is the same.
// It is done at most once a second, however many strangers call.
func (l *limiter) sweep(now time.Time) {
	if now.Sub(l.swept) < time.Second {
		return
	}
	l.swept = now
	for key, b := range l.buckets {
		if b.TokensAt(now) >= float64(b.Burst()) {
			delete(l.buckets, key)
		}
	}
}
