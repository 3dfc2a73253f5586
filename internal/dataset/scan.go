package dataset

import (
	"context"
	"sync"

	"tfofleet/internal/measure"
)

// Scan reads columns of the measurements tables of one or several datasets,
// for programs that count. It holds one [Batch] per visitor in memory.
type Scan struct {
	columns Columns
	dirs    []string
	labels  labels
}

// NewScan prepares to read columns of the datasets in dirs.
func NewScan(columns Columns, dirs ...string) *Scan {
	return &Scan{columns: columns, dirs: dirs}
}

// Label is the condition that id stands for. It may be asked by visitors.
func (s *Scan) Label(id uint32) measure.Condition { return s.labels.name(id) }

// Labels is the conditions found so far, by number.
func (s *Scan) Labels() []measure.Condition { return s.labels.all() }

// Run reads every measurement there is. Each visitor runs in a goroutine of its
// own, takes batches as they come and needs no lock for what it keeps; give as
// many as there are processors. Run ends when all is read, with the first error
// of a visitor or a file, or with that of ctx. A chunk that is written while it
// runs may be missed.
func (s *Scan) Run(ctx context.Context, visit ...func(*Batch) error) error {
	for i, dir := range s.dirs {
		if err := s.run(ctx, i, dir, visit); err != nil {
			return err
		}
	}
	return nil
}

// labels numbers the conditions of a scan.
type labels struct {
	mu    sync.RWMutex
	ids   map[string]uint32
	names []measure.Condition
}

func (l *labels) id(name string) uint32 {
	l.mu.RLock()
	id, ok := l.ids[name]
	l.mu.RUnlock()
	if ok {
		return id
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if id, ok := l.ids[name]; ok {
		return id
	}
	if l.ids == nil {
		l.ids = make(map[string]uint32)
	}
	c := measure.Condition(append([]byte(nil), name...))
	id = uint32(len(l.names))
	l.ids[string(c)] = id
	l.names = append(l.names, c)
	return id
}

func (l *labels) name(id uint32) measure.Condition {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.names[id]
}

func (l *labels) all() []measure.Condition {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.names[:len(l.names):len(l.names)]
}
