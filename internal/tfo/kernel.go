package tfo

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// kernelRelease is the running kernel's version, for the few facts that cannot
// be tried out. A distribution may have brought a change to an older kernel:
// whatever can be measured is not decided here.
var kernelRelease = func() kernelVersion {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return kernelVersion{}
	}
	return parseRelease(unix.ByteSliceToString(u.Release[:]))
}()

// kernelVersion is the start of a release such as "6.18.44"; zero when it is
// not known.
type kernelVersion struct{ major, minor int }

func parseRelease(s string) (v kernelVersion) {
	if n, _ := fmt.Sscanf(s, "%d.%d", &v.major, &v.minor); n != 2 {
		return kernelVersion{}
	}
	return v
}

func (v kernelVersion) atLeast(major, minor int) bool {
	return v.major > major || v.major == major && v.minor >= minor
}

var (
	// kernelTellsFail: tcpi_fastopen_client_fail (480274787d7e).
	kernelTellsFail = kernelRelease.atLeast(5, 5)
	// kernelTellsChild: TCPI_OPT_TFO_CHILD (2b13042d3636).
	kernelTellsChild = kernelRelease.atLeast(6, 16)
	// kernelCookiesAreSipHash: c681edae33e8.
	kernelCookiesAreSipHash = kernelRelease.atLeast(5, 3)
)
