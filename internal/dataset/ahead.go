package dataset

import (
	"io"
	"iter"

	"tfofleet/internal/dataset/place"
)

// openAhead is how many chunks of an object store are opened while one is read.
// Each may hold some megabytes.
const openAhead = 4

// opened opens one chunk after the other, and closes it when the next one is
// asked for. Chunks of an object store it opens ahead.
func opened[T io.Closer](p place.Place, keys []ChunkKey, open func(place.Place, ChunkKey) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		type result struct {
			t   T
			err error
		}
		ahead := min(openAhead, p.Ahead())
		var waiting []chan result // those opened ahead, in order
		defer func() {
			for _, c := range waiting {
				if r := <-c; r.err == nil {
					r.t.Close()
				}
			}
		}()
		for next := 0; ; {
			for next < len(keys) && len(waiting) <= ahead {
				c, k := make(chan result, 1), keys[next]
				get := func() {
					t, err := open(p, k)
					c <- result{t, err}
				}
				if ahead > 0 {
					go get()
				} else {
					get()
				}
				waiting = append(waiting, c)
				next++
			}
			if len(waiting) == 0 {
				return
			}
			r := <-waiting[0]
			waiting = waiting[1:]
			more := yield(r.t, r.err)
			if r.err == nil {
				r.t.Close()
			}
			if !more || r.err != nil {
				return
			}
		}
	}
}
