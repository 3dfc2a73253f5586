package fleettest

import (
	"os"
	"testing"

	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/store/pgtest"
)

// Main is for TestMain: it runs the tests with the privileges of a lab, and
// leaves nothing behind.
//
//	func TestMain(m *testing.M) { os.Exit(fleettest.Main(m)) }
func Main(m *testing.M) int { return labtest.Main(inside{m}) }

// inside runs the tests where there are privileges.
type inside struct{ m *testing.M }

func (i inside) Run() int {
	defer func() { os.RemoveAll(built) }() // "" when nothing was
	return pgtest.Main(i.m)
}
