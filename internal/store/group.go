package store

import (
	"context"
	"sync"
)

// group lets calls that come at the same time share a transaction, and so one
// wait for the disk and one message to the database and back.
type group[C any] struct {
	// run answers the calls: one by one, or all with an error, when nothing was
	// stored.
	run     func([]C) ([]error, error)
	calls   chan waiting[C]
	closing chan struct{}
	workers sync.WaitGroup
}

type waiting[C any] struct {
	call C
	done chan error
}

func newGroup[C any](workers int, run func([]C) ([]error, error)) *group[C] {
	g := &group[C]{run: run, calls: make(chan waiting[C]), closing: make(chan struct{})}
	for range workers {
		g.workers.Go(g.work)
	}
	return g
}

// do returns when the call was answered. With the error of ctx, it may still be
// under way, and what it points to must be left alone.
func (g *group[C]) do(ctx context.Context, call C) error {
	w := waiting[C]{call, make(chan error, 1)}
	select {
	case g.calls <- w:
	case <-ctx.Done():
		return ctx.Err()
	case <-g.closing:
		return errClosed
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close waits for the calls under way.
func (g *group[C]) close() {
	close(g.closing)
	g.workers.Wait()
}

func (g *group[C]) work() {
	for {
		select {
		case first := <-g.calls:
			g.together(first)
		case <-g.closing:
			return
		}
	}
}

// together takes the calls that wait.
func (g *group[C]) together(first waiting[C]) {
	calls, done := []C{first.call}, []chan error{first.done}
	for len(calls) < maxGroup {
		select {
		case w := <-g.calls:
			calls, done = append(calls, w.call), append(done, w.done)
			continue
		default:
		}
		break
	}
	answers, err := g.run(calls)
	for i := range calls {
		if err != nil {
			done[i] <- err
		} else {
			done[i] <- answers[i]
		}
	}
}
