package dataset

import (
	"context"

	"tfofleet/internal/dataset/place"
)

// loading is a file of a run. From an object store it is fetched ahead of its
// visitor; from a disk the visitor reads it.
type loading struct {
	key   ChunkKey
	ready chan struct{} // closed when it was fetched; nil when it is not
	bytes []byte
	err   error
	room  chan struct{} // has an element for every file that is fetched and not yet done
}

// load gives runs to whoever takes one. What is fetched ahead is bounded, and
// fetched in the order in which it will be wanted, so that the visitor of the
// earliest run never waits for one of a later run.
func load(ctx context.Context, p place.Place, runs [][]ChunkKey) <-chan []*loading {
	ahead := p.Ahead()
	room := make(chan struct{}, max(1, ahead))
	var all [][]*loading
	for _, run := range runs {
		var ls []*loading
		for _, k := range run {
			l := &loading{key: k}
			if ahead > 0 {
				l.ready, l.room = make(chan struct{}), room
			}
			ls = append(ls, l)
		}
		all = append(all, ls)
	}
	if ahead > 0 {
		go fetch(ctx, p, all, room)
	}
	out := make(chan []*loading)
	go func() {
		defer close(out)
		for _, run := range all {
			select {
			case out <- run:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func fetch(ctx context.Context, p place.Place, runs [][]*loading, room chan struct{}) {
	for _, run := range runs {
		for _, l := range run {
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				return
			}
			go func() {
				l.bytes, l.err = p.Load(l.key.measurements(), nil)
				close(l.ready)
			}()
		}
	}
}

// content is all of the file, in buf when it is read now.
func (l *loading) content(ctx context.Context, p place.Place, buf []byte) ([]byte, error) {
	if l.ready == nil {
		return p.Load(l.key.measurements(), buf)
	}
	select {
	case <-l.ready:
		return l.bytes, l.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// done makes room for another file.
func (l *loading) done() {
	if l.ready != nil {
		l.bytes = nil
		<-l.room
	}
}
