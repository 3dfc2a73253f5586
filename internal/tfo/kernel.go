package tfo

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// kernelRelease is the running kernel's version, for the few facts that cannot
// be tried out. A distribution may have brought a change to an older kernel:
// whatever can be measured is not decided here.
var kernelRelease = func() (r release) {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &r.major, &r.minor)
	}
	return r
}()

type release struct{ major, minor int }

func (r release) atLeast(major, minor int) bool {
	return r.major > major || r.major == major && r.minor >= minor
}

func (r release) String() string { return fmt.Sprintf("%d.%d", r.major, r.minor) }

var (
	// kernelTellsChild: TCPI_OPT_TFO_CHILD (2b13042d3636).
	kernelTellsChild = kernelRelease.atLeast(6, 16)
	// kernelCookiesAreSipHash: c681edae33e8.
	kernelCookiesAreSipHash = kernelRelease.atLeast(5, 3)
)
