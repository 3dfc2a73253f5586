package lab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// Sweep removes what labs of dead processes left: their namespaces and lock
// files. A lab whose owner lives, in whatever process, is not touched. It
// returns the names of the labs removed.
func Sweep() (removed []string, err error) {
	left := map[string][]string{} // lab -> paths of its namespaces, if any
	for _, e := range entries(netnsDir) {
		if lab, ok := labOf(e); ok {
			left[lab] = append(left[lab], filepath.Join(netnsDir, e))
		}
	}
	for _, e := range entries(lockDir) {
		if _, ok := left[e]; !ok && strings.HasPrefix(e, namePrefix) {
			left[e] = nil
		}
	}
	var errs []error
	for lab, namespaces := range left {
		l, err := takeLock(lab)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if l == nil {
			continue // its owner lives
		}
		for _, path := range namespaces {
			errs = append(errs, removeNamespace(path))
		}
		errs = append(errs, l.release())
		removed = append(removed, lab)
	}
	return removed, errors.Join(errs...)
}

// entries names the entries of a directory; none if it cannot be read.
func entries(dir string) []string {
	all, _ := os.ReadDir(dir)
	var names []string
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}
