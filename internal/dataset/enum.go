package dataset

import (
	"fmt"
	"strconv"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// enum maps the numbers of a closed, append-only enum to their names and back.
// A number without a known name is stored as its digits, and digits are read
// for every number, so that a value of a newer probe survives a writer that
// does not know it and is known to the reader that does.
type enum[T ~uint8] struct {
	names  [256]string
	values map[string]T
}

// newEnum takes the names in order of their numbers, from 0.
func newEnum[T ~uint8](names ...string) *enum[T] {
	e := &enum[T]{values: make(map[string]T)}
	for i := range e.names {
		e.names[i] = strconv.Itoa(i)
		e.values[e.names[i]] = T(i)
		if i < len(names) {
			e.names[i] = names[i]
			e.values[names[i]] = T(i)
		}
	}
	return e
}

// enumOf asks String for the names of 0, 1, 2, ... until it has no new one.
func enumOf[T interface {
	~uint8
	String() string
}]() *enum[T] {
	names := []string{T(0).String()}
	seen := map[string]bool{names[0]: true}
	for v := T(1); !seen[v.String()]; v++ {
		seen[v.String()] = true
		names = append(names, v.String())
	}
	return newEnum[T](names...)
}

func (e *enum[T]) name(v T) string { return e.names[v] }

func (e *enum[T]) parse(column, name string) (T, error) {
	v, ok := e.values[name]
	if !ok {
		return 0, fmt.Errorf("%s: unknown name %q; a newer version may have written it", column, name)
	}
	return v, nil
}

var (
	outcomes     = enumOf[measure.Outcome]()
	verdicts     = enumOf[measure.Verdict]()
	kinds        = enumOf[tfo.Kind]()
	ends         = enumOf[tfo.End]()
	tris         = enumOf[tfo.Tri]()
	cookieStates = newEnum[tfo.CookieState]("not_read", "none", "present")
)
