package fleettest

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"

	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/store/pgtest"
)

// Main is for TestMain: it runs the tests with the privileges of a lab, and
// leaves nothing behind.
//
//	func TestMain(m *testing.M) { os.Exit(fleettest.Main(m)) }
func Main(m *testing.M) int {
	// Most of the time a fleet waits for something: for more of them than there are
	// processors there is room.
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", strconv.Itoa(max(3, runtime.GOMAXPROCS(0)))) // it is one of package testing
	}
	return labtest.Main(inside{m})
}

// inside runs the tests where there are privileges.
type inside struct{ m *testing.M }

func (i inside) Run() int {
	defer func() { os.RemoveAll(built) }() // "" when nothing was
	return pgtest.Main(i.m)
}
